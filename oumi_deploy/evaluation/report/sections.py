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

"""The sections of a report that show or tell, each from its part of the contents."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from oumi_deploy.evaluation.report import drawings
from oumi_deploy.evaluation.report.html_pieces import charts, figure, paragraph, told

_KINDS = {
    "missed": "bad, and never rolled back",
    "needless": "good, and rolled back",
    "held": "held for a person to decide",
    "late": "bad, and rolled back late",
}


def warnings(said: Sequence[str]) -> str:
    """Lists what speaks against trusting it."""
    if not said:
        return paragraph("Nothing in these episodes speaks against it.")
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in said)}</ul>"


def reliability(held: Mapping[str, Any] | None, is_calibrated: bool) -> str:
    """Shows stated risk against what came of it, of releases that were held as well."""
    advice = ""
    if not is_calibrated:
        what = "it states no risk" if held is None else "its risk is what its Q-values imply"
        advice = (
            f"<p>The policy is not calibrated, so {what}. Bring releases of groups that it was not "
            "trained on, and run</p><p><code>oumi-deploy calibrate --policy POLICY --episodes "
            "HELD_OUT --out CALIBRATED</code></p>"
        )
    if held is None:
        return advice
    drawn = charts(
        [
            figure(
                drawings.reliability_diagram(held),
                "Each dot is one of the bins of equal filling, with its 95 % interval: on the "
                "line, a stated risk is what it says.",
            ),
            figure(
                drawings.risk_histogram(held["histogram"]),
                "Which risks were stated: the farther apart the good and the bad, the more the "
                "policy knows when a rollout ends.",
            ),
        ]
    )
    errors = paragraph(
        f"Calibration error {told(held['calibration_error'], '.3f')}, the mean distance of the "
        f"dots from the line; Brier score {told(held['brier'], '.3f')}, the mean squared error of "
        "the risk. Both are 0 at best."
    )
    return advice + drawn + errors


def coverage(told_of: Mapping[str, Any]) -> str:
    """Shows how wrong decisions are, if the most doubtful releases are held for a person."""
    own = told_of["own"]
    where = f"The policy decides {own['share']:.1%} of these releases"
    where += "." if own["error"] is None else f", and {own['error']:.1%} of them wrongly."
    return charts(
        [
            figure(
                drawings.risk_coverage(told_of),
                "The risk-coverage curve (Geifman and El-Yaniv 2017): if only so many of the "
                "surest decisions were taken, and the others left to a person, so many of those "
                "taken would be wrong; with 95 % intervals. The open dot is the policy as it is.",
            )
        ]
    ) + paragraph(
        f"{where} Doubt is the stated probability that the decision is wrong. The lower the curve "
        "starts and the later it rises, the better the policy knows what to leave to a person."
    )


def delay(told_of: Mapping[str, Any]) -> str:
    """Shows how long bad releases stood."""
    if not told_of["delays"]:
        return paragraph("No bad release was rolled back.")
    unit = told_of["unit"]
    return paragraph(
        f"{told_of['n_caught']:,} of {told_of['n_bad']:,} bad releases were rolled back, half of "
        f"these within {told_of['median']:.3g} {unit}"
        + f"; {told_of['n_held']:,} were held for a person" * bool(told_of["n_held"])
        + "."
    ) + charts(
        [
            figure(
                drawings.caught_within(told_of),
                f"How many of all bad releases were rolled back within so many {unit}: the line "
                "ends at the share that was ever caught.",
            ),
            figure(
                drawings.delay_histogram(told_of),
                f"How the bad releases that were rolled back spread over the {unit} it took.",
            ),
        ]
    )


def worst(cases: Sequence[Mapping[str, Any]]) -> str:
    """Shows the worst decisions, each with its timeline."""
    if not cases:
        return paragraph("None: every decision was the better one, at once.")
    legend = (
        "Bad releases that stayed come first, then good ones that were rolled back, then releases "
        "held for a person, then the slowest rollbacks. The line is the new version, dashed the "
        "old one at the same time, shaded what came before the canary; dots in the first chart are "
        "where it said PAUSE, and the dotted line is where its rollout ended."
    )
    return paragraph(legend) + "".join(_case(case) for case in cases)


def _case(case: Mapping[str, Any]) -> str:
    named = [case[k] for k in ("service", "fault_type") if case.get(k) not in (None, "none")]
    title = f"{case['episode_id']}{' (' * bool(named)}{', '.join(named)}{')' * bool(named)}"
    how = f"{_KINDS[case['kind']]}{', by the fallback of a pause' * case['fell_back']}"
    cost = f"It cost {case['loss']:.0f} in reward against the better action at once."
    drawn = charts([figure(one) for one in drawings.timelines(case)])
    return (
        f'<section class="case"><h3>{escape(title)}: {how}</h3>'
        f"{paragraph(case['explanation'])}{paragraph(cost)}"
        f"<details open><summary>Timeline</summary>{drawn}</details></section>"
    )
