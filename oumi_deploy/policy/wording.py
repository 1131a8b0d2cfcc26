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

"""An explanation in one plain sentence, for the engineer on call."""

from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.episodes.schema import number_column
from oumi_deploy.policy.answers import PAUSED
from oumi_deploy.policy.attribution import Attribution, MetricEffect
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.counterfactual import Change
from oumi_deploy.policy.pauses import PAUSE, Reason
from oumi_deploy.policy.rollout import Newest
from oumi_deploy.policy.rulers import REQUESTS, decimals_of, leading_feature
from oumi_deploy.policy.weighing import End
from oumi_deploy.problem.rewards import ACTIONS, Action

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

_NAMED = 4
"""Metrics that are named one by one; of more, the first and their number."""


def sentence(
    policy: "DeploymentPolicy",
    newest: Newest,
    decision: str,
    attribution: Attribution,
    change: Change | None,
    when: End,
) -> str:
    """Says what was decided, why, and what would turn it."""
    why = _what_holds_back(policy, newest, when) or _what_pushed(policy, decision, attribution)
    return f"{decision}: {why}; {_what_would_turn(policy, newest, decision, change)}."


def _what_pushed(policy: "DeploymentPolicy", decision: str, attribution: Attribution) -> str:
    """Says which metric spoke most for the decision."""
    is_risk = policy.calibration is not None
    what, digits = ("the risk", 2) if is_risk else ("ROLLBACK's lead in expected reward", 1)
    sign, verb = (1, "raised") if decision == ACTIONS[Action.ROLLBACK] else (-1, "lowered")
    top = max(attribution.effects, key=lambda effect: sign * effect.contribution)
    before, now = (f"{x:.{digits}f}" for x in (attribution.reference_value, attribution.value))
    pushed = round(sign * top.contribution, digits)
    if pushed <= 0:
        return f"no metric {verb} {what}, {now}; with every metric at its baseline it is {before}"
    by = f" most ({sign * pushed:+.{digits}f}), in all" * (len(attribution.effects) > 1)
    return f"{_described(policy, top)} {verb} {what}{by} from {before} to {now}"


def _described(policy: "DeploymentPolicy", effect: MetricEffect) -> str:
    scale = float(policy.encoder.scale[leading_feature(policy.encoder, effect.metric)])
    baseline = "" if effect.baseline is None else f" (baseline {_number(effect.baseline, scale)})"
    if effect.value is None:
        return f"{effect.metric}, not reported{baseline},"
    return f"{effect.metric} {_number(effect.value, scale)}{baseline}"


def _number(x: float, scale: float) -> str:
    text = f"{x:.{decimals_of(scale)}f}"
    return f"{x:.2g}" if x and not float(text) else text


def _what_holds_back(policy: "DeploymentPolicy", newest: Newest, when: End) -> str:
    """Says why the answer is not simply what the policy prefers; empty where it is."""
    calibration, weighed = policy.calibration, newest.weighed
    if calibration is None or not weighed.preferred.reasons[0]:
        return ""
    answers = weighed.answers(policy, when)
    flags, rules = answers.reasons[0], calibration.pauses
    says = {
        Reason.TELEMETRY_MISSING: _silence,
        Reason.OUT_OF_RANGE: _out_of_range,
        Reason.FEW_REQUESTS: _few_requests,
        Reason.DOUBT: _doubt,
        Reason.FALSE_ALARM_BOUND: _false_alarm_bound,
    }
    why = " and ".join(
        say(policy, calibration, newest) for reason, say in says.items() if flags & reason
    )
    count = f"pause {weighed.pauses_running[0]} of {rules.pause_limit}"
    if answers.decision[0] == PAUSED:
        return f"{why} ({count}, the last of which becomes {rules.pause_fallback})"
    if flags & Reason.LAST_OBSERVATION:
        return f"{why}, and no observation follows to wait for"
    return f"{why}, and this is {count}" if flags & Reason.PAUSED_TOO_LONG else why


def _silence(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    metrics = [policy.encoder.metrics[at] for at in policy.usable.columns]
    is_first = newest.past.memory.n_canary[0, 0] == 0
    when = "in the only observation so far" if is_first else "in the newest observation"
    if len(metrics) == 1:
        return f"{metrics[0]} was not reported {when}"
    more = f" and {len(metrics) - _NAMED} more" * (len(metrics) > _NAMED)
    return f"none of {', '.join(metrics[:_NAMED])}{more} was reported {when}"


def _out_of_range(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    """Names the value that lies farthest outside what training has seen."""
    encoder, features = policy.encoder, newest.weighed.features[0]
    low, high = encoder.range_of_values(calibration.pauses.range_margin)
    beyond = np.fmax(np.fmax(low - features, features - high), 0.0)
    farthest = int(np.argmax(beyond / encoder.scale))
    is_above = features[farthest] > high[farthest]
    bound = encoder.high[farthest] if is_above else encoder.low[farthest]
    value, seen = (_number(float(x), encoder.scale[farthest]) for x in (features[farthest], bound))
    where = f"above the {seen}" if is_above else f"below the {seen}"
    n_more = int((beyond > 0).sum()) - 1
    more = f" ({n_more} more are outside what it has seen)" * (n_more > 0)
    end = "at most" if is_above else "at least"
    return f"{encoder.names[farthest]} {value} is {where} that training has seen {end}{more}"


def _few_requests(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    least = calibration.pauses.min_requests
    return f"requests were {newest.reading.requests[0]:g}, and a decision takes {least:g}"


def _doubt(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    preferred = newest.weighed.preferred
    action, risk = int(preferred.action[0]), float(preferred.risk[0])
    doubt = 1.0 - risk if action == Action.ROLLBACK else risk
    return (
        f"{ACTIONS[action]} would be wrong with a probability of {doubt:.2f}, above the "
        f"{calibration.pauses.max_doubt:g} that is allowed"
    )


def _false_alarm_bound(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    risk = float(newest.weighed.preferred.risk[0])
    return (
        f"the policy prefers ROLLBACK, but the bound of {calibration.alpha:g} on false alarms "
        f"lets it through from a risk of {calibration.rollback_from:.2f} on, and this one is "
        f"{risk:.2f}"
    )


def _what_would_turn(
    policy: "DeploymentPolicy", newest: Newest, decision: str, change: Change | None
) -> str:
    """Says which change of one metric's newest value would turn the decision."""
    if change is None:
        turn = "end the pause" if decision == PAUSE else "turn the decision"
        return f"no other newest value of one metric, as far as training has seen, would {turn}"
    would = f"would {change.decision}"
    if change.threshold is None:
        return f"{would} if {change.metric} were reported"
    if change.metric == REQUESTS and policy.calibration is not None:
        rules = policy.calibration.pauses
        if change.threshold == rules.min_requests and change.direction == "above":
            return f"{would} if requests were at least {change.threshold:g}"
    metrics = policy.encoder.metrics
    is_missing = bool(np.isnan(newest.reading.values[0, metrics.index(change.metric)]))
    rule = number_column(change.metric)
    is_end = change.threshold in (rule.low, rule.high)
    where = f"{change.threshold:g}" if is_end else f"{change.direction} {change.threshold:.10g}"
    return f"{would} if {change.metric} were {'reported, ' * is_missing}{where}"
