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

"""A policy asked about rollouts that are made up from what is usual."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any, NamedTuple

from oumi_deploy.episodes.schema import CONTROL, ROLLOUT_COLUMNS, number_column
from oumi_deploy.evaluation.vet.levels import Levels, range_of_training
from oumi_deploy.policy.calibration import UNCALIBRATED
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.rollout import Decision, Rollout
from oumi_deploy.policy.rulers import sign_of
from oumi_deploy.policy.usable import Usable
from oumi_deploy.problem.state import TO_BASELINE, TO_CONTROL, metrics_of, telling_metrics

LOOKS = 10
"""Canary observations of a rollout."""

GOOD_LOOKS = 3
"""Observations that are as before, where a case begins later."""

_BASELINE_ROWS = 3
_MILDER, _WORSE, _UNSEEN = 2, 12, 4
"""Values of a metric that are tried: better than the usual one, worse within what
training has seen, and worse than that."""

_BEYOND = 10.0
"""How far doses go beyond the range of training, in widths of it, where the format knows no end."""

_ENDS_OF_PAUSES = frozenset(
    str(r.name).lower() for r in (Reason.PAUSED_TOO_LONG, Reason.LAST_OBSERVATION)
)

Change = Mapping[str, float | None]
"""What an observation has in the place of what is usual; None where nothing was reported."""


class Look(NamedTuple):
    """An answer.

    Attributes:
        decision: CONTINUE, PAUSE or ROLLBACK.
        risk: P(bad), 0..1; what the Q-values imply where the policy states none.
        is_end_of_pause: Whether a pause ends here, by its limit or with the rollout.
    """

    decision: str
    risk: float
    is_end_of_pause: bool = False


@dataclass(frozen=True)
class Setting:
    """What a rollout is observed beside."""

    has_baseline: bool = True
    has_control: bool = True

    @property
    def name(self) -> str:
        """What it lacks, empty if nothing."""
        lacks = ["a baseline"] * (not self.has_baseline)
        lacks += ["the old version's values"] * (not self.has_control)
        return f"without {' and '.join(lacks)}" if lacks else ""


def settings_of(policy: DeploymentPolicy) -> list[Setting]:
    """Returns the settings that a policy's state tells apart, the one that lacks nothing first."""
    state = policy.encoder.state
    kinds = {feature.kind for feature in state}
    with_baseline = [True, False] if kinds & {*TO_BASELINE} else [True]
    uses_control = kinds & {*TO_CONTROL, "unmatched"} or any(
        m.startswith(CONTROL) for m in metrics_of(state)
    )
    with_control = [True, False] if uses_control else [True]
    return [Setting(one, other) for one in with_baseline for other in with_control]


