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

"""The answers of policy files of version 1, which go on deciding as they did.

They follow the Q-values alone: CONTINUE or ROLLBACK, whichever is worth more, held back where the
evidence does not carry it. `oumi-deploy calibrate` brings a policy to today's rules.
"""

from math import inf, nan

from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import Evidence, PauseRules, Reason
from oumi_deploy.problem.arithmetic import Number, choose
from oumi_deploy.problem.rewards import Action, Rewards

WARNING = (
    "a policy file of version 1 decides as it did before, with a risk that may fall where a metric "
    "gets worse: calibrate it anew (`oumi-deploy calibrate`) for today's rules, or train it anew"
)
"""What is said where such a file is taken up."""

_CONTINUE, _ROLLBACK = Action.CONTINUE.value, Action.ROLLBACK.value


def prefer(
    calibration: Calibration | None, rewards: Rewards, evidence: Evidence
) -> tuple[Number, Number, Number, Number]:
    """Returns action, risk, reasons, and whether a pause is wanted, see `answers.Preferences`.

    Args:
        calibration: The policy's calibration; without one nothing is held back.
        rewards: What decisions paid in training.
        evidence: What the observations carry; `requests` are those of the newest observation.
    """
    q_continue, q_rollback = evidence.by_action
    action = choose(q_rollback > q_continue, _ROLLBACK, _CONTINUE)
    if calibration is None:
        nothing = 0 * action
        return action, nan * action, nothing, nothing > 0
    risk = calibration.risk_of(q_rollback, rewards)
    held = (action == _ROLLBACK) & (risk < calibration.rollback_from)
    action = choose(held, _CONTINUE, action)
    why = _reasons_to_pause(calibration.pauses, action, risk, evidence)
    return action, risk, why + Reason.FALSE_ALARM_BOUND.value * held, why > 0


def _reasons_to_pause(
    rules: PauseRules, action: Number, risk: Number, evidence: Evidence
) -> Number:
    goes_on = action == Action.CONTINUE
    doubt = choose(goes_on, risk, 1.0 - risk)
    doubtful = doubt > (inf if rules.max_doubt is None else rules.max_doubt)
    return (
        Reason.TELEMETRY_MISSING.value * (goes_on & evidence.is_silent)
        + Reason.OUT_OF_RANGE.value * (goes_on & evidence.is_outside)
        + Reason.FEW_REQUESTS.value * (evidence.requests < rules.min_requests)
        + Reason.DOUBT.value * doubtful
    )
