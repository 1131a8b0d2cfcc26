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

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.episodes.schema import number_column
from oumi_deploy.policy.answers import ANSWERS, Answers, pause_limit, settle
from oumi_deploy.policy.attribution import Attribution, MetricEffect, says_risk
from oumi_deploy.policy.calibration import UNCALIBRATED, Calibration
from oumi_deploy.policy.counterfactual import AT_LEAST, AT_MOST, Change
from oumi_deploy.policy.pauses import PAUSE, Reason
from oumi_deploy.policy.rollout import Newest
from oumi_deploy.policy.rulers import decimals_of, leading_feature, rulers_of, sign_of
from oumi_deploy.problem.rewards import ACTIONS, Action

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

_NAMED = 4
"""Metrics that are named one by one; of more, the first and their number."""

_CONTINUE = ACTIONS[Action.CONTINUE]

_SUMMARIES = {
    "mean": ", {} on average so far,",
    "max": ", {} at its highest so far,",
    "slope": ", with a slope of {},",
    "baseline": ", {} from its baseline,",
    "baseline_mean": ", on average {} from its baseline,",
    "control": ", {} from the old version's,",
    "control_mean": ", on average {} from the old version's,",
    "change": ", {} from its own average before,",
    "slope_before": ", with a slope of {} before,",
    "change_before": ", which had moved by {} before,",
    "control_change": ", with a difference to the old version that moved by {},",
}
"""How a sentence tells what is not the newest value of a metric."""


def sentence(
    policy: "DeploymentPolicy",
    newest: Newest,
    answers: Answers,
    attribution: Attribution,
    changes: Sequence[Change],
) -> str:
    """Says what was decided, why, and what would turn it.

    Args:
        policy: The policy.
        newest: The newest observation of a rollout.
        answers: What the policy answers to it, in arrays of n = 1.
        attribution: What the metrics add to its risk.
        changes: What would turn the decision.
    """
    decision = ANSWERS[int(answers.decision[0])]
    parts = [
        _why(policy, newest, answers),
        _what_pushed(policy, newest, answers, attribution),
        _what_would_turn(policy, newest, decision, changes),
    ]
    return f"{decision}: {'; '.join(filter(None, parts))}."


#
# What each metric did
#
def _what_pushed(
    policy: "DeploymentPolicy",
    newest: Newest,
    answers: Answers,
    attribution: Attribution,
) -> str:
    """Says which metric spoke most for the answer; nothing where the answer is not for the risk."""
    flags, decision = int(answers.reasons[0]), ANSWERS[int(answers.decision[0])]
    what, digits = "ROLLBACK's lead in expected reward", 1
    if says_risk(policy):
        what, digits = "it" if _tells_risk(policy, decision, flags) else _risk(policy), 2
        if flags and (policy.version == 1 or not _is_risky(policy, newest)):
            return ""
    before, now = (f"{x:.{digits}f}" for x in (attribution.reference_value, attribution.value))
    top = max(attribution.effects, key=lambda effect: _weight(effect, decision))
    pushed = round(top.contribution, digits)
    if not pushed or (decision != _CONTINUE and pushed < 0):
        has_baseline = all(effect.baseline is not None for effect in attribution.effects)
        usual = "at its baseline" if has_baseline else "as usual"
        is_now = f", and it is {now}" * (what != "it")
        return f"with every metric {usual} {what} would be {before}{is_now}"
    verb = "raised" if pushed > 0 else "lowered"
    said = f"{_described(policy, top)} {verb} {what}"
    is_alone = len(attribution.effects) == 1
    said += "" if is_alone else f" most ({pushed:+.{digits}f})" + ", in all" * (before != now)
    return said if before == now else f"{said} from {before} to {now}"


def _tells_risk(policy: "DeploymentPolicy", decision: str, flags: int) -> bool:
    """Returns whether `_why` has told the risk."""
    told = Reason.WATCHING | Reason.CERTAIN_RISK | Reason.WATCH_ENDED | Reason.FALSE_ALARM_BOUND
    return bool(flags & told) or (policy.version > 1 and decision == _CONTINUE and not flags)


