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

"""Simulated minutes."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Tells simulated minutes.

    Attributes:
        minute: Seconds that one takes.
        start: When the first began, Unix seconds.
    """

    minute: int
    start: float

    def now(self) -> float:
        """Returns the simulated minutes so far."""
        return (time.time() - self.start) / self.minute

    def at(self, minutes: float) -> float:
        """Returns the Unix seconds of a simulated time."""
        return self.start + minutes * self.minute

    async def sleep_until(self, minutes: float) -> None:
        """Waits for a simulated time."""
        await asyncio.sleep(max(0.0, self.at(minutes) - time.time()))
