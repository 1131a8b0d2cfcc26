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

"""The report as one page that needs nothing else: no script, no other file, no other host."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from oumi_deploy.evaluation.report.charts import chart

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#c8ced6;--first:#0072b2;
--second:#b84d00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--paper:#15181c;--line:#454c55;
--first:#58b4e8;--second:#f09a50}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;
margin:0 auto;padding:1rem}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.2rem;border-top:1px solid var(--line);
padding-top:.8rem}
.box{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;
font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.3rem 0}
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left}
svg{width:100%;max-width:30rem;height:auto;fill:var(--ink);font-size:11px}.mid{text-anchor:middle}
.end{text-anchor:end}.axis{stroke:var(--ink);fill:none}
.mark{stroke:var(--second);stroke-dasharray:4 3}
polyline{fill:none;stroke-width:2}.first{stroke:var(--first)}.second{stroke:var(--second);
stroke-dasharray:5 3}.even{stroke:var(--line);stroke-width:1}circle{fill:var(--first)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem}
.warn li{margin:.3rem 0}code{overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0;font-size:11pt}h2,figure,.case{break-inside:avoid}
.box{overflow:visible}table{font-size:7pt}th,td{padding:.1rem .25rem;white-space:normal}}
"""

_FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "mean_reward": "mean reward",
    "mean_reward_with_delay": "with delay",
    "median_delay_minutes": "minutes to rollback",
    "share_ever_paused": "ever paused",
    "share_ended_by_fallback": "ended by fallback",
}


