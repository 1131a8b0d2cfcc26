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

"""The rollouts under way side by side: one may wait while another is likelier the cause.

They are remembered in memory. What the log says was told of them lately fills it after a restart:
else a release that was dragged down would be rolled back as soon as the one that did it, which
nobody asks about any more, is forgotten.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.pauses import PAUSE
from oumi_deploy.policy.together import Verdict, judge_window
from oumi_deploy.serving.calls import read_calls
from oumi_deploy.serving.log.entries import DecisionEntry, RolloutName
from oumi_deploy.serving.settings import ServiceSettings
from oumi_deploy.serving.standing import Standing, continued, look
from oumi_deploy.serving.verdict import confidence_of

HELD = "held_for_culprit"
"""The reason of a PAUSE at which a rollout waits for another one."""

HELD_TOO_LONG = "held_too_long"
"""The reason of a ROLLBACK that stands because the rollout has waited as long as it may."""

MOST_SIDE_BY_SIDE = 500
"""Rollouts that are remembered to compare: those that were asked about latest."""

MOST_TOLD = 10
"""Suspects that are told and logged, besides the rollout itself and the one that it waits for."""


class Windows:
    """The rollouts that were asked about lately; those of one environment are compared."""

    def __init__(self, settings: ServiceSettings):
        self._limit, self._interval = settings.hold_limit, settings.interval
        # Who waits must find what it waits for, which is asked about no more once it has gone back.
        self._span = (settings.hold_limit + 2) * settings.interval
        self._calls = None if settings.calls is None else read_calls(settings.calls)
        # No OrderedDict, which hashes every name that is looked over.
        self._seen: dict[RolloutName, Standing] = {}

    @property
    def memory(self) -> float:
        """Seconds for which a decision matters to later ones, 0 where no rollout ever waits."""
        # A rollout that is remembered may have been in trouble for as long before.
        return 2.0 * self._span if self._limit else 0.0

    def recall(
        self, told: Iterable[tuple[DecisionEntry, Sequence[Mapping[str, Any]]]], now: float
    ) -> None:
        """Takes in what was told before the service was started.

        What was asked about since then is known already, and newer; where it has been in trouble
        all along, that and its wait began before.

        Args:
            told: Decisions, oldest first, each with the observations that it rests on.
            now: Unix seconds.
        """
        asked, self._seen = self._seen, {}
        for entry, observations in told:
            if entry.asked_by != "kayenta":
                # What is no observation now, was one to the version that logged it.
                with suppress(DeployError):
                    self._see(entry, observations)
                    self.note(entry, len(observations))
        for name, seen in asked.items():
            self._seen[name] = continued(self._seen.get(name), seen, self._span)
        self._seen = dict(sorted(self._seen.items(), key=lambda named: named[1].at))
        self._forget(now)

    def settle(
        self, entry: DecisionEntry, observations: Sequence[Mapping[str, Any]]
    ) -> DecisionEntry:
        """Returns the decision in the light of the others under way in its environment.

        Args:
            entry: What is decided on the rollout by itself.
            observations: The rollout so far, oldest first.

        Returns:
            The entry; where it prefers ROLLBACK and is not alone, with the suspects of the
            window; and as a PAUSE where it waits for one of them. What of it was told in the end,
            `note` takes in.

        Raises:
            DeployError: If an error rate or a time is none.
        """
        if entry.asked_by == "kayenta":  # Its windows are over: nothing is under way beside them.
            return entry
        name, seen = entry.name, self._see(entry, observations)
        if entry.preferred != "ROLLBACK":
            return entry
        window = [s.candidate for n, s in self._seen.items() if n.environment == name.environment]
        verdict = judge_window(window, self._calls, self._limit)
        if len(window) > 1:
            entry = replace(entry, suspects=_suspects(verdict, name))
        if name in verdict.held:
            return _held(entry)
        waited = seen.waits_since is not None and seen.candidate.holds >= self._limit
        return replace(entry, reasons=[*entry.reasons, HELD_TOO_LONG]) if waited else entry

    def note(self, told: DecisionEntry, n_observations: int) -> None:
        """Takes in what a caller was told: whether its rollout waits from now on, or goes back.

        Of one that has looked well since, as another question at the same time may tell, neither.

        Args:
            told: What was logged and answered; a PAUSE where exploration, or a log that is away,
                has turned a ROLLBACK into one.
            n_observations: Observations that it rests on, 1 or more.
        """
        seen = self._seen.get(told.name)
        if seen is None or seen.candidate.onset is None or told.asked_by == "kayenta":
            return
        if HELD in told.reasons and seen.waits_since is None:
            seen = replace(seen, waits_since=n_observations, held_since=told.at)
        elif told.decision == "ROLLBACK":
            seen = replace(seen, candidate=replace(seen.candidate, gone_back=True))
        self._seen[told.name] = seen

    def _see(self, entry: DecisionEntry, observations: Sequence[Mapping[str, Any]]) -> Standing:
        seen = look(entry, observations, self._seen.get(entry.name), self._interval)
        self._seen.pop(entry.name, None)
        self._seen[entry.name] = seen
        self._forget(entry.at)
        return seen

    def _forget(self, now: float) -> None:
        while self._seen:
            name, oldest = next(iter(self._seen.items()))
            if oldest.at >= now - self._span and len(self._seen) <= MOST_SIDE_BY_SIDE:
                return
            del self._seen[name]


def _suspects(verdict: Verdict, name: RolloutName) -> list[dict[str, Any]]:
    waits_for = verdict.held.get(name)
    return [
        {
            **vars(suspect.name),
            "score": suspect.score,
            "sentence": suspect.sentence,
            "waited_for": suspect.name == waits_for,
        }
        for place, suspect in enumerate(verdict.ranking)
        if place < MOST_TOLD or suspect.name in (name, waits_for)
    ]


def _held(entry: DecisionEntry) -> DecisionEntry:
    """Returns the entry as a PAUSE: certain, whatever exploration would have drawn."""
    reasons = [reason for reason in entry.reasons if reason != "explored"]
    return replace(
        entry,
        decision=PAUSE,
        answered=entry.answered if entry.shadow else PAUSE,
        propensity=1.0,
        explored=False,
        confidence=confidence_of(PAUSE, entry.risk),
        reasons=[*reasons, HELD],
    )
