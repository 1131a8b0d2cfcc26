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
"""Counting how rollouts ended once for all who look."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from oumi_deploy.serving.log.endings import Ending
from oumi_deploy.serving.log.writer import DecisionLog

KEPT = 5.0
"""Seconds for which a count is told again where no outcome came in; pages ask as often."""

SHARE = 0.05
"""Share of the time that goes into counting at most: what takes long is kept for longer."""


@dataclass(frozen=True)
class _Counted:
    endings: Sequence[Ending]
    until: float


@dataclass(frozen=True, eq=False)
class _Count:
    newest_outcome: int
    task: asyncio.Task[_Counted]

    def still_tells(self, now: float) -> bool:
        if not self.task.done():
            return True
        is_of_use = not self.task.cancelled() and self.task.exception() is None
        return is_of_use and now < self.task.result().until


class Counting:
    """Counts by what they were asked for: those who ask while one is under way wait for it.

    An outcome is seen at once, whoever wrote it, since the log says which is the newest. Decisions
    on the way come in all the time, and are seen when a count is too old. So is an outcome that
    another process committed after one with a higher number.
    """

    def __init__(self, log: DecisionLog):
        self._log = log
        self._counts: dict[float, _Count] = {}
        self._one_at_a_time = asyncio.Lock()

    async def endings(self, since: float) -> Sequence[Ending]:
        """Returns how rollouts ended that were decided on since then, Unix seconds.

        Raises:
            LogUnavailable: If the log cannot be read.
        """
        newest, now = await asyncio.to_thread(self._log.newest_outcome), time.monotonic()
        self._counts = {key: c for key, c in self._counts.items() if c.still_tells(now)}
        count = self._counts.get(since)
        if count is None or count.newest_outcome != newest:
            count = self._counts[since] = _Count(newest, asyncio.create_task(self._count(since)))
        # Whoever goes away takes nothing from the others.
        return (await asyncio.shield(count.task)).endings

    async def _count(self, since: float) -> _Counted:
        async with self._one_at_a_time:
            begun = time.monotonic()
            found = await asyncio.to_thread(self._log.endings, since)
            done = time.monotonic()
        return _Counted(found, done + max(KEPT, (done - begun) / SHARE))