def render(contents: Mapping[str, Any]) -> str:
    """Renders what `report_contents` returns."""
    body = [
        "<h1>Deployment policy: report</h1>",
        _summary(contents),
        "<h2>Where it must not be trusted</h2>",
        _warnings(contents["warnings"]),
        "<h2>Beside what teams use today</h2>",
        _comparison(contents["comparison"]),
        "<h2>Does its risk hold?</h2>",
        _reliability(contents["reliability"]),
        "<h2>False alarms</h2>",
        _false_alarms(contents["false_alarms"]),
        "<h2>How fast</h2>",
        _delay(contents["delay"]),
        *(_breakdown(name, rows) for name, rows in contents["by"].items()),
        "<h2>The worst decisions</h2>",
        *(_case(case) for case in contents["worst"]),
        "" if contents["worst"] else "<p>None: every decision was the better one.</p>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Deployment policy: report</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _summary(contents: Mapping[str, Any]) -> str:
    policy, judged = contents["policy"], contents["judged_on"]
    training, calibration = policy["training_data"], policy["calibration"]
    lines = [
        f"A {policy['kind']} of Q-values, form {policy['form']}, on the state "
        f"{', '.join(policy['state'])}.",
        f"Trained on {training.get('n_episodes', '?')} episodes in {training.get('n_groups', '?')} "
        f"groups ({training.get('n_good', '?')} good, {training.get('n_bad', '?')} bad), "
        f"fingerprint {str(training.get('fingerprint', '?'))[:12]}.",
        f"Judged on {judged['n_episodes']} episodes in {judged['n_groups']} groups "
        f"({judged['n_good']} good, {judged['n_bad']} bad, {judged['n_unlabelled']} unlabelled). "
        f"{judged['n_trained_on']} of the file are of groups that it was trained on"
        + (": no others were there." if judged["all_seen"] else "; they are left out."),
    ]
    if calibration is not None:
        on, pauses = calibration["fitted_on"], calibration["pauses"]
        bound = (
            "no bound on false alarms"
            if calibration["alpha"] is None
            else (
                f"false alarms bounded by {calibration['alpha']:g}: it rolls back from a risk of "
                f"{calibration['rollback_from']:.3f} on"
            )
        )
        lines.append(
            f"Calibrated on {on.get('n_good', '?')} good and {on.get('n_bad', '?')} bad releases "
            f"of {on.get('n_groups', '?')} groups; {bound}. It pauses below "
            f"{pauses['min_requests']:g} requests; pause {pauses['pause_limit']} becomes "
            f"{pauses['pause_fallback']}."
        )
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return "<p>Nothing in these episodes speaks against it.</p>"
    return f"<ul class='warn'>{''.join(f'<li>{escape(w)}</li>' for w in warnings)}</ul>"


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    if metric["low"] is None:
        return f"{metric['value']:.3g}"
    return f"{metric['value']:.3g} ({metric['low']:.3g} to {metric['high']:.3g})"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    return (
        f'<div class="box" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _comparison(table: Mapping[str, Any]) -> str:
    def row(entry: Mapping[str, Any]) -> list[str]:
        gain = entry["gains"] and entry["gains"]["mean_reward_with_delay"]
        name = entry["name"] + ("" if entry["online"] else " (in hindsight)")
        return [name, *(_cell(entry["metrics"][k]) for k in _FIGURES), _cell(gain or None)]

    drawn = _table(
        "Figures with 95 % intervals from resampling groups. Baselines are fitted on the other "
        "folds of these episodes. The gain is the policy's, in mean reward with delay, release by "
        "release.",
        ["", *_FIGURES.values(), "gain of the policy"],
        [row(entry) for entry in table["rows"]],
    )
    return drawn + "".join(f"<p>{escape(note)}</p>" for note in table["notes"])


def _reliability(held: Mapping[str, Any] | None) -> str:
    if held is None:
        return "<p>The policy is not calibrated, so it states no risk.</p>"
    dots = [(b["risk"], b["bad"], b["low"] or 0.0, b["high"] or b["bad"]) for b in held["bins"]]
    drawn = chart(
        "Stated risk against the share of bad releases, in ten bins",
        "stated risk where the rollout ended",
        "share bad",
        [("even", [(0, 0), (1, 1)])],
        dots=dots,
    )
    return (
        f"<figure>{drawn}<figcaption>Each dot is a tenth of the releases; on the line, risk is "
        f"what it says. Calibration error {_cell(held['calibration_error'])}, Brier score "
        f"{_cell(held['brier'])}.</figcaption></figure>"
    )


def _false_alarms(told: Mapping[str, Any]) -> str:
    alpha = (
        f"No bound was set. These {told['n_groups']} groups would support one of "
        f"{told['smallest_alpha']:.3g} or more."
        if told["alpha"] is None
        else f"The bound is {told['alpha']:g}."
    )
    return (
        f"<p>Share of a group's healthy releases that it rolls back, mean over groups: "
        f"{_cell(told['share'])}, of it by the fallback of a pause "
        f"{_cell(told['share_by_fallback'])}. {escape(alpha)}</p>"
    )


def _delay(delay: Mapping[str, Any]) -> str:
    if not delay["delays"]:
        return "<p>No bad release was rolled back.</p>"
    points, share = [(0.0, 0.0)], 0.0
    for at, reached in zip(delay["delays"], delay["share"], strict=True):
        points += [(at, share), (at, reached)]
        share = reached
    longest = max(delay["delays"][-1], 1.0)
    drawn = chart(
        f"Share of bad releases rolled back within so many {delay['unit']}",
        f"{delay['unit']} since the first observation",
        "share of bad releases",
        [("first", [*points, (longest, share)])],
        x_max=longest,
    )
    return f"<figure>{drawn}<figcaption>Bad releases rolled back so far.</figcaption></figure>"


def _breakdown(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    keys = ("n_bad", "caught", "n_good", "disturbed", "median_delay_steps", "mean_reward")
    head = [
        "",
        "bad",
        "of them caught",
        "good",
        "of them disturbed",
        "median delay, steps",
        "reward",
    ]
    cells = [
        [row["name"], *("-" if row[k] is None else f"{row[k]:.4g}" for k in keys)] for row in rows
    ]
    title = escape(name.replace("_", " "))
    return f"<h2>By {title}</h2>{_table('Counts of releases; mean reward.', head, cells)}"


def _case(case: Mapping[str, Any]) -> str:
    n = max((len(values) for values in case["metrics"].values()), default=1)
    charts = (
        [_timeline("risk", case["risk"], None, case["at"], n)]
        if case["risk"][0] is not None
        else []
    )
    for name, values in case["metrics"].items():
        old = case["old_version"].get(f"control_{name}")
        charts.append(_timeline(name, values, old, case["at"], n))
    service = f" of {case['service']}" if case["service"] else ""
    title = f"{case['episode_id']}{service}: {case['label']}, {case['decision']}"
    why = " by the fallback of a pause" if case["fell_back"] else ""
    return (
        f'<section class="case"><h3>{escape(title)}{why}</h3><p>{escape(case["explanation"])} '
        f"It cost {case['loss']:.0f} against the better decision.</p><details><summary>Timeline"
        f'</summary><div class="charts">{"".join(charts)}</div></details></section>'
    )


def _timeline(
    name: str, values: Sequence[float | None], old: Sequence[float | None] | None, at: int, n: int
) -> str:
    series = [("first", values)] + ([("second", old)] if old else [])
    lines = [
        (kind, [(float(i), v) for i, v in enumerate(vs) if v is not None]) for kind, vs in series
    ]
    highest = max((y for _, points in lines for _, y in points), default=1.0) or 1.0
    legend = "; dashed: the old version" if old else ""
    drawn = chart(
        f"{name} of the new version by observation{legend}, decided at {at}",
        f"observation{legend}",
        name,
        lines,
        x_max=float(max(n - 1, 1)),
        y_max=highest,
        mark=float(at),
    )
    return f"<figure>{drawn}</figure>"
