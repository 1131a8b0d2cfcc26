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
"""Builders that many tests share."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import pytest

from oumi_deploy.episodes.packed import Episodes, episodes_of_frame

Episode = Mapping[str, Any]
"""Columns of one episode: a list has one value a row, anything else stands in every row."""


def frame_of(*episodes: Episode) -> pd.DataFrame:
    """Builds a long table; names default to e0, e1, ... and steps to 0, 1, ..."""
    frames = []
    for number, columns in enumerate(episodes):
        length = max((len(v) for v in columns.values() if isinstance(v, list)), default=1)
        filled = {"episode_id": f"e{number}", "step": list(range(length)), **columns}
        frames.append(pd.DataFrame(filled, index=pd.RangeIndex(length)))
    return pd.concat(frames, ignore_index=True)


def episodes_of(*episodes: Episode) -> Episodes:
    """Builds a validated set of episodes, see `frame_of`."""
    return episodes_of_frame(frame_of(*episodes))


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., pd.DataFrame]:
    return frame_of


@pytest.fixture(scope="session")
def make_episodes() -> Callable[..., Episodes]:
    return episodes_of
