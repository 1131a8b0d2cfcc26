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

"""The decision boundary over two features, with observations of good and bad releases."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from oumi_deploy.episodes.schema import BAD, GOOD
from oumi_deploy.evaluation.figures.judged import Judged
from oumi_deploy.evaluation.figures.plane import DOTS, Plane
from oumi_deploy.evaluation.figures.style import (
    FIRST,
    LIGHT,
    MIDDLE,
    SECOND,
    add_caption,
    new_figure,
    set_title,
)

_SHOWN = 150
"""Observations shown of each label; more would hide the areas."""

_HATCH = "////"


def draw_decision_boundary(judged: Judged, plane: Plane) -> Figure:
    """Draws where the policy says CONTINUE, PAUSE and ROLLBACK, and a sample of observations."""
    figure = new_figure(5.8)
    axes = figure.subplots()
    areas = _draw_areas(axes, plane)
    n_shown = [_draw_observations(axes, judged, plane, label) for label in (GOOD, BAD)]
    plane.apply_to(axes)
    set_title(axes, _title(plane))
    markers = axes.get_legend_handles_labels()[0]
    figure.legend(
        handles=[*areas, *markers],
        loc="outside upper center",
        ncols=6,
        frameon=False,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    add_caption(figure, plane.caption() + _about_markers(plane, *n_shown))
    return figure


def _draw_areas(axes: Axes, plane: Plane) -> list[Patch]:
    """Fills the areas and returns their entries of the legend."""
    x, y = plane.x.points, plane.y.points
    looks = {"PAUSE": (plane.pauses, None), "ROLLBACK": (plane.rolls_back, _HATCH)}
    entries = [Patch(facecolor="white", edgecolor="black", label="CONTINUE")]
    for name, (area, hatch) in looks.items():
        if area.any():
            inside = area.astype(float)
            filled = axes.contourf(x, y, inside, levels=[0.5, 1.5], colors=[LIGHT], hatches=[hatch])
            filled.set_edgecolor(MIDDLE)
            filled.set_linewidth(0)
            if not area.all():
                axes.contour(x, y, inside, levels=[0.5], colors="black", linewidths=1.6)
            entries.append(Patch(facecolor=LIGHT, edgecolor=MIDDLE, hatch=hatch, label=name))
    if plane.thin.any():
        plane.draw_thin(axes, MIDDLE)
        entries.append(Patch(facecolor="white", edgecolor=MIDDLE, hatch=DOTS, label="few data"))
    return entries


def _draw_observations(axes: Axes, judged: Judged, plane: Plane, label: int) -> int:
    """Draws a sample of the observations with one label and returns their number."""
    x, y = judged.features[:, plane.x.number], judged.features[:, plane.y.number]
    rows = np.flatnonzero((judged.labels == label) & ~np.isnan(x) & ~np.isnan(y))
    if len(rows) > _SHOWN:
        rows = np.random.default_rng(0).choice(rows, _SHOWN, replace=False)
    look: dict[str, Any] = (
        {"marker": "o", "facecolors": "white", "edgecolors": FIRST, "label": "good release"}
        if label == GOOD
        else {"marker": "x", "color": SECOND, "label": "bad release"}
    )
    # Many lie on the edge, an error rate of 0 first of all, and would be cut in half.
    axes.scatter(x[rows], y[rows], s=20, linewidths=1.1, zorder=3, clip_on=False, **look)
    return len(rows)


def _about_markers(plane: Plane, n_good: int, n_bad: int) -> str:
    if not n_good + n_bad:
        return ""
    where = ", at their own values of the other features" if plane.held or plane.moved else ""
    return f" The markers are a sample of {n_good} good and {n_bad} bad observations{where}."


def _title(plane: Plane) -> str:
    both = f"{plane.x.name} and {plane.y.name}"
    if plane.rolls_back.all():
        return f"The policy rolls back at all values of {both}"
    if plane.pauses.all():
        return f"The policy says PAUSE at all values of {both}"
    if not plane.rolls_back.any() and not plane.pauses.any():
        return f"The policy continues at all values of {both}"
    return f"What the policy answers, by {both}"
