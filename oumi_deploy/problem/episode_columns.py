# Copyright 2026 - The oumi_deploy authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What encoding a data set needs of it."""

from typing import Protocol

import numpy as np


class EpisodeColumns(Protocol):
    """What the encoder needs of a set of episodes, such as `episodes.packed.Episodes`."""

    @property
    def offsets(self) -> np.ndarray:
        """First row of each episode, and the number of rows at the end."""
        ...

    @property
    def baseline_lengths(self) -> np.ndarray:
        """Baseline rows of each episode."""
        ...

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """Numeric columns by name."""
        ...

    @property
    def texts(self) -> dict[str, np.ndarray]:
        """Text columns by name."""
        ...

    @property
    def canary_lengths(self) -> np.ndarray:
        """Decisions of each episode."""
        ...

    @property
    def canary_offsets(self) -> np.ndarray:
        """First decision of each episode, and their number at the end."""
        ...

    def column(self, name: str) -> np.ndarray:
        """A numeric column, NaN where the table has none."""
        ...