def _is_risky(policy: "DeploymentPolicy", newest: Newest) -> bool:
    return float(newest.weighed.preferred.risk[0]) > policy.rewards.break_even()


def _weight(effect: MetricEffect, decision: str) -> float:
    """Returns how much an effect matters to the answer: either way, where that is CONTINUE."""
    return abs(effect.contribution) if decision == _CONTINUE else effect.contribution


def _described(policy: "DeploymentPolicy", effect: MetricEffect) -> str:
    """Names a metric with its newest value, and what that is held against.

    A newest value that is worse never lowers the risk, and one that is no worse never raises it:
    where it says nothing of the kind, the metric's history does.
    """
    scale = _scale(policy, effect.metric)

    def beside(references: Sequence[tuple[str, float]]) -> str:
        return "".join(f" ({what} {_number(x, scale)})" for what, x in references[:1] if what)

    references = _references(policy, effect)
    if effect.value is None:
        return f"{effect.metric}, not reported{beside(references)},"
    sign, raised = sign_of(policy.encoder, effect.metric), effect.contribution > 0
    if sign:
        value = effect.value
        references = [(w, x) for w, x in references if (sign * (value - x) > 0) == raised]
        if not references:
            return f"the history of {effect.metric}"
    return f"{effect.metric} {_number(effect.value, scale)}{beside(references)}"


def _references(policy: "DeploymentPolicy", effect: MetricEffect) -> list[tuple[str, float]]:
    """Returns what a metric's newest value is held against, with names; one has none."""
    named = (("baseline", effect.baseline), ("old version", effect.control))
    at = leading_feature(policy.encoder, effect.metric)
    return [(what, x) for what, x in named if x is not None] or [
        ("", float(policy.encoder.center[at]))
    ]


def _scale(policy: "DeploymentPolicy", metric: str) -> float:
    return float(policy.encoder.scale[leading_feature(policy.encoder, metric)])


def _number(x: float, scale: float) -> str:
    text = f"{x:.{decimals_of(scale)}f}"
    return f"{x:.2g}" if x and not float(text) else text


#
# Why the answer is what it is
#
def _why(policy: "DeploymentPolicy", newest: Newest, answers: Answers) -> str:
    """Says by which rule it was decided; nothing where the metrics say it all."""
    calibration, running = policy.calibration or UNCALIBRATED, int(newest.weighed.pauses_running[0])
    flags = int(answers.reasons[0])
    decision = ANSWERS[int(answers.decision[0])]
    if not flags:
        is_plain = policy.version > 1 and decision == _CONTINUE
        return _break_even(policy, newest) if is_plain else ""
    why = ", and ".join(
        say(policy, calibration, newest) for reason, say in _SAYS.items() if flags & reason
    )
    since = f"after {running} observation{'s' * (running != 1)} running without a decision"
    if flags & Reason.LAST_OBSERVATION:
        since = "as no observation follows to wait for"
    if answers.held[0]:
        return f"a person must decide, {since}: {why}{_why_no_rollback(policy, newest, flags)}"
    if flags & Reason.WATCH_ENDED:
        risk = _break_even(policy, newest)
        return f"{since}, {risk}, and a ROLLBACK pays more than a person's time"
    if answers.fell_back[0]:
        return f"{since}, PAUSE becomes {decision}: {why}"
    if decision == PAUSE:
        more = ", and another look is worth more than a ROLLBACK" * bool(flags & Reason.WATCHING)
        return f"{why}{more} ({_count(policy, newest)})"
    return why


def _why_no_rollback(policy: "DeploymentPolicy", newest: Newest, flags: int) -> str:
    """Says what keeps a release that is held above break-even from being rolled back."""
    calibration, risk = policy.calibration or UNCALIBRATED, float(newest.weighed.preferred.risk[0])
    if not _is_risky(policy, newest) or flags & (Reason.FALSE_ALARM_BOUND | Reason.DOUBT):
        return ""
    if risk < calibration.rollback_from:
        return f", but {_bound(calibration, newest)}"
    most_doubt = calibration.pauses.max_doubt
    if most_doubt is not None and 1.0 - risk > most_doubt:
        return f", but {_doubt(policy, calibration, newest)}"
    is_cheap = policy.rewards.of_rollback(risk) <= policy.rewards.held
    return ", but a ROLLBACK pays less than a person's time" * is_cheap


