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

"""How one rollout stands among those under way beside it.

Of the old version error rates alone are looked at: they are what a neighbour's fault hands on.
Memory and CPU of new pods differ from the old ones' by being new, and those of the old ones move
with the load; compared as well, in units of their spread, fewer causes were named first.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import isnan, nan

from oumi_deploy.policy.answers import ANSWERS
from oumi_deploy.problem.rewards import Action

LATELY = 3
"""Newest canary observations of which the error rates are compared."""

_NOTICED = 0.02
"""Rise of an error rate from which it counts as one."""

_SUSPECT = 0.5
"""Risk from which a release can be what others wait for."""

_ROLLBACK = ANSWERS[Action.ROLLBACK]


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
        is_last: Whether no later observation will come that it could wait for.
        must_go: Whether a guardrail asks for its ROLLBACK: it waits for nobody.
        gone_back: Whether it was told to go back. It waits no more, and can still be the cause.
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
    is_last: bool = False
    must_go: bool = False
    gone_back: bool = False
    holds: int = 0

    @property
    def shared(self) -> float:
        """Share of its errors that its old version has too, 0..1; of a silent one 0 or 1."""
        control = self.control_errors
        if isnan(control) or control <= _NOTICED:
            return 0.0
        return control / max(control, 0.0 if isnan(self.errors) else self.errors)

    @property
    def fails_with_its_old_version(self) -> bool:
        """Whether its old version fails too: something that both depend on does."""
        return self.control_errors > _NOTICED

    @property
    def is_its_own(self) -> bool:
        """Whether it fails beside an old version that does well: under the same neighbours."""
        fails = isnan(self.errors) or self.errors > _NOTICED
        return fails and self.control_errors <= _NOTICED

    @property
    def is_quiet(self) -> bool:
        """Whether neither version shows errors: what fails is not what a neighbour hands on."""
        return self.errors <= _NOTICED and not self.fails_with_its_old_version

    @property
    def could_wait(self) -> bool:
        """Whether it wants to go back and may have been dragged down."""
        wants = self.decision == _ROLLBACK and not self.gone_back
        may = not self.is_last and not self.must_go
        return wants and may and not self.is_its_own and not self.is_quiet


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
