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

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.endings import Ending
from oumi_deploy.serving.log.writer import DecisionLog

KEPT = 5.0
"""Seconds for which a count is told again where no outcome came in; pages ask as often."""

SHARE = 0.05
"""Share of the time that goes into counting at most, whatever is asked for: what takes long is kept
for longer."""

AT_ONCE = 1.0
"""Seconds of counting that may be ahead of that share, so that who looks at something else need not
wait where a count is quick."""

MOST_COUNTS = 4
"""Counts that are under way or in line at most: a decision that comes in must find a place."""

MOST_ASKING = 64
"""Requests that wait for counts at most."""

MOST_KEPT = 16
"""Counts that are kept at most, to be told where no new one may begin."""


class CountingCrowded(DeployError):
    """Too much is being counted already."""


@dataclass(frozen=True)
class _Counted:
    endings: Sequence[Ending]
    until: float


@dataclass(frozen=True, eq=False)
class _Count:
    newest_outcome: int
    task: asyncio.Task[_Counted]

    @property
    def has_failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    def is_old(self, newest_outcome: int, now: float) -> bool:
        is_over = self.task.done() and now >= self.task.result().until
        return is_over or self.newest_outcome != newest_outcome


class Counting:
    """Counts by what they were asked for: those who ask while one is under way wait for it.

    An outcome is seen at once, whoever wrote it, since the log says which is the newest. Decisions
    on the way come in all the time, and are seen when a count is too old. So is an outcome that
    another process committed after one with a higher number. Where counting has taken its share of
    the time, an old count is told instead of a new one, and who asks for what was not counted yet
    is refused.
    """

    def __init__(self, log: DecisionLog):
        self._log = log
        self._counts: dict[float, _Count] = {}
        self._one_at_a_time = asyncio.Lock()
        self._n_counts = self._n_asking = 0
        self._ahead, self._reckoned = 0.0, time.monotonic()

    async def endings(self, since: float) -> Sequence[Ending]:
        """Returns how rollouts ended that were decided on since then, Unix seconds.

        Raises:
            LogUnavailable: If the log cannot be read.
            CountingCrowded: If it was not counted yet, and no count may begin now.
        """
        if self._n_asking >= MOST_ASKING:
            raise _crowded()
        self._n_asking += 1
        try:
            newest = await asyncio.to_thread(self._log.newest_outcome)
            count = self._count_of(since, newest, time.monotonic())
            # Whoever goes away takes nothing from the others.
            return (await asyncio.shield(count.task)).endings
        finally:
            self._n_asking -= 1

    def _count_of(self, since: float, newest_outcome: int, now: float) -> _Count:
        count = self._counts.get(since)
        if count is not None and count.has_failed:
            count = None
        if count is not None and not count.is_old(newest_outcome, now):
            return count
        if not self._may_begin(now):
            if count is None:
                raise _crowded()
            return count
        self._n_counts += 1
        self._counts.pop(since, None)
        for other in list(self._counts)[: 1 - MOST_KEPT]:
            del self._counts[other]
        begun = _Count(newest_outcome, asyncio.create_task(self._count(since)))
        self._counts[since] = begun
        return begun

    def _may_begin(self, now: float) -> bool:
        self._ahead = max(0.0, self._ahead - SHARE * (now - self._reckoned))
        self._reckoned = now
        return self._n_counts < MOST_COUNTS and self._ahead < AT_ONCE

    async def _count(self, since: float) -> _Counted:
        try:
            async with self._one_at_a_time:
                begun = time.monotonic()
                try:
                    found = await asyncio.to_thread(self._log.endings, since)
                finally:
                    done = time.monotonic()
                    self._ahead += done - begun
        finally:
            self._n_counts -= 1
        return _Counted(found, done + max(KEPT, (done - begun) / SHARE))


def _crowded() -> CountingCrowded:
    return CountingCrowded("how rollouts ended is being counted for others; ask again in a moment")