def _count(policy: "DeploymentPolicy", newest: Newest) -> str:
    """Says which PAUSE running this is, and what comes of it where all stays as it is."""
    preferred, running = newest.weighed.preferred, int(newest.weighed.pauses_running[0])
    limit = pause_limit(policy, preferred)
    last = settle(policy, preferred, limit, np.array([False]))
    if last.held[0]:
        end = "at the last of which a person must decide"
    else:
        end = f"the last of which becomes {ANSWERS[int(last.decision[0])]}"
    return f"PAUSE {running} of {int(limit[0])}, {end}"


def _risk(policy: "DeploymentPolicy") -> str:
    return "the risk" if policy.calibration is not None else "the uncalibrated risk"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Returns two numbers in as many digits as tell them apart, two at least."""
    for digits in range(2, 7):
        told = f"{one:.{digits}f}", f"{other:.{digits}f}"
        if told[0] != told[1]:
            return told
    return f"{one:.2f}", f"{other:.2f}"


def _break_even(policy: "DeploymentPolicy", newest: Newest) -> str:
    """Says on which side of the rewards' break-even the risk lies."""
    risk, bound = _apart(float(newest.weighed.preferred.risk[0]), policy.rewards.break_even())
    side = "above" if _is_risky(policy, newest) else "at most"
    return f"{_risk(policy)} {risk} is {side} {bound}, up to which a promotion pays"


