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

They are remembered in memory only. After a restart a window fills again with the next questions,
and trouble counts from then.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from math import nan
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.observation import read_metrics, read_time
from oumi_deploy.policy.pauses import PAUSE
from oumi_deploy.policy.together import (
    LATELY,
    Calls,
    Candidate,
    Verdict,
    judge_window,
    onset_of,
    rise,
)
from oumi_deploy.serving.log.entries import DecisionEntry, RolloutName
from oumi_deploy.serving.settings import ServiceSettings

HELD = "held_for_culprit"
"""The reason of a PAUSE at which a rollout waits for another one."""

MOST_SIDE_BY_SIDE = 500
"""Rollouts that are remembered to compare: those that were asked about latest."""

MOST_TOLD = 10
"""Suspects that are told and logged, besides the rollout itself and the one that it waits for."""

_ERRORS = ("error_rate",)


@dataclass(frozen=True)
class _Seen:
    """A rollout as it was when it was asked about last.

    Attributes:
        candidate: How it stands.
        at: When it was asked about, Unix seconds.
        waits_since: Observations that it had when it began to wait; None where it does not.
    """

    candidate: Candidate
    at: float
    waits_since: int | None = None


class Windows:
    """The rollouts that were asked about lately; those of one environment are compared."""

    def __init__(self, settings: ServiceSettings):
        self._limit = settings.hold_limit
        # Who waits must find what it waits for, which is asked about no more once it has gone back.
        self._span = (settings.hold_limit + 2) * settings.interval
        self._calls = None if settings.calls is None else read_calls(settings.calls)
        self._seen: OrderedDict[RolloutName, _Seen] = OrderedDict()

    def settle(
        self, entry: DecisionEntry, observations: Sequence[Mapping[str, Any]]
    ) -> DecisionEntry:
        """Returns the decision in the light of the others under way in its environment.

        Args:
            entry: What is decided on the rollout by itself.
            observations: The rollout so far, oldest first.

        Returns:
            The entry; where it prefers ROLLBACK and is not alone, with the suspects of the
            window; and as a PAUSE where it waits for one of them.

        Raises:
            DeployError: If an error rate or a time is none.
        """
        if entry.asked_by == "kayenta":  # Its windows are over: nothing is under way beside them.
            return entry
        name, n_read = entry.name, len(observations)
        before = self._seen.get(name)
        seen = self._seen[name] = _look(entry, observations, before)
        self._seen.move_to_end(name)
        self._forget(entry.at)
        if entry.preferred != "ROLLBACK":
            return entry
        window = [s.candidate for n, s in self._seen.items() if n.environment == name.environment]
        verdict = judge_window(window, self._calls, self._limit)
        waits = name in verdict.held
        self._seen[name] = _waiting(seen, before, n_read) if waits else _gone_back(seen)
        if len(window) > 1:
            entry = replace(entry, suspects=_suspects(verdict, name))
        return _held(entry) if waits else entry

    def _forget(self, now: float) -> None:
        while True:
            oldest = next(iter(self._seen.items()))
            if oldest[1].at >= now - self._span and len(self._seen) <= MOST_SIDE_BY_SIDE:
                return
            del self._seen[oldest[0]]


def _look(
    entry: DecisionEntry, observations: Sequence[Mapping[str, Any]], before: _Seen | None
) -> _Seen:
    n_baseline = sum(1 for _ in takewhile(_is_baseline, observations))
    baseline, _ = _rates(observations, 0, n_baseline)
    known = [rate for rate in baseline if rate == rate]
    normal = sum(known) / len(known) if known else nan
    errors, control = _rates(observations, max(n_baseline, len(observations) - LATELY))
    old = None if before is None else before.candidate
    newest = _time(observations, len(observations) - 1, entry.at)
    candidate = Candidate(
        name=entry.name,
        service=entry.name.service,
        started=_time(observations, n_baseline, entry.at),
        onset=onset_of(None if old is None else old.onset, newest, entry.risk, entry.preferred),
        risk=entry.risk,
        errors=rise(errors, normal),
        control_errors=rise(control, normal),
        decision=entry.preferred,
        can_wait=not entry.last and not (old is not None and _went_back(old)),
        holds=0 if before is None else _holds(before, len(observations)),
    )
    return _Seen(candidate, entry.at)


def _is_baseline(observation: Mapping[str, Any]) -> bool:
    return observation.get("phase") == "baseline"


def _rates(
    observations: Sequence[Mapping[str, Any]], start: int, stop: int | None = None
) -> tuple[list[float], list[float]]:
    """Returns the error rates of the new version and of the old one."""
    chosen = observations[start:stop]
    pairs = [read_metrics(o, _ERRORS, start + i + 1) for i, o in enumerate(chosen)]
    return [new for (new,), _ in pairs], [old for _, (old,) in pairs]


def _went_back(candidate: Candidate) -> bool:
    return candidate.decision == "ROLLBACK" and not candidate.can_wait


def _holds(before: _Seen, n_observations: int) -> int:
    return 0 if before.waits_since is None else n_observations - before.waits_since


def _waiting(seen: _Seen, before: _Seen | None, n_observations: int) -> _Seen:
    since = None if before is None else before.waits_since
    return replace(seen, waits_since=n_observations if since is None else since)


def _gone_back(seen: _Seen) -> _Seen:
    return replace(seen, candidate=replace(seen.candidate, can_wait=False))


def _time(observations: Sequence[Mapping[str, Any]], i: int, now: float) -> float:
    seconds = read_time(observations[i], i + 1) * 60.0
    return now if seconds != seconds else seconds


def _suspects(verdict: Verdict, name: RolloutName) -> list[dict[str, Any]]:
    waits_for = verdict.held.get(name)
    return [
        {
            **asdict(suspect.name),  # pyright: ignore[reportArgumentType]
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
        confidence=max(entry.risk, 1.0 - entry.risk),
        reasons=[*reasons, HELD],
    )


def read_calls(path: Path) -> Calls:
    """Reads which services each service calls: `{"checkout": ["cart", "payment"]}`.

    Raises:
        DeployError: If the file cannot be read or holds something else.
    """
    try:
        calls = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeployError(f"--calls {path}: {error}") from error
    if not isinstance(calls, dict) or not all(
        isinstance(callees, list) and all(isinstance(callee, str) for callee in callees)
        for callees in calls.values()
    ):
        raise DeployError(
            f'--calls {path}: expected an object of lists, as in {{"checkout": ["cart"]}}'
        )
    return calls
