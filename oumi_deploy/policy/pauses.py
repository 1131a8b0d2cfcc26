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

"""When the evidence does not carry a decision: the reasons to PAUSE, and what ends a pause.

A whole data set, in arrays, and one observation of one rollout, in numbers, are judged by the same
lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from math import inf, isfinite

import numpy as np

from oumi_deploy.episodes.schema import CONTROL, ROLLOUT_COLUMNS
from oumi_deploy.errors import DeployError
from oumi_deploy.problem.arithmetic import Number, choose
from oumi_deploy.problem.rewards import ACTIONS, Action

PAUSE = "PAUSE"


class Reason(IntFlag):
    """Why an answer is not simply what the policy prefers; several can hold at once."""

    TELEMETRY_MISSING = 1
    OUT_OF_RANGE = 2
    FEW_REQUESTS = 4
    DOUBT = 8
    PAUSED_TOO_LONG = 16
    LAST_OBSERVATION = 32
    FALSE_ALARM_BOUND = 64


@dataclass(frozen=True)
class PauseRules:
    """When the policy holds its answer back, and for how long."""

    min_requests: float = 20.0
    """Requests in the newest observation below which no answer is given, where `requests` is
    known: at 20, one failed request already is an error rate of 5 %. 0 turns it off."""

    range_margin: float = 0.0
    """How far a value may pass the range of the training split before CONTINUE is held back, in
    widths of that range. From few releases a range is not well known: a new group passes an end
    of it with a probability of about 1/(groups + 1)."""

    max_doubt: float | None = None
    """Probability of being wrong (1 - confidence) above which the policy's decision is held
    back; None for off."""

    pause_limit: int = 5
    """The pause of this number running becomes `pause_fallback`."""

    pause_fallback: str = "ROLLBACK"
    """What a pause becomes that lasted too long or has no later observation to wait for."""

    def __post_init__(self) -> None:
        for name in ("min_requests", "range_margin"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise DeployError(f"{name}: {value!r} is not a number of 0 or more")
        if self.max_doubt is not None and not (
            _is_number(self.max_doubt) and 0 < self.max_doubt < 1
        ):
            raise DeployError(f"max_doubt: {self.max_doubt!r} is not between 0 and 1, or null")
        if type(self.pause_limit) is not int or self.pause_limit < 1:
            raise DeployError(f"pause_limit: {self.pause_limit!r} is not a whole number above 0")
        if self.pause_fallback not in ACTIONS:
            raise DeployError(
                f"pause_fallback: {self.pause_fallback!r} is not one of {', '.join(ACTIONS)}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_telemetry(metrics: Sequence[str]) -> np.ndarray:
    """Returns which of a state's metrics the new version reports, bool of shape (n_metrics,).

    All, where there would be none.
    """
    told = np.array([m not in ROLLOUT_COLUMNS and not m.startswith(CONTROL) for m in metrics])
    return told if told.any() else ~told


@dataclass(frozen=True, eq=False)
class Evidence:
    """What n observations carry; of one by itself, numbers instead of arrays of shape (n,).

    Attributes:
        q_values: Q-values of their states, shape (n, n_actions); of one a list, by action.
        is_silent: Whether none of the state's metrics has a value in the last two observations,
            bool of shape (n,).
        is_outside: Whether a value lies outside the training split's range, bool of shape (n,).
        requests: Requests in the newest observation, shape (n,), NaN where unknown.
    """

    q_values: Number
    is_silent: Number
    is_outside: Number
    requests: Number

    @property
    def by_action(self) -> Number:
        """The Q-values by action, for unpacking."""
        q_values = self.q_values
        return q_values.T if isinstance(q_values, np.ndarray) else q_values


def reasons_to_pause(rules: PauseRules, action: Number, risk: Number, evidence: Evidence) -> Number:
    """Returns the reasons to hold the policy's decision back, `Reason` flags of shape (n,).

    Silence and values outside the range hold back CONTINUE alone: a policy that has seen enough
    to roll back is not stopped by what it does not see now.

    Args:
        rules: The rules.
        action: What the policy prefers, int of shape (n,).
        risk: P(bad | seen so far), shape (n,).
        evidence: What the observations carry.
    """
    goes_on = action == Action.CONTINUE
    doubt = choose(goes_on, risk, 1.0 - risk)
    doubtful = doubt > (inf if rules.max_doubt is None else rules.max_doubt)
    # `value`: numpy looks a flag over for a while before it takes it for a number.
    return (
        Reason.TELEMETRY_MISSING.value * (goes_on & evidence.is_silent)
        + Reason.OUT_OF_RANGE.value * (goes_on & evidence.is_outside)
        + Reason.FEW_REQUESTS.value * (evidence.requests < rules.min_requests)
        + Reason.DOUBT.value * doubtful
    )


def running_length(marks: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns how many marks in a row end at each observation, within its rollout.

    Args:
        marks: Bool of shape (n,), rollouts one after the other.
        starts: First observation of each rollout.
    """
    index = np.arange(len(marks))
    breaks = np.where(marks, -1, index)
    breaks[starts] = np.where(marks[starts], starts - 1, starts)
    return index - np.maximum.accumulate(breaks)