def _watching(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    return _break_even(policy, newest)


def _certain_risk(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    risk, bound = float(newest.weighed.preferred.risk[0]), calibration.pauses.certain_risk
    return (
        f"{_risk(policy)} {_apart(risk, bound)[0]} is at least {bound:g}, from which on the answer "
        f"is {ACTIONS[Action.ROLLBACK]}"
    )


def _guardrail(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    names = newest.guardrails
    return f"the guardrail{'s' * (len(names) > 1)} {' and '.join(names)} fired"


def _silence(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    metrics = [policy.encoder.metrics[at] for at in policy.usable.columns]
    is_first = newest.past.memory.n_canary[0, 0] == 0
    which = "in the newest observation" if policy.version > 1 else "in the last two observations"
    which = "in the only observation so far" if is_first else which
    reported = ~np.isnan(newest.reading.values[0, list(policy.usable.columns)])
    if reported.any() and policy.version > 1:
        named = _listed([m for m, is_there in zip(metrics, reported, strict=True) if is_there])
        return (
            f"{named} alone cannot be used {which}: the policy reads it beside the baseline's or "
            "the old version's, which was not reported"
        )
    if len(metrics) == 1:
        return f"{metrics[0]} was not reported {which}"
    return f"none of {_listed(metrics)} was reported {which}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
    return ", ".join(names[:_NAMED]) + more


def _out_of_range(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    """Names the metric that lies farthest outside what training has seen, by its newest value."""
    encoder, features = policy.encoder, newest.weighed.features[0]
    low, high = encoder.range_of_values(calibration.pauses.range_margin)
    beyond = np.fmax(np.fmax(low - features, features - high), 0.0) / encoder.scale
    outside = [i for i in np.flatnonzero(beyond > 0).tolist() if encoder.state[i].metric]
    metric = encoder.state[max(outside, key=lambda i: beyond[i])].metric
    assert metric is not None, "clocks have no range"
    leading = leading_feature(encoder, metric)
    of_metric = [i for i in outside if encoder.state[i].metric == metric]
    at = leading if leading in of_metric else max(of_metric, key=lambda i: beyond[i])
    is_above = features[at] > high[at]
    x, seen = (
        _number(float(x), float(encoder.scale[at]))
        for x in (features[at], (encoder.high if is_above else encoder.low)[at])
    )
    value = float(newest.reading.values[0, encoder.metrics.index(metric)])
    newest_one = "" if np.isnan(value) else f" {_number(value, _scale(policy, metric))}"
    how = _SUMMARIES.get(encoder.state[at].kind, "").format(x)
    others = list(dict.fromkeys(str(encoder.state[i].metric) for i in outside))
    others.remove(metric)
    so_too = f"; so is {_listed(others)}" * bool(others)
    side = "worse than" if sign_of(encoder, metric) else "outside"
    end = f"{'at most' if is_above else 'at least'} {seen}{so_too}"
    return f"{metric}{newest_one}{how} is {side} all that training has seen ({end})"


def _few_requests(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    least, requests = calibration.pauses.min_requests, float(newest.reading.requests[0])
    short = 0.0 if policy.version == 1 else float(newest.past.requests_short[0])
    together = f", {short + requests:g} with those before," * bool(short)
    return f"requests were {requests:g}{together} where a decision takes {least:g}"


def _doubt(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    flags = int(newest.weighed.preferred.reasons[0])
    risk = float(newest.weighed.preferred.risk[0])
    is_rollback = _wants_rollback(policy, newest, flags)
    doubt = 1.0 - risk if is_rollback else risk
    return (
        f"{ACTIONS[is_rollback]} would be wrong with a probability of {doubt:.2f}, above the "
        f"{calibration.pauses.max_doubt:g} that is allowed"
    )


def _wants_rollback(policy: "DeploymentPolicy", newest: Newest, flags: int) -> bool:
    """Returns whether it is a ROLLBACK that doubt holds back, and not a CONTINUE."""
    if policy.version == 1:
        return int(newest.weighed.preferred.action[0]) == Action.ROLLBACK
    return float(newest.weighed.preferred.risk[0]) > policy.rewards.break_even()


def _false_alarm_bound(policy: "DeploymentPolicy", calibration: Calibration, newest: Newest) -> str:
    return f"the policy would rather roll back, but {_bound(calibration, newest)}"


def _bound(calibration: Calibration, newest: Newest) -> str:
    risk, bound = _apart(float(newest.weighed.preferred.risk[0]), calibration.rollback_from)
    return (
        f"the bound of {calibration.alpha:g} on false alarms lets a ROLLBACK through from a risk "
        f"of {bound} on, and this one is {risk}"
    )


_SAYS = {
    Reason.GUARDRAIL: _guardrail,
    Reason.TELEMETRY_MISSING: _silence,
    Reason.OUT_OF_RANGE: _out_of_range,
    Reason.FEW_REQUESTS: _few_requests,
    Reason.DOUBT: _doubt,
    Reason.FALSE_ALARM_BOUND: _false_alarm_bound,
    Reason.WATCHING: _watching,
    Reason.CERTAIN_RISK: _certain_risk,
}
"""What says why, in the order of a sentence."""


#
# What would turn it
#
def _what_would_turn(
    policy: "DeploymentPolicy", newest: Newest, decision: str, changes: Sequence[Change]
) -> str:
    """Says which change of one metric's newest value would turn the decision."""
    if not changes:
        if not rulers_of(policy, newest):
            return "which values of its metrics are worse is not known, so nothing would turn it"
        turn = "end the PAUSE" if decision == PAUSE else "turn the decision"
        which = {_CONTINUE: "worse", PAUSE: "other"}.get(decision, "better")
        return f"no {which} newest value of one metric alone would {turn}"
    first, *others = changes
    said = f"would {first.decision} if {_condition(newest, policy, first)}"
    for other in others:
        condition = _condition(newest, policy, other)
        condition = condition.removeprefix(f"{first.metric} were ")
        said += f", {other.decision} if {condition}"
    return said


def _condition(newest: Newest, policy: "DeploymentPolicy", change: Change) -> str:
    """Says what would have to be, as in `error_rate were below 0.02`."""
    if change.threshold is None:
        return f"{change.metric} were reported"
    if change.direction in (AT_LEAST, AT_MOST):
        return f"{change.metric} were {change.direction} {change.threshold:.10g}"
    at = policy.encoder.metrics.index(change.metric)
    reported = "reported and " * bool(np.isnan(newest.reading.values[0, at]))
    rule = number_column(change.metric)
    is_end = change.threshold in (rule.low, rule.high)
    where = f"{change.threshold:g}" if is_end else f"{change.direction} {change.threshold:.10g}"
    return f"{change.metric} were {reported}{where}"
