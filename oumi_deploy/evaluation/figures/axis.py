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

"""An axis over one feature, stretched where its values would crowd at one end."""

import textwrap
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from oumi_deploy.evaluation.figures.units import feature_label
from oumi_deploy.problem.encoder import StateEncoder

_SKEWED = 12.0
"""Spreads from the median to the farthest value from which on the axis is stretched."""

_TICKS = 6

_LETTERS = {"x": 80, "y": 54}
"""Letters of a label that fit beside the `x` and the `y` axis."""


@dataclass(frozen=True, eq=False)
class FeatureAxis:
    """An axis.

    Attributes:
        number: Which feature of the state it shows.
        name: Its name.
        label: Name and unit.
        points: Values from one end of the axis to the other, evenly spaced on paper.
        center: Where a stretched axis is finest.
        spread: How far around it the axis is about linear; None where it is linear throughout.
    """

    number: int
    name: str
    label: str
    points: np.ndarray
    center: float
    spread: float | None

    def to_paper(self, values: np.ndarray) -> np.ndarray:
        """Returns places on paper, up to a factor: as the encoder standardises, or as is."""
        values = np.asarray(values, dtype=np.float64)
        return values if self.spread is None else np.arcsinh((values - self.center) / self.spread)

    def from_paper(self, places: np.ndarray) -> np.ndarray:
        """Undoes `to_paper`."""
        places = np.asarray(places, dtype=np.float64)
        return places if self.spread is None else self.center + self.spread * np.sinh(places)

    def apply_to(self, axes: Axes, which: str) -> None:
        """Sets limits, scale, ticks and label of the `x` or the `y` axis."""
        axis = axes.xaxis if which == "x" else axes.yaxis
        set_limits = axes.set_xlim if which == "x" else axes.set_ylim
        if self.spread is not None:
            set_scale = axes.set_xscale if which == "x" else axes.set_yscale
            set_scale("function", functions=(self.to_paper, self.from_paper))
            ticks = self._ticks()
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
            axis.set_minor_locator(NullLocator())
        set_limits(self.points[0], self.points[-1])
        stretched = "" if self.spread is None else ", stretched around its median"
        axis.set_label_text(textwrap.fill(self.label + stretched, _LETTERS[which]))

    def _ticks(self) -> list[float]:
        """Returns round values, about evenly spaced on paper."""
        low, high = self.to_paper(self.points[[0, -1]])
        places = np.linspace(low, high, _TICKS)
        values = self.from_paper(places)
        gaps = np.diff(values)
        nearest = np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))
        rounded = [
            # Adding 0 turns -0 into 0.
            round(value, int(np.ceil(-np.log10(1.5 * gap)))) + 0.0
            for value, gap in zip(values.tolist(), nearest.tolist(), strict=True)
        ]
        return sorted({tick for tick in rounded if values[0] <= tick <= values[-1]})


def make_axis(encoder: StateEncoder, number: int, column: np.ndarray, n_points: int) -> FeatureAxis:
    """Returns the axis of a feature over the range of its values.

    Args:
        encoder: Tells the feature's median and spread in training.
        number: Number of the feature.
        column: Its values, shape (n,), NaN where missing.
        n_points: Points along the axis.
    """
    low, high = _range(encoder, number, column)
    center, scale = float(encoder.center[number]), float(encoder.scale[number])
    skewed = max(high - center, center - low) > _SKEWED * scale
    axis = FeatureAxis(
        number=number,
        name=encoder.names[number],
        label=feature_label(encoder.state[number]),
        points=np.array([low, high]),
        center=center,
        spread=scale if skewed else None,
    )
    first, last = axis.to_paper(axis.points)
    points = axis.from_paper(np.linspace(first, last, n_points))
    # The ends must be the values' own, not what rounding makes of them.
    points[0], points[-1] = low, high
    return replace(axis, points=points)


def _range(encoder: StateEncoder, number: int, column: np.ndarray) -> tuple[float, float]:
    known = column[~np.isnan(column)]
    low, high = (
        (known.min(), known.max()) if len(known) else (encoder.low[number], encoder.high[number])
    )
    if np.isnan([low, high]).any():
        low = high = encoder.center[number]
    # A feature that never moves still needs an axis with two ends.
    wider = 0.5 * encoder.scale[number] if high <= low else 0.0
    return float(low - wider), float(high + wider)
