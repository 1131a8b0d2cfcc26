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

"""When the answer is PAUSE: the rules, the reasons, and what the evidence for them is.

A whole data set, in arrays, and one observation of one rollout, in numbers, are judged by the same
lines.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from math import isfinite

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.arithmetic import Number, choose
from oumi_deploy.problem.rewards import ACTIONS

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
    WATCHING = 128
    CERTAIN_RISK = 256
    WATCH_ENDED = 512
    HELD_FOR_A_PERSON = 1024
    GUARDRAIL = 2048


class Guard(IntEnum):
    """What the guardrails ask for, the severest of them."""

    NOTHING = 0
    PAUSE = 1
    ROLLBACK = 2


FALLBACKS = (*ACTIONS, PAUSE)
"""What a pause can become that lasted too long."""


@dataclass(frozen=True)
class PauseRules:
    """When the policy holds its answer back, and for how long."""

    min_requests: float = 20.0
    """Requests below which no answer is given, where `requests` is known: at 20, one failed request
    already is an error rate of 5 %. Few requests in an observation are counted together with
    those of the next, until they are enough. 0 turns it off."""

    range_margin: float = 0.0
    """How far a value may pass the range of the training split on its worse side before CONTINUE is
    held back, in widths of that range. From few releases a range is not well known: a new group
    passes an end of it with a probability of about 1/(groups + 1)."""

    max_doubt: float | None = None
    """Probability of being wrong (1 - confidence) above which the policy's decision is held
    back; None for off."""

    certain_risk: float = 0.9
    """Risk from which on the answer is ROLLBACK, though the Q-values would rather look again; 1
    turns it off."""

    watch_limit: int = 30
    """The PAUSE of this number running, where the risk is above the rewards' break-even, becomes
    ROLLBACK if that pays more than a person's time (`rewards.held`); else a person decides."""

    pause_limit: int = 5
    """The PAUSE of this number running becomes `pause_fallback`."""

    pause_fallback: str = PAUSE
    """What a PAUSE becomes that lasted too long or has no later observation to wait for: PAUSE
    holds the rollout for a person to decide."""

    def __post_init__(self) -> None:
        for name in ("min_requests", "range_margin"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise DeployError(f"{name}: {value!r} is not a number of 0 or more")
        if self.max_doubt is not None and not (
            _is_number(self.max_doubt) and 0 < self.max_doubt < 1
        ):
            raise DeployError(f"max_doubt: {self.max_doubt!r} is not between 0 and 1, or null")
        if not _is_number(self.certain_risk) or not 0 < self.certain_risk <= 1:
            raise DeployError(f"certain_risk: {self.certain_risk!r} is not above 0 and at most 1")
        for name in ("watch_limit", "pause_limit"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise DeployError(f"{name}: {value!r} is not a whole number above 0")
        if self.pause_fallback not in FALLBACKS:
            raise DeployError(
                f"pause_fallback: {self.pause_fallback!r} is not one of {', '.join(FALLBACKS)}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What n observations carry; of one by itself, numbers instead of arrays of shape (n,).

    Attributes:
        q_values: Q-values of their states, shape (n, n_actions); of one a list, by action.
        is_silent: Whether no metric has a value that the state can use, bool of shape (n,).
        is_unmatched: Whether the old version alone reports what the state looks for in both, bool
            of shape (n,).
        is_outside: Whether a value is worse than all that training has seen, bool of shape (n,).
        requests: Requests since the last observation that had enough of them, this one's
            included, shape (n,), NaN where unknown.
        q_uncounted: Q-values with what is taken over requests at most as bad as usual, see
            `StateEncoder.typical`; of the shape of `q_values`, and equal to them where requests
            are enough.
        guard: What the guardrails ask for, codes of `Guard`, shape (n,).
    """

    q_values: Number
    is_silent: Number
    is_unmatched: Number
    is_outside: Number
    requests: Number
    q_uncounted: Number
    guard: Number

    @property
    def by_action(self) -> Number:
        """The Q-values by action, for unpacking."""
        return _by_action(self.q_values)

    @property
    def uncounted_by_action(self) -> Number:
        """`q_uncounted` by action, for unpacking."""
        return _by_action(self.q_uncounted)


def _by_action(q_values: Number) -> Number:
    return q_values.T if isinstance(q_values, np.ndarray) else q_values


def count_requests(short: Number, requests: Number, least: float) -> tuple[Number, Number]:
    """Adds an observation's requests to those before that were too few.

    Args:
        short: Requests before that were too few, shape (n,); 0 where they were enough.
        requests: Requests in the observation, shape (n,), NaN where unknown.
        least: Requests that are enough.

    Returns:
        Requests that an answer rests on, NaN where unknown, and those too few for the next.
    """
    together = short + requests
    return together, choose(together < least, together, 0.0 * short)


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
