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
from oumi_deploy.policy.rollout import Decision
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.serving.log.entries import DecisionEntry

TELEMETRY_MISSING = "telemetry_missing"
"""The newest observation is too old."""

TELEMETRY_UNAVAILABLE = "telemetry_unavailable"
"""The telemetry cannot be collected."""

TOO_RISKY = "too_risky_to_promote"
"""At the last look the risk is above the one at which a promotion pays."""


def held_back(decision: Decision, reason: str | None) -> Decision:
    """Returns a decision, held back for a reason that is not the release's.

    Stale telemetry holds back CONTINUE alone, as missing telemetry does: a policy that has seen
    enough to roll back is not stopped by what it does not see now. Where nothing can be collected
    nothing is decided.
    """
    if reason is None or (reason == TELEMETRY_MISSING and decision.decision == "ROLLBACK"):
        return decision
    assert decision.risk is not None
    reasons = tuple(dict.fromkeys((*decision.reasons, reason)))
    surer = confidence_of(PAUSE, decision.risk)
    return replace(decision, decision=PAUSE, confidence=surer, reasons=reasons)


def not_promoted(entry: DecisionEntry, rewards: Rewards) -> DecisionEntry:
    """Returns a decision; as a PAUSE where it would promote a release that is too risky for that.

    A policy learns that CONTINUE waits for another observation. At the last one it promotes, which
    pays up to the rewards' break-even alone. A person decides: the bound on false alarms was
    calibrated for the policy's own rollbacks, and this would be none of them.
    """
    promotes = entry.last and entry.decision == "CONTINUE"
    if not promotes or entry.risk <= rewards.break_even():
        return entry
    return replace(
        entry,
        decision=PAUSE,
        answered=entry.answered if entry.shadow else PAUSE,
        confidence=confidence_of(PAUSE, entry.risk),
        reasons=[*entry.reasons, TOO_RISKY],
    )


def confidence_of(decision: str, risk: float) -> float:
    """Returns the probability that a decision is right; of a PAUSE that of the likelier outcome."""
    by_decision = {"CONTINUE": 1.0 - risk, "ROLLBACK": risk}
    return by_decision.get(decision, max(risk, 1.0 - risk))
