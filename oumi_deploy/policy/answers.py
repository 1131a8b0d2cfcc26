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

"""From Q-values to answers: what the policy does by itself, what it holds back, and for how long.

To a rollout tool CONTINUE means: send more traffic. It is said only where the risk is at most the
rewards' break-even, and something was seen that carries it. The rules, from the mildest answer to
the severest; the severest that applies is the answer:

1. CONTINUE.
2. PAUSE: nothing that the state can use was reported (`telemetry_missing`; in the place of a
   ROLLBACK too, unless the old version reports what the state looks for in both), a value is worse
   than all that training has seen (`out_of_range`), the requests are too few (`few_requests`), the
   decision would be wrong too often (`doubt`), a guardrail asks for it (`guardrail`), the risk is
   above break-even and the Q-values would rather look again (`watching`), or the bound on false
   alarms does not let a ROLLBACK through (`false_alarm_bound`).
3. At PAUSE number `watch_limit` running, or the last observation, above break-even: ROLLBACK where
   that pays more than a person's time (`watch_ended`), else the rollout is held for a person.
4. At PAUSE number `pause_limit` running, or the last observation: `pause_fallback`. As CONTINUE it
   never promotes above break-even, nor what nobody saw, nor against a guardrail; it is held then.
5. ROLLBACK: it is worth more than CONTINUE and the risk is above break-even, or the risk is at
   least `certain_risk`, or a guardrail asks for it.

Risk and Q(ROLLBACK) - Q(CONTINUE) never fall when the newest value of a metric is worse, so each
rule that applies goes on applying, and no answer becomes milder.

Both steps take arrays of n observations, or the numbers of one. A rollout in progress asks for one
at a time and counts its pauses; a data set is answered at once.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from oumi_deploy.policy import version_1
from oumi_deploy.policy.calibration import UNCALIBRATED, Calibration
from oumi_deploy.policy.pauses import FALLBACKS, PAUSE, Evidence, Guard, Reason
from oumi_deploy.problem.arithmetic import Number, anywhere, choose, negate
from oumi_deploy.problem.rewards import Action, Rewards

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

ANSWERS = FALLBACKS
"""What a policy can answer; the codes of `Answers.decision`."""

PAUSED = ANSWERS.index(PAUSE)

_CONTINUE, _ROLLBACK = Action.CONTINUE.value, Action.ROLLBACK.value
_NEVER_CONTINUE = Reason.TELEMETRY_MISSING.value | Reason.GUARDRAIL.value
"""What is no ground for CONTINUE, however long it lasts."""


class Preferences(NamedTuple):
    """What a policy makes of n observations, or of one in numbers, before pauses are counted.

    Attributes:
        action: What it would do by itself, int of shape (n,).
        risk: P(bad | seen so far), shape (n,).
        reasons: `Reason` flags, int of shape (n,); what holds the action back among them.
        wants_pause: Whether the action is held back, bool of shape (n,).
        may_end_in_rollback: Whether ROLLBACK is what the end of a watch would come to: the risk is
            above break-even, ROLLBACK pays more than a person's time, and nothing forbids it, bool
            of shape (n,).
    """

    action: Number
    risk: Number
    reasons: Number
    wants_pause: Number
    may_end_in_rollback: Number


@dataclass(frozen=True, eq=False)
class Answers:
    """What a policy answers to n observations, or to one in numbers.

    Attributes:
        decision: Index into ANSWERS, int of shape (n,).
        risk: P(bad | seen so far), shape (n,).
        reasons: `Reason` flags, int of shape (n,).
        fell_back: Whether the decision is the CONTINUE or ROLLBACK that a pause became, bool (n,).
        held: Whether it is a PAUSE that a person must end, bool of shape (n,).
    """

    decision: Number
    risk: Number
    reasons: Number
    fell_back: Number
    held: Number

    @property
    def actions(self) -> Number:
        """What is done: the decision, a PAUSE going on as a CONTINUE does."""
        return choose(self.decision == _ROLLBACK, _ROLLBACK, _CONTINUE)

    @property
    def confidence(self) -> Number:
        """Probability that the decision is right; for PAUSE the larger of risk and 1 - risk."""
        is_rollback = (self.decision == _ROLLBACK) | ((self.decision == PAUSED) & (self.risk > 0.5))
        return choose(is_rollback, self.risk, 1.0 - self.risk)


def prefer(policy: "DeploymentPolicy", evidence: Evidence) -> Preferences:
    """Weighs what n observations carry.

    Args:
        policy: The policy; one that is not calibrated uses the risk that Q(ROLLBACK) implies.
        evidence: What the observations carry.
    """
    calibration, rewards = policy.calibration, policy.rewards
    if policy.version == 1:
        action, risk, reasons, wants_pause = version_1.prefer(calibration, rewards, evidence)
        return Preferences(action, risk, reasons, wants_pause, wants_pause)
    calibration = calibration or UNCALIBRATED
    rules = calibration.pauses
    worth = _weigh(calibration, rewards, evidence.by_action)
    few = evidence.requests < rules.min_requests
    unsupported = few
    unsupported_end = few
    if anywhere(few):
        without = _weigh(calibration, rewards, evidence.uncounted_by_action)
        unsupported = few & negate(without.prefers | without.is_certain)
        unsupported_end = few & negate(without.pays)

    risk, most_doubt = worth.risk, inf if rules.max_doubt is None else rules.max_doubt
    is_bound, is_doubted = risk < calibration.rollback_from, 1.0 - risk > most_doubt
    wants_rollback = worth.prefers | worth.is_certain
    # That neither version reports is the telemetry's or the traffic's doing, and says as little
    # for ROLLBACK; that the new one alone is silent may be its own.
    says_nothing = evidence.is_silent & negate(evidence.is_unmatched)
    forbidden = is_bound | is_doubted | says_nothing
    asked = evidence.guard == Guard.ROLLBACK
    goes_on = negate((wants_rollback & negate(forbidden | unsupported)) | asked)
    gated = wants_rollback & goes_on
    doubted = (gated & is_doubted) | (goes_on & negate(worth.is_risky) & (risk > most_doubt))
    # `value`: numpy looks a flag over for a while before it takes it for a number.
    reasons = (
        Reason.TELEMETRY_MISSING.value * (goes_on & evidence.is_silent)
        + Reason.OUT_OF_RANGE.value * (goes_on & evidence.is_outside)
        + Reason.FEW_REQUESTS.value * (goes_on & few)
        + Reason.DOUBT.value * doubted
        + Reason.FALSE_ALARM_BOUND.value * (gated & is_bound)
        + Reason.WATCHING.value * (goes_on & worth.is_risky & negate(wants_rollback))
        + Reason.GUARDRAIL.value * (evidence.guard > 0)
    )
    is_certain = worth.is_certain & negate(worth.prefers | goes_on | asked)
    return Preferences(
        action=choose(goes_on, _CONTINUE, _ROLLBACK),
        risk=risk,
        reasons=reasons + Reason.CERTAIN_RISK.value * is_certain,
        wants_pause=goes_on & (reasons > 0),
        may_end_in_rollback=worth.pays & negate(forbidden | unsupported_end),
    )


class _Worth(NamedTuple):
    """What Q-values say of ROLLBACK: the risk, and what follows from it and from them."""

    risk: Number
    is_risky: Number
    prefers: Number
    is_certain: Number
    pays: Number


def _weigh(calibration: Calibration, rewards: Rewards, by_action: Number) -> _Worth:
    q_continue, q_rollback = by_action
    risk = calibration.risk_of(q_rollback, rewards)
    is_risky = risk > rewards.break_even()
    certain = calibration.pauses.certain_risk
    return _Worth(
        risk,
        is_risky,
        is_risky & (q_rollback > q_continue),
        risk >= (certain if certain < 1.0 else inf),
        is_risky & (rewards.of_rollback(risk) > rewards.held),
    )


def settle(
    policy: "DeploymentPolicy",
    preferred: Preferences,
    running: Number,
    is_last: Number,
) -> Answers:
    """Turns preferences into answers.

    Args:
        policy: The policy.
        preferred: What the policy prefers at n observations.
        running: How many observations running want a pause, this one included, int (n,).
        is_last: Whether no later observation will come, nor the tool ask again, bool of shape (n,).
    """
    rules, wants = (policy.calibration or UNCALIBRATED).pauses, preferred.wants_pause
    too_long, at_end = wants & (running >= rules.pause_limit), wants & is_last
    ends, fallback = too_long | at_end, ANSWERS.index(rules.pause_fallback)
    reasons = (
        preferred.reasons
        + Reason.PAUSED_TOO_LONG.value * too_long
        + Reason.LAST_OBSERVATION.value * at_end
    )
    if policy.version == 1:
        decision = choose(wants, choose(ends, fallback, PAUSED), preferred.action)
        return Answers(decision, preferred.risk, reasons, fell_back=ends, held=ends & negate(wants))
    is_risky = preferred.risk > policy.rewards.break_even()
    watch_ends = wants & is_risky & ((running >= rules.watch_limit) | is_last)
    rolls_back = watch_ends & preferred.may_end_in_rollback
    falls_back = ends & negate(rolls_back)
    if fallback == _CONTINUE:
        unseen = (preferred.reasons & _NEVER_CONTINUE) > 0
        falls_back = falls_back & negate(is_risky | unseen)
    elif fallback == PAUSED:
        falls_back = ends & negate(wants)
    held = (ends | watch_ends) & negate(rolls_back | falls_back)
    decision = choose(wants & negate(rolls_back), PAUSED, _ROLLBACK)
    return Answers(
        decision=choose(wants, choose(falls_back, fallback, decision), preferred.action),
        risk=preferred.risk,
        reasons=reasons
        + Reason.WATCH_ENDED.value * watch_ends
        + Reason.HELD_FOR_A_PERSON.value * held,
        fell_back=falls_back,
        held=held,
    )


def pause_limit(policy: "DeploymentPolicy", preferred: Preferences) -> Number:
    """Returns how many observations running may want a pause until it ends, int of shape (n,)."""
    rules = (policy.calibration or UNCALIBRATED).pauses
    if policy.version == 1:
        return rules.pause_limit + 0 * preferred.action
    sooner = min(rules.watch_limit, rules.pause_limit)
    return choose(preferred.risk > policy.rewards.break_even(), sooner, rules.pause_limit)
