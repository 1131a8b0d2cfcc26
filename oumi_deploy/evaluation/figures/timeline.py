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

"""The timeline of one episode: its metrics, the risk, the Q-values, and where its rollout ends."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, CONTROL, GOOD
from oumi_deploy.evaluation.figures.clock import Clock, read_clock, with_gaps
from oumi_deploy.evaluation.figures.judged import Judged
from oumi_deploy.evaluation.figures.style import (
    FIRST,
    LIGHT,
    MIDDLE,
    SECOND,
    add_caption,
    add_grid,
    add_title,
    new_figure,
    shorten,
)
from oumi_deploy.evaluation.figures.units import metric_label
from oumi_deploy.policy.answers import PAUSED
from oumi_deploy.policy.attribution import says_risk
from oumi_deploy.problem.rewards import ACTIONS, Action

_MOST_METRICS = 6
_WORDS = {GOOD: "good", BAD: "bad"}
_ENDS = {"ROLLBACK": "rollback", "PAUSE": "held for a person"}
_LEGEND = ("new version", "old version", "risk", "PAUSE", "break-even")
_LEGEND += (*(f"Q({name})" for name in ACTIONS), *_ENDS.values())

_MOST_IN_A_ROW = 5
"""Entries of the legend that fit side by side."""

_LETTER = 0.0125
"""Width of a letter of a phase's name, as share of the picture's."""


class End(NamedTuple):
    """How a rollout ends: its answer, one of ANSWERS, and when; None with the recording."""

    answer: str
    moment: float | None


def draw_timeline(judged: Judged, number: int) -> Figure:
    """Draws one episode.

    Args:
        judged: The policy and its answers.
        number: Number of the episode.
    """
    metrics = judged.policy.encoder.metrics
    shown = metrics[:_MOST_METRICS]
    clock = read_clock(judged.episodes, number)
    end = _end(judged, number, clock)
    has_risk = says_risk(judged.policy)
    heights = [0.22, *[1.0] * len(shown), *[1.2] * has_risk, 1.7]
    figure = new_figure(1.1 * sum(heights) + 1.1)
    strip, *panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for axes, metric in zip(panels, shown, strict=False):
        _draw_metric(axes, judged.episodes, number, metric, clock)
    if has_risk:
        _draw_risk(panels[-2], judged, number, clock)
    _draw_q_values(panels[-1], judged, number, clock)
    for axes in (strip, *panels):
        _mark_phases(axes, clock, end)
    _name_phases(strip, clock, end)
    panels[-1].set_xlabel(clock.label)
    add_title(figure, _title(judged, number, end, clock))
    _add_legend(figure, panels)
    if len(shown) < len(metrics):
        add_caption(figure, f"Not shown: {', '.join(metrics[_MOST_METRICS:])}.")
    return figure


def _draw_metric(axes: Axes, episodes: Episodes, number: int, metric: str, clock: Clock) -> None:
    rows = slice(episodes.offsets[number], episodes.offsets[number + 1])
    values, control = (episodes.column(name)[rows] for name in (metric, CONTROL + metric))
    if not np.isnan(control).all():
        axes.plot(
            *with_gaps(clock.times, control),
            color=MIDDLE,
            linestyle="--",
            marker="s",
            markersize=2.5,
            markerfacecolor="white",
            linewidth=1.0,
            label="old version",
        )
    axes.plot(
        *with_gaps(clock.times, values), color=FIRST, marker="o", markersize=3, label="new version"
    )
    if np.isnan(values).all():
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])
    axes.set_title(metric_label(metric), loc="left", fontsize=9.5, pad=3)
    axes.margins(y=0.15)
    add_grid(axes)


def _draw_risk(axes: Axes, judged: Judged, number: int, clock: Clock) -> None:
    """Draws the risk beside the break-even of the rewards, and where the answer is PAUSE."""
    at = judged.decisions(number)
    risk, times = judged.answers.risk[at], clock.canary_times
    bound = judged.policy.rewards.break_even()
    axes.axhline(bound, color="black", linewidth=0.9, linestyle="--", label="break-even")
    axes.plot(*with_gaps(times, risk), color=FIRST, marker="o", markersize=3, label="risk")
    paused = judged.answers.decision[at] == PAUSED
    if paused.any():
        axes.plot(
            times[paused],
            risk[paused],
            color=SECOND,
            marker="s",
            markersize=6,
            markerfacecolor="none",
            linestyle="none",
            label="PAUSE",
        )
    axes.set_ylim(-0.05, 1.05)
    axes.set_title("risk (0 to 1)", loc="left", fontsize=9.5, pad=3)
    add_grid(axes)


def _draw_q_values(axes: Axes, judged: Judged, number: int, clock: Clock) -> None:
    q = judged.q_values[judged.decisions(number)]
    looks: tuple[dict[str, Any], ...] = (
        {"color": FIRST, "linestyle": "-", "marker": "o"},
        {"color": SECOND, "linestyle": "--", "marker": "^"},
    )
    for action, look in zip(Action, looks, strict=True):
        times, values = with_gaps(clock.canary_times, q[:, action])
        axes.plot(times, values, label=f"Q({ACTIONS[action]})", **look)
    axes.set_title("Q-values (reward units)", loc="left", fontsize=9.5, pad=3)
    axes.margins(y=0.15)
    add_grid(axes)


def _mark_phases(axes: Axes, clock: Clock, end: End) -> None:
    """Shades what is not the rollout under decision: the baseline, and what followed the end."""
    left, right = axes.get_xlim()
    axes.set_xlim(left, right)
    if clock.n_baseline:
        axes.axvspan(left, clock.border, facecolor=LIGHT, linewidth=0, zorder=0)
        axes.axvline(clock.border, color="black", linewidth=0.9, linestyle=":")
    if end.moment is not None:
        axes.axvspan(
            end.moment,
            right,
            facecolor="none",
            edgecolor="0.85",
            hatch="\\\\",
            linewidth=0,
            zorder=0,
        )
        # Below the lines of the data, which cross at this very moment.
        axes.axvline(
            end.moment,
            color="black",
            linewidth=1.8,
            linestyle="-.",
            label=_ENDS[end.answer],
            zorder=1.5,
        )


def _name_phases(strip: Axes, clock: Clock, end: End) -> None:
    """Writes the name of each phase that is wide enough for it."""
    left, right = strip.get_xlim()
    until = right if end.moment is None else end.moment
    spans = [(clock.border if clock.n_baseline else left, until, ["canary"])]
    if clock.n_baseline:
        spans.append((left, clock.border, ["baseline"]))
    if end.moment is not None:
        after = {"ROLLBACK": "after the rollback", "PAUSE": "held for a person"}[end.answer]
        spans.append((end.moment, right, [after, "after"]))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
    for begin, until, names in spans:
        letters = (until - begin) / (right - left) / _LETTER
        fitting = [name for name in names if len(name) < letters]
        if fitting:
            middle = (begin + until) / 2
            strip.text(middle, 0.5, fitting[0], ha="center", va="center", fontsize=9, bbox=box)
    strip.set_ylim(0, 1)
    strip.set_axis_off()


def _add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    entries: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    names = [name for name in _LEGEND if name in entries]
    figure.legend(
        [entries[name] for name in names],
        names,
        loc="outside lower center",
        ncols=len(names) if len(names) <= _MOST_IN_A_ROW else ceil(len(names) / 2),
        frameon=False,
        columnspacing=1.4,
        handlelength=2.2,
        handletextpad=0.5,
    )


def _end(judged: Judged, number: int, clock: Clock) -> End:
    answer, at = judged.end(number)
    return End(answer, None if at is None else float(clock.canary_times[at]))


def _title(judged: Judged, number: int, end: End, clock: Clock) -> str:
    episodes = judged.episodes
    label = _WORDS.get(int(episodes.labels[number]), "unlabelled")
    fault = episodes.texts.get("fault_type")
    if fault is not None and fault[number] not in (None, "none"):
        label += f", {fault[number]}"
    name = shorten(str(episodes.ids[number]), 40)
    if end.moment is None:
        return f"Episode {name} ({label}) is never rolled back"
    unit = clock.unit.removesuffix("s") if end.moment == 1 else clock.unit
    what = {"ROLLBACK": "is rolled back", "PAUSE": "is held for a person"}[end.answer]
    return f"Episode {name} ({label}) {what} {end.moment:.3g} {unit} into the canary"
