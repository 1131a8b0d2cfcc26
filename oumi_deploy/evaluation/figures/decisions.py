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

"""The table of right and wrong decisions as a picture."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from oumi_deploy.evaluation.figures.judged import Judged
from oumi_deploy.evaluation.figures.style import (
    LIGHT,
    MIDDLE,
    add_caption,
    add_title,
    new_figure,
    shorten,
)
from oumi_deploy.evaluation.figures.tables import count_by_fault, count_by_label, worst_decisions

_MOST_FAULTS = 12

_LOOKS: dict[str, dict[str, Any]] = {
    "right": {"facecolor": "white"},
    "held": {"facecolor": LIGHT},
    "wrong": {"facecolor": LIGHT, "hatch": "////"},
}
"""How a decision looks, by how it turned out."""

_ROW = 0.235
"""Height of a line of the table, in inches."""


def draw_decisions(judged: Judged, scored: pd.DataFrame) -> Figure:
    """Draws the counts by label and decision, by fault type, and the worst wrong decisions.

    Args:
        judged: The policy's answers.
        scored: From `scored_frame`.
    """
    what = "observations" if judged.per_observation else "episodes"
    faults, worst = _by_fault(count_by_fault(scored)), worst_decisions(scored)
    upper = max(2.6, 0.24 * len(faults) + 1.0)
    lower = _ROW * (len(worst) + 1) + 0.5
    figure = new_figure(upper + lower + 0.9)
    grid = figure.add_gridspec(2, 2, height_ratios=[upper, lower], width_ratios=[1.0, 1.15])
    has_faults = len(faults) > 0
    _draw_counts(figure.add_subplot(grid[0, 0 if has_faults else slice(None)]), scored, what)
    if has_faults:
        _draw_faults(figure.add_subplot(grid[0, 1]), faults, what)
    _draw_worst(figure.add_subplot(grid[1, :]), worst, judged.per_observation)
    add_title(figure, _title(scored, what))
    if judged.scores.n_unlabelled or judged.scores.n_censored:
        add_caption(figure, _left_out(judged, what))
    return figure


def _title(scored: pd.DataFrame, what: str) -> str:
    decided, n_held = scored["correct"].dropna(), int(scored["correct"].isna().sum())
    right = int(decided.sum())
    share = f" ({100 * right / len(decided):.1f} %)" if len(decided) else ""
    held = f"; {n_held:,} more are held for a person" * bool(n_held)
    return f"{right:,} of {len(decided):,} {what} are decided rightly{share}{held}"


def _draw_counts(axes: Axes, scored: pd.DataFrame, what: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
    counts = count_by_label(scored)
    decisions = list(counts["decision"].unique())
    for row in counts.to_dict(orient="records"):
        x, y = decisions.index(row["decision"]), int(row["label"] == "bad")
        verdict = _verdict(row["correct"])
        look = _LOOKS[verdict]
        axes.add_patch(Rectangle((x, y), 1, 1, edgecolor=MIDDLE, linewidth=0, **look))
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="black", linewidth=1.0))
        text = f"{row['n']:,}\n{verdict}"
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=11, bbox=box)
    axes.set_xlim(0, len(decisions))
    axes.set_ylim(2, 0)
    axes.set_xticks(np.arange(len(decisions)) + 0.5, decisions)
    axes.set_yticks([0.5, 1.5], ["good", "bad"])
    axes.tick_params(length=0)
    axes.set_xlabel("decision")
    axes.set_ylabel("label")
    axes.set_title(f"Number of {what}", fontsize=9.5)


def _verdict(correct: Any) -> str:
    """Says how a decision turned out; NA is one that a person takes."""
    return "held" if pd.isna(correct) else "right" if correct else "wrong"


def _by_fault(counts: pd.DataFrame) -> pd.DataFrame:
    """Returns `right`, `held` and `wrong` by fault and label, the most frequent last, for bars."""
    if not len(counts):
        return pd.DataFrame()
    verdict = counts["correct"].map(_verdict, na_action=None).to_numpy()
    by = [counts["label"], counts["fault_type"]]
    table = pd.crosstab(by, verdict, values=counts["n"], aggfunc="sum").fillna(0)
    table = table.reindex(columns=list(_LOOKS), fill_value=0)
    largest = table.sum(axis=1).sort_values(kind="stable", ascending=False).head(_MOST_FAULTS)
    # Bars are drawn from below: bad releases stand above good ones, each from many to few.
    return table.loc[largest.index[::-1]].sort_index(
        level="label", ascending=False, sort_remaining=False, kind="stable"
    )


def _draw_faults(axes: Axes, faults: pd.DataFrame, what: str) -> None:
    totals = faults.sum(axis=1).to_numpy()
    places = range(len(faults))
    left = np.zeros(len(faults))
    for verdict, look in _LOOKS.items():
        share = faults[verdict].to_numpy() / totals
        axes.barh(places, share, left=left, edgecolor="black", linewidth=0.8, label=verdict, **look)
        left += share
    for place, total, n_wrong in zip(places, totals, faults["wrong"], strict=True):
        axes.text(1.02, place, f"{n_wrong:,.0f} of {total:,.0f}", va="center", fontsize=9)
    axes.set_yticks(places, [f"{shorten(fault, 18)} ({label})" for label, fault in faults.index])
    axes.set_xlim(0, 1.38)
    axes.set_xticks([0, 0.5, 1.0])
    axes.set_xlabel(f"share of {what}")
    held = ", held ones grey" * bool(faults["held"].any())
    axes.set_title(f"Wrong ones (hatched) of all, by fault type{held}", fontsize=9.5, loc="right")
    axes.spines["bottom"].set_bounds(0, 1)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_worst(axes: Axes, worst: pd.DataFrame, per_observation: bool) -> None:
    axes.set_axis_off()
    if not len(worst):
        axes.text(0.5, 0.5, "No decision was wrong.", ha="center", va="center")
        return
    heads = ["episode", "label", "decision", "delay (steps)", "reward with delay"]
    if per_observation:
        heads[3:] = ["wrong ones", "their rewards"]
    table = axes.table(
        cellText=[_worst_line(row, per_observation) for row in worst.to_dict(orient="records")],
        colLabels=heads,
        colWidths=[0.41, 0.09, 0.15, 0.16, 0.19],
        loc="upper center",
        cellLoc="left",
        colLoc="left",
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(1.0 if row == 0 else 0.3)
        cell.set_height(1 / (len(worst) + 1))
        cell.PAD = 0.03
    what = "The episodes with the costliest" if per_observation else "The costliest"
    axes.set_title(f"{what} wrong decisions", fontsize=9.5, loc="left")


def _worst_line(row: dict[Hashable, Any], per_observation: bool) -> list[str]:
    delay = "never" if np.isnan(row["delay_steps"]) else f"{row['delay_steps']:.0f}"
    return [
        shorten(str(row["episode_id"]), 38),
        row["label"],
        row["decision"],
        f"{row['n']:,}" if per_observation else delay,
        f"{row['reward_with_delay']:,.1f}",
    ]


def _left_out(judged: Judged, what: str) -> str:
    scores = judged.scores
    return (
        f"Not scored: {scores.n_unlabelled:,} unlabelled {what}, and {scores.n_censored:,} whose "
        "end nobody knows, since the log rolled them back and the policy did not."
    )