class Trial:
    """A policy in one setting.

    Attributes:
        policy: The policy.
        levels: What is usual.
        setting: The setting.
    """

    def __init__(self, policy: DeploymentPolicy, levels: Levels, setting: Setting):
        self.policy, self.levels, self.setting = policy, levels, setting
        self._usable = Usable.of(policy.encoder.state)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the state that tell how the new version fares."""
        told = telling_metrics(self.policy.encoder.metrics)
        return tuple(m for m in told if not m.startswith(CONTROL) and m not in ROLLOUT_COLUMNS)

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """Those of them that the state can use in this setting."""
        usable, found = self._usable, []
        for at, alone, to_baseline, to_control in zip(
            usable.columns, usable.alone, usable.to_baseline, usable.to_control, strict=True
        ):
            beside = to_baseline and self.setting.has_baseline
            beside |= to_control and self.setting.has_control
            if alone or beside:
                found.append(self.policy.encoder.metrics[at])
        return tuple(m for m in self.metrics if m in found)

    @cached_property
    def reported(self) -> tuple[str, ...]:
        """All that a caller reports in an observation, but its time."""
        own = (*self.levels.usual, "canary_share")
        return (*own, *(CONTROL + name for name in self._compared))

    @cached_property
    def without_old_version(self) -> Change:
        """What an observation has where the old version is not reported any more."""
        return dict.fromkeys(CONTROL + name for name in self._compared)

    def usual(self, metric: str) -> float:
        """Returns the usual value of a metric."""
        return self.levels.usual[metric]

    def sign(self, metric: str) -> int:
        """Returns 1 where higher values of a metric are worse, -1 where lower ones are, else 0."""
        return sign_of(self.policy.encoder, metric)

    @property
    def few_requests(self) -> float:
        """Requests of which four observations have enough for an answer."""
        least = (self.policy.calibration or UNCALIBRATED).pauses.min_requests
        return max(least / 4, 1.0)

    @property
    def enough_requests(self) -> float:
        """Requests that are usual, and enough for an answer."""
        least = (self.policy.calibration or UNCALIBRATED).pauses.min_requests
        return max(self.levels.usual["requests"], least)

    def ask(self, changes: Sequence[Change], *, past_rollback: bool = False) -> list[Look]:
        """Returns the answers at observations with these changes.

        Args:
            changes: Of each observation.
            past_rollback: Whether to go on after a ROLLBACK, as where it could not be carried out.
        """
        rollout, looks = self.begin(), []
        for step, change in enumerate(changes):
            looks.append(self.look(rollout, step, change))
            if looks[-1].decision == "ROLLBACK" and not past_rollback:
                break
        return looks

    def begin(self, changes: Iterable[Change] = ()) -> Rollout:
        """Starts a rollout that has had observations with these changes."""
        rollout = self.policy.begin()
        if self.setting.has_baseline:
            for step in range(-_BASELINE_ROWS, 0):
                rollout.observe({**self._own(), **self._when(step), "phase": "baseline"})
        for step, change in enumerate(changes):
            rollout.observe(self._row(step, change))
        return rollout

    def look(self, rollout: Rollout, step: int, change: Change) -> Look:
        """Has a rollout take in an observation, and returns the answer."""
        rollout.observe(self._row(step, change))
        decision = rollout.decide()
        ends = not _ENDS_OF_PAUSES.isdisjoint(decision.reasons)
        return Look(decision.decision, self._risk(decision), ends)

    def with_newest(self, n_before: int, changes: Sequence[Change]) -> list[Look]:
        """Returns the answer to each change as the newest observation after usual ones."""
        before = self.begin([{}] * n_before)
        return [self.look(copy.copy(before), n_before, change) for change in changes]

    def doses(self, metric: str, *, of_training: bool = False) -> list[float]:
        """Returns values of a metric with a direction, from the best to far worse than usual.

        Args:
            metric: The metric.
            of_training: Whether to stay within what training has seen.
        """
        usual, sign = self.usual(metric), self.sign(metric) or 1
        low, high = range_of_training(self.policy.encoder, metric, usual)
        best, worst = (low, high) if sign > 0 else (high, low)
        rule = number_column(metric)
        end = rule.high if sign > 0 else rule.low
        far = worst + sign * _BEYOND * max(high - low, abs(usual), 1.0e-6)
        far = end if isfinite(end) else far
        # Closer together near what is usual, where most of the decisions are.
        milder = [best + (usual - best) * i / _MILDER for i in range(_MILDER)]
        seen = [usual + (worst - usual) * (i / _WORSE) ** 2 for i in range(1, _WORSE + 1)]
        unseen = [worst + (far - worst) * (i / _UNSEEN) ** 2 for i in range(1, _UNSEEN + 1)]
        doses = [*milder, usual, *seen, *([] if of_training else unseen)]
        return [dose for dose, before in zip(doses, [None, *doses], strict=False) if dose != before]

    def effect(self, metric: str) -> float:
        """Returns how far the risk moves over the training range of a metric, 0..1."""
        # Of the doses a third, the worst among them: only the width counts.
        doses = self.doses(metric, of_training=True)[::-3]
        newest = self.with_newest(GOOD_LOOKS, [{metric: dose} for dose in doses])
        lasting = [self.sustained(metric, dose) for dose in doses]
        return max(_width(looks) for looks in (newest, lasting))

    def sustained(self, metric: str, dose: float) -> Look:
        """Returns the answer to a value that has lasted for all of the first observations."""
        before = self.begin([{metric: dose}] * (GOOD_LOOKS - 1))
        return self.look(before, GOOD_LOOKS - 1, {metric: dose})

    def _risk(self, decision: Decision) -> float:
        if decision.risk is not None:
            return decision.risk
        return float(UNCALIBRATED.risk_of(decision.q_values["ROLLBACK"], self.policy.rewards))

    def _row(self, step: int, change: Change) -> dict[str, Any]:
        low, high = self.levels.share
        row: dict[str, Any] = self._own()
        row |= {"canary_share": low + (high - low) * min(step / (LOOKS - 1), 1.0)}
        row |= {"planned_steps": float(LOOKS), **self._when(step)}
        has_control = self.setting.has_control
        # Nothing reported is said by name: a caller that names no metric of the state is refused.
        row |= {CONTROL + n: self.usual(n) if has_control else None for n in self._compared}
        return {**row, **change}

    def _own(self) -> dict[str, Any]:
        own = {name: self.usual(name) for name in self.levels.usual if name != "canary_share"}
        return {**own, "requests": self.enough_requests}

    def _when(self, step: int) -> dict[str, float]:
        return {"timestamp": 60.0 * self.levels.minutes * (step + _BASELINE_ROWS)}

    @cached_property
    def _compared(self) -> tuple[str, ...]:
        return tuple(name for name in self.levels.usual if name not in ROLLOUT_COLUMNS)


def _width(looks: Iterable[Look]) -> float:
    risks = [look.risk for look in looks]
    return max(risks) - min(risks)


def changed(n: int, change: Change, *, after: int = 0) -> Iterator[Change]:
    """Yields observations as before, and then n with a change."""
    yield from ({} for _ in range(after))
    yield from (change for _ in range(n))
