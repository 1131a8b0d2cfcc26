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

"""What the service makes of a decision whose evidence does not carry it."""

from dataclasses import replace

from oumi_deploy.policy.pauses import PAUSE
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.rollout import Decision
from oumi_deploy.serving.log.entries import HELD_FOR_A_PERSON

TELEMETRY_MISSING = "telemetry_missing"
"""The newest observation is too old."""

TELEMETRY_UNAVAILABLE = "telemetry_unavailable"
"""The telemetry cannot be collected."""

TOO_RISKY = "too_risky_to_promote"
"""At the last look the risk is above the one at which a promotion pays; of policies of version 1,
whose own rules let it pass, and in older logs."""


def held_back(
    decision: Decision, reason: str | None, missed: int, policy: DeploymentPolicy
) -> Decision:
    """Returns a decision, held back for a reason that is not the release's.

    Stale telemetry holds back CONTINUE alone, as missing telemetry does: a policy that has seen
    enough to roll back is not stopped by what it does not see now. Where nothing can be collected
    nothing is decided. What did not come counts as pauses; at their limit a person must decide.

    Args:
        decision: What the policy decides.
        reason: Why it is held back, None where it is not.
        missed: Observations that should have come since the newest, 0 or more.
        policy: The policy, calibrated.
    """
    if reason is None or (reason == TELEMETRY_MISSING and decision.decision == "ROLLBACK"):
        return decision
    assert policy.calibration is not None, "the service takes calibrated policies only"
    limit, pauses = policy.calibration.pauses.pause_limit, decision.pauses + missed
    decision = replace(decision, pauses=pauses, pause_limit=decision.pause_limit or limit)
    decision = _as_pause(decision, reason)
    return decision if pauses < limit else for_a_person(decision)


def for_a_person(decision: Decision) -> Decision:
    """Returns a PAUSE as one that a person must end, and any other decision as it is."""
    if decision.decision != PAUSE:
        return decision
    return _as_pause(decision, HELD_FOR_A_PERSON)


def _as_pause(decision: Decision, reason: str) -> Decision:
    assert decision.risk is not None, "the service takes calibrated policies only"
    reasons = tuple(dict.fromkeys((*decision.reasons, reason)))
    surer = confidence_of(PAUSE, decision.risk)
    return replace(decision, decision=PAUSE, confidence=surer, reasons=reasons)


def not_promoted(decision: Decision, last: bool, policy: DeploymentPolicy) -> Decision:
    """Returns a decision; of a policy of version 1 as a PAUSE where it would promote too riskily.

    Such a policy goes on where another look is worth more than a rollback. At the last look that
    promotes, which pays up to the rewards' break-even alone.
    """
    promotes = last and decision.decision == "CONTINUE" and policy.version == 1
    if not promotes or decision.risk is None or decision.risk <= policy.rewards.break_even():
        return decision
    return _as_pause(decision, TOO_RISKY)


def confidence_of(decision: str, risk: float) -> float:
    """Returns the probability that a decision is right; of a PAUSE that of the likelier outcome."""
    by_decision = {"CONTINUE": 1.0 - risk, "ROLLBACK": risk}
    return by_decision.get(decision, max(risk, 1.0 - risk))
