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

"""Rollouts of several services in one window: whose release is the likeliest cause.

When a release breaks a service, those that call it break too, and a policy that judges each rollout
by itself may roll all of them back. Here the rollouts of a window are compared: the likeliest cause
goes, and those that may only have been dragged down wait.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, log, nan

from oumi_deploy.policy.answers import ANSWERS
from oumi_deploy.problem.rewards import Action

HOLD_LIMIT = 10
"""Observations running at which a rollout waits for another; then its own ROLLBACK stands."""

LATELY = 3
"""Newest canary observations of which the error rates are compared."""

SHARED = 3.0
"""Log odds that a release loses whose old version fails as it does: twenty to one. Chosen, not
fitted; from 2 to 5 nothing changes in what is named and held in the releases of ChangeRCA."""

CALLED = 2.0
"""Log odds that a release loses for calling one that failed before it did."""

_NOTICED = 0.02
"""Rise of an error rate from which it counts as one."""

_SUSPECT = 0.5
"""Risk from which a release can be what others wait for."""

_ROLLBACK = ANSWERS[Action.ROLLBACK]

Calls = Mapping[str, Sequence[str]]
"""Which services each service calls."""


@dataclass(frozen=True)
class Candidate:
    """How one rollout of the window stands.

    Attributes:
        name: Names it within the window.
        service: The service that changes.
        started: When its canary began, Unix seconds.
        onset: Since when, without a break, it has looked more likely bad than good or the policy
            wants it rolled back, Unix seconds; None where it does not now.
        risk: P(bad | seen so far), 0..1.
        errors: How far its error rate lately lies above its baseline, 0..1; NaN where it is
            silent. See `rise`.
        control_errors: The same of its old version at the same time; NaN where none is told.
        decision: What the policy answers by itself.
        can_wait: False where it was told to go back already, or no later observation will come.
            It can still be the cause.
        holds: Observations running at which it has waited for another rollout.
    """

    name: Hashable
    service: str
    started: float
    onset: float | None
    risk: float
    errors: float
    control_errors: float
    decision: str
    can_wait: bool = True
    holds: int = 0

    @property
    def shared(self) -> float:
        """Share of its errors that its old version has too, 0..1; of a silent one 0 or 1."""
        control = self.control_errors
        if isnan(control) or control <= _NOTICED:
            return 0.0
        return control / max(control, 0.0 if isnan(self.errors) else self.errors)

    @property
    def is_its_own(self) -> bool:
        """Whether it fails beside an old version that does well: under the same neighbours."""
        fails = isnan(self.errors) or self.errors > _NOTICED
        return fails and self.control_errors <= _NOTICED

    @property
    def is_quiet(self) -> bool:
        """Whether neither version shows errors: what fails is not what a neighbour hands on."""
        return self.errors <= _NOTICED and not self.control_errors > _NOTICED


@dataclass(frozen=True)
class Suspect:
    """A rollout of the window as the possible cause.

    Attributes:
        name: Names it within the window.
        score: Log odds that it is bad by itself; they compare within a window.
        sentence: Why, for a person.
    """

    name: Hashable
    score: float
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What the window says.

    Attributes:
        ranking: All rollouts, the likeliest cause first.
        held: Those that wait although the policy wants them rolled back, each with what it waits
            for.
    """

    ranking: tuple[Suspect, ...]
    held: Mapping[Hashable, Hashable]


def rise(rates: Sequence[float], baseline: float) -> float:
    """Returns how far an error rate lately lies above its baseline, 0..1.

    Args:
        rates: Error rates of the canary phase so far, oldest first, NaN where missing.
        baseline: Mean error rate before it, NaN where unknown.

    Returns:
        At least 0; NaN where none of the newest `LATELY` has a value.
    """
    known = [rate for rate in rates[-LATELY:] if not isnan(rate)]
    if not known:
        return nan
    return max(0.0, sum(known) / len(known) - (0.0 if isnan(baseline) else baseline))


def onset_of(before: float | None, at: float, risk: float, decision: str) -> float | None:
    """Returns since when a rollout has looked bad, from since when it had and the newest answer."""
    looks_bad = risk >= _SUSPECT or decision == _ROLLBACK
    return None if not looks_bad else at if before is None else before


def judge_window(
    window: Sequence[Candidate], calls: Calls | None = None, hold_limit: int = HOLD_LIMIT
) -> Verdict:
    """Ranks the rollouts of a window, and says which of them wait.

    A rollout that the policy wants rolled back waits where another release of the window is
    likelier the cause, looks bad itself, and began before this one's trouble did; not where it
    fails beside an old version that does well, or without errors on either version, and not for
    more than `hold_limit` observations running. Where at most one release looks bad, nothing waits.

    Args:
        window: The rollouts, in an order that settles ties.
        calls: Which services each service calls, if known.
        hold_limit: Observations running at which a rollout waits at most, 0 or more.
    """
    scores = {candidate.name: _score(candidate, window, calls) for candidate in window}
    order = sorted(window, key=lambda c: -scores[c.name])
    held = {}
    for candidate in window:
        own = candidate.is_its_own or candidate.is_quiet
        if candidate.decision != _ROLLBACK or own or not candidate.can_wait:
            continue
        likelier = (s for s in order if scores[s.name] > scores[candidate.name])
        cause = next((s for s in likelier if _can_have_caused(s, candidate)), None)
        if cause is not None and candidate.holds < hold_limit:
            held[candidate.name] = cause.name
    first = min((c.onset for c in window if c.onset is not None), default=nan)
    ranking = [Suspect(s.name, scores[s.name], _sentence(s, window, calls, first)) for s in order]
    return Verdict(tuple(ranking), held)


def _score(candidate: Candidate, window: Sequence[Candidate], calls: Calls | None) -> float:
    risk = min(max(candidate.risk, 0.01), 0.99)
    score = log(risk / (1.0 - risk)) - SHARED * candidate.shared
    return score - CALLED * (_called(candidate, window, calls) is not None)


def _can_have_caused(cause: Candidate, effect: Candidate) -> bool:
    looks_bad = cause.onset is not None
    return looks_bad and effect.onset is not None and cause.started <= effect.onset


def _called(
    candidate: Candidate, window: Sequence[Candidate], calls: Calls | None
) -> Candidate | None:
    """Returns a release that this one calls and that looked bad no later, None without one."""
    if calls is None or candidate.onset is None:
        return None
    callees = calls.get(candidate.service, ())
    before = (s for s in window if s.onset is not None and s.onset <= candidate.onset)
    return next((other for other in before if other.service in callees), None)


def _sentence(
    candidate: Candidate, window: Sequence[Candidate], calls: Calls | None, first: float
) -> str:
    parts = [f"risk {candidate.risk:.0%}"]
    if isnan(candidate.errors):
        parts.append("it reports no error rate")
    if candidate.shared >= 0.5:
        parts.append("its old version fails as well")
    elif candidate.is_its_own:
        parts.append("its old version does well beside it")
    called = _called(candidate, window, calls)
    if called is not None:
        parts.append(f"it calls {called.service}, which failed before")
    if candidate.onset is not None:
        after = round((candidate.onset - first) / 60)
        parts.append("it failed first" if not after else f"it failed {after} min after the first")
    return f"{candidate.service}: {'; '.join(parts)}"
