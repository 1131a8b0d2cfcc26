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

"""From Q-values to answers: what the policy prefers, what it holds back, and for how long.

Both steps take arrays of n observations, or the numbers of one. A rollout under way asks for one at
a time and counts its pauses; a data set is answered at once.
"""

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PAUSE, Evidence, PauseRules, Reason, reasons_to_pause
from oumi_deploy.problem.arithmetic import Number, choose
from oumi_deploy.problem.rewards import ACTIONS, Action, Rewards

ANSWERS = (*ACTIONS, PAUSE)
"""What a policy can answer; the codes of `Answers.decision`."""

PAUSED = ANSWERS.index(PAUSE)

_CONTINUE, _ROLLBACK = Action.CONTINUE.value, Action.ROLLBACK.value
_NO_PAUSES = PauseRules()


class Preferences(NamedTuple):
    """What a policy makes of n observations, or of one in numbers, before pauses are counted.

    Attributes:
        action: The action it prefers, int of shape (n,).
        risk: P(bad | seen so far), shape (n,), NaN where the policy is not calibrated.
        reasons: `Reason` flags, int of shape (n,); what holds the action back among them.
        wants_pause: Whether the action is held back, bool of shape (n,).
    """

    action: Number
    risk: Number
    reasons: Number
    wants_pause: Number


@dataclass(frozen=True, eq=False)
class Answers:
    """What a policy answers to n observations, or to one in numbers.

    Attributes:
        decision: Index into ANSWERS, int of shape (n,).
        risk: P(bad | seen so far), shape (n,), NaN where the policy is not calibrated.
        reasons: `Reason` flags, int of shape (n,).
        fell_back: Whether the decision is the fallback of a pause, bool of shape (n,).
    """

    decision: Number
    risk: Number
    reasons: Number
    fell_back: Number

    @property
    def actions(self) -> Number:
        """What is done: the decision, a PAUSE going on as a CONTINUE does."""
        return choose(self.decision == _ROLLBACK, _ROLLBACK, _CONTINUE)

    @property
    def confidence(self) -> Number:
        """Probability that the decision is right; for PAUSE the larger of risk and 1 - risk."""
        is_rollback = (self.decision == _ROLLBACK) | ((self.decision == PAUSED) & (self.risk > 0.5))
        return choose(is_rollback, self.risk, 1.0 - self.risk)


def prefer(calibration: Calibration | None, rewards: Rewards, evidence: Evidence) -> Preferences:
    """Weighs what n observations carry; a tie of Q-values continues.

    Args:
        calibration: The policy's calibration; without one nothing is held back.
        rewards: What decisions paid in training.
        evidence: What the observations carry.
    """
    q_continue, q_rollback = evidence.by_action
    action = choose(q_rollback > q_continue, _ROLLBACK, _CONTINUE)
    if calibration is None:
        nothing = 0 * action
        return Preferences(action, nan * action, nothing, nothing > 0)
    risk = calibration.risk_of(q_rollback, rewards)
    held = (action == _ROLLBACK) & (risk < calibration.rollback_from)
    action = choose(held, _CONTINUE, action)
    why = reasons_to_pause(calibration.pauses, action, risk, evidence)
    return Preferences(action, risk, why + Reason.FALSE_ALARM_BOUND.value * held, why > 0)


def settle(
    calibration: Calibration | None,
    preferred: Preferences,
    running: Number,
    is_last: Number,
) -> Answers:
    """Turns preferences into answers.

    A pause becomes the fallback where it is number `pause_limit` running or later, and where no
    observation follows that it could wait for.

    Args:
        calibration: The policy's calibration, with how long a pause lasts; None where there is
            none.
        preferred: What the policy prefers at n observations.
        running: How many observations running want a pause, this one included, int (n,).
        is_last: Whether no later observation will come, bool of shape (n,).
    """
    rules = _NO_PAUSES if calibration is None else calibration.pauses
    wants, too_long = preferred.wants_pause, running >= rules.pause_limit
    falls_back = wants & (too_long | is_last)
    held = choose(falls_back, ANSWERS.index(rules.pause_fallback), PAUSED)
    return Answers(
        decision=choose(wants, held, preferred.action),
        risk=preferred.risk,
        reasons=preferred.reasons
        + Reason.PAUSED_TOO_LONG.value * (wants & too_long)
        + Reason.LAST_OBSERVATION.value * (wants & is_last),
        fell_back=falls_back,
    )
