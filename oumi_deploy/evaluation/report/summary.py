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

"""The head of a report: its main figures, what the policy is, and what it was judged on."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from oumi_deploy.evaluation.report.html_pieces import paragraph, told
from oumi_deploy.policy.pauses import PAUSE

_KINDS = {
    "table": "a table of Q-values",
    "network": "a small network of Q-values",
    "trees": "gradient-boosted trees of Q-values",
}
_FEW_FEATURES = 12
"""Features that are listed at once; more are folded away."""

_FORMS = {
    "single": "each observation on its own",
    "sequential": "whole rollouts, one decision after the other",
}


def summary(contents: Mapping[str, Any]) -> str:
    """Returns the head of the page."""
    facts = {
        "The policy": _policy(contents["policy"]),
        "Its state": _state(contents["policy"]["state"]),
        "Trained on": _training(contents["policy"]["training_data"]),
        "Calibrated on": _calibration(contents["policy"]["calibration"]),
        "Pauses": _pauses(contents["policy"]),
        "Judged on": _judged(contents["judged_on"]),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{said}</dd>" for name, said in facts.items() if said)
    return f"{_seen(contents['judged_on'])}{_key_figures(contents)}<dl>{listed}</dl>"


def headline(contents: Mapping[str, Any]) -> str:
    """Returns the main figures in one line of plain text."""
    metrics, unit = contents["comparison"]["rows"][0]["metrics"], contents["delay"]["unit"]
    return (
        f"of those decided, bad releases caught {told(metrics['recall'], '.1%')} and healthy ones "
        f"rolled back {told(metrics['false_rollback_rate'], '.1%')}; held for a person "
        f"{told(metrics['share_held'], '.1%')}; mean reward with delay "
        f"{told(metrics['mean_reward_with_delay'], '.1f')}, median {unit} until rollback "
        f"{told(metrics[f'median_delay_{unit}'])}"
    )


def _key_figures(contents: Mapping[str, Any]) -> str:
    metrics, unit = contents["comparison"]["rows"][0]["metrics"], contents["delay"]["unit"]
    shown = (
        ("bad releases caught, of those decided", metrics["recall"], ".1%"),
        (
            "healthy releases rolled back, of those decided",
            metrics["false_rollback_rate"],
            ".1%",
        ),
        ("releases held for a person", metrics["share_held"], ".1%"),
        (
            f"{unit} until a bad release is rolled back, median",
            metrics[f"median_delay_{unit}"],
            "g",
        ),
        (
            "reward a release, with delay and held ones paid",
            metrics["mean_reward_with_delay"],
            ".1f",
        ),
    )
    told_ones = []
    for what, metric, tell in shown:
        value, _, interval = told(metric, tell).partition(" (")
        between = f" ({interval}" if interval else ""
        told_ones.append(f"<p><b>{escape(value)}</b>{what}<br><span>{escape(between)}</span></p>")
    return f'<div class="key">{"".join(told_ones)}</div>'


def _seen(judged: Mapping[str, Any]) -> str:
    n = judged["n_trained_on"]
    if not n:
        return ""
    if judged["all_seen"]:
        return paragraph(
            f"All {n:,} episodes are of groups that this policy was trained on, and no others are "
            "left: these figures say how well it remembers, not how well it decides.",
            "loud",
        )
    return paragraph(
        f"{n:,} of the {judged['n_in_file']:,} episodes are of groups that this policy was trained "
        f"on. They are left out: all that follows is of the other {judged['n_episodes']:,}.",
        "loud",
    )


def _state(names: Sequence[str]) -> str:
    is_open = " open" * (len(names) <= _FEW_FEATURES)
    return (
        f"<details{is_open}><summary>{len(names)} features</summary>{escape(', '.join(names))}"
        "</details>"
    )


def _policy(policy: Mapping[str, Any]) -> str:
    pays = policy["rewards"]
    rewards = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in pays.items())
    return (
        f"{_KINDS[policy['kind']]}, trained on {_FORMS[policy['form']]}; rewards: {rewards}; "
        f"discount {policy['discount']:g}. Which Q-function to prefer with how many releases to "
        "learn from, the README says"
    )


def _training(data: Mapping[str, Any]) -> str:
    words = _counts(data)
    if data.get("n_unlabelled"):
        words += f", {data['n_unlabelled']:,} unlabelled"
    print_ = data.get("fingerprint")
    return escape(f"{words}; fingerprint {str(print_)[:12]}" if print_ else words)


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    if calibration is None:
        return "nothing: it states no risk; <code>oumi-deploy calibrate</code> fits that"
    alpha, about = calibration["alpha"], calibration["fitted_on"]
    folds = ", each judged by policies like it that never saw the group"
    words = _counts(about) + folds * (about.get("how") == "cross-fitted")
    if alpha is None:
        return f"{words}; no bound on false alarms"
    return (
        f"{words}; false alarms bounded by alpha = {alpha:g}: it rolls "
        f"back from a risk of {calibration['rollback_from']:.3f} on"
    )


def _pauses(policy: Mapping[str, Any]) -> str:
    calibration, is_old = policy["calibration"], policy["version"] == 1
    if calibration is None:
        return "" if is_old else "by the rules of a policy that was never calibrated"
    rules, doubt = calibration["pauses"], calibration["pauses"]["max_doubt"]
    margin = rules["range_margin"]
    when = [
        f"below {rules['min_requests']:g} requests",
        "without telemetry",
        f"{'outside the' if is_old else 'where a value is worse than all of the'} training range"
        + f" by more than {margin:g} of its width" * bool(margin),
        *([] if doubt is None else [f"where it is wrong with a probability above {doubt:g}"]),
    ]
    end = f"pause number {rules['pause_limit']} running becomes {rules['pause_fallback']}"
    if is_old:
        return f"{', '.join(when)}; {end}"
    if rules["pause_fallback"] == PAUSE:
        end = f"at pause number {rules['pause_limit']} running a person must decide"
    when.append("where a promotion does not pay and another look is worth more than a ROLLBACK")
    certain, watch = rules["certain_risk"], min(rules["watch_limit"], rules["pause_limit"])
    sure = f"; from a risk of {certain:g} on it is ROLLBACK" * (certain < 1)
    return (
        f"{', '.join(when)}{sure}; {end}, and number {watch} where a promotion does not pay "
        "becomes ROLLBACK if that is worth more than a person's time, else a person must decide"
    )


def _judged(judged: Mapping[str, Any]) -> str:
    return (
        f"{_counts(judged)}; not scored: {judged['n_unlabelled']:,} unlabelled and "
        f"{judged['n_censored']:,} censored; {judged['n_trained_on']:,} of the "
        f"{judged['n_in_file']:,} in the file are known to be of groups that it was trained on"
    )


def _counts(of: Mapping[str, Any]) -> str:
    """Says how many episodes, as far as they were counted: a policy file may tell less."""
    good, bad, groups = (of.get(f"n_{name}") for name in ("good", "bad", "groups"))
    parts = [
        "" if good is None or bad is None else f"{good:,} good and {bad:,} bad releases",
        "" if groups is None else f"{groups:,} groups",
    ]
    return " of ".join(filter(None, parts)) or "releases that the policy file does not count"
