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

"""What there is to see of a rollout when somebody asks about it."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.freshness import is_stale, missed, with_a_first
from oumi_deploy.serving.held import HeldRollouts
from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.log.writer import DecisionLog, LogUnavailable
from oumi_deploy.serving.monitoring import Monitoring
from oumi_deploy.serving.policies import Versioned
from oumi_deploy.serving.schema import Ask
from oumi_deploy.serving.settings import Face
from oumi_deploy.serving.sources import Source, SourceAway, since
from oumi_deploy.serving.verdict import TELEMETRY_MISSING, TELEMETRY_UNAVAILABLE

Observations = Sequence[Mapping[str, Any]]

_MOST_NOTES = 20
_NOTE_LENGTH = 500
"""Of what is told and logged with every decision; Prometheus may warn without end."""

_MORE = re.compile(r"and (\d+) more like these")
"""The last of what is told, where that is not all."""

_STARTS_KNOWN = 10_000
"""Rollouts whose start is remembered, so that the log is asked once."""


@dataclass(frozen=True)
class Question:
    """A question, and what stood when it came.

    Attributes:
        ask: What was asked.
        face: Through which door.
        name: The rollout.
        policy: The policy in use.
        at: Unix seconds.
    """

    ask: Ask
    face: Face
    name: RolloutName
    policy: Versioned
    at: float


@dataclass(frozen=True)
class Seen:
    """A rollout so far.

    Attributes:
        observations: Oldest first, at least one of them a canary one.
        holds: Why they may not carry a decision, None where they do.
        missed: Where they may not, how many should have come since the newest, 0 or more.
        notes: What a person should know of the telemetry, a sentence each.
    """

    observations: Observations
    holds: str | None
    missed: int = 0
    notes: Sequence[str] = ()


class Observer:
    """Looks at what a caller sends, or collects it."""

    def __init__(
        self,
        interval: float,
        log: DecisionLog,
        held: HeldRollouts,
        source: Source | None,
        monitoring: Monitoring,
    ):
        self._interval, self._log, self._held = interval, log, held
        self._source, self._monitoring = source, monitoring
        self._starts: dict[RolloutName, float] = {}

    async def see(self, question: Question) -> Seen:
        """Returns the rollout so far, with what it rests on.

        Raises:
            DeployError: If there is nothing to look at, or a time or phase is none.
        """
        sent = question.ask.observations
        return await self._collect(question) if sent is None else self._look_at(sent, question)

    def _look_at(self, sent: Observations, question: Question) -> Seen:
        observations = with_a_first(sent, question.at)
        # Kayenta judges a window that is over, perhaps of yesterday.
        stale = question.face != "kayenta" and is_stale(observations, question.at, self._interval)
        if not stale:
            return Seen(observations, None)
        late = missed(observations, question.at, self._interval)
        return Seen(observations, TELEMETRY_MISSING, late)

    async def _collect(self, question: Question) -> Seen:
        if self._source is None:
            raise DeployError(
                "observations: send those so far, or start the service with --telemetry so that "
                "it collects them"
            )
        name, now = question.name, question.at
        # By a clock that was set back since, it was first asked about in times to come.
        first_asked = min(await self._start_of(name, now), now)
        started = question.ask.started_at
        started = first_asked if started is None else started
        try:
            found = await self._source.observations(name, started, now)
        except SourceAway as away:
            self._monitoring.telemetry_failures.inc()
            before = self._held.observations_of(name) or [{"timestamp": first_asked}]
            late = missed(before, now, self._interval)
            return Seen(before, TELEMETRY_UNAVAILABLE, late, _told([str(away)]))
        for metric, n in found.clipped.items():
            self._monitoring.clipped.labels(metric).inc(n)
        rows = found.observations if found.reported else since(found.observations, first_asked)
        return Seen(with_a_first(rows, now), None, notes=_told(found.notes))

    async def _start_of(self, name: RolloutName, now: float) -> float:
        """Returns when a rollout was first asked about, now if the log does not know."""
        if name not in self._starts:
            try:
                first = await asyncio.to_thread(self._log.first_asked, name)
            except LogUnavailable:
                return now
            self._starts[name] = now if first is None else first
            if len(self._starts) > _STARTS_KNOWN:
                del self._starts[next(iter(self._starts))]
        return self._starts[name]


def number_of(notes: Sequence[str]) -> int:
    """Returns how many notes there were, of which these were told."""
    more = _MORE.fullmatch(notes[-1]) if notes else None
    return len(notes) if more is None else len(notes) - 1 + int(more[1])


def _told(notes: Sequence[str]) -> list[str]:
    told = [note[:_NOTE_LENGTH] for note in notes[:_MOST_NOTES]]
    more = len(notes) - len(told)
    return [*told, f"and {more} more like these"] if more else told
