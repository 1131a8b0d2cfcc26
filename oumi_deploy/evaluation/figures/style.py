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

"""How the pictures look: for paper, and to be told apart without colour."""

import io
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FIRST, SECOND = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind readers tell apart."""

LIGHT, MIDDLE = "0.93", "0.6"
"""Greys of areas, and of their hatches."""

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "savefig.dpi": 150,
    "figure.constrained_layout.h_pad": 0.06,
}
"""Settings that Matplotlib takes from nowhere else; `make_figures` sets them while it draws."""

WIDTH = 7.0
"""Inches; what a printed page holds."""

_LINE = 92
"""Letters of a caption that fit into the width."""

_MOST_MARKERS = 25


def new_figure(height: float) -> Figure:
    """Returns an empty figure of the common width.

    Args:
        height: In inches.
    """
    return Figure(figsize=(WIDTH, height), layout="constrained")


def add_grid(axes: Axes, axis: str = "both") -> None:
    """Draws faint lines behind the data."""
    axes.grid(True, axis=axis, color="0.88", linewidth=0.6)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)


def add_title(figure: Figure, text: str) -> None:
    """Writes what one sees above a picture of several panels."""
    figure.suptitle(textwrap.fill(text, _LINE - 6), fontsize=10.5)


def set_title(axes: Axes, text: str) -> None:
    """Writes what one sees above a picture of one panel."""
    axes.set_title(textwrap.fill(text, _LINE - 20))


def add_caption(figure: Figure, text: str) -> None:
    """Writes what one must know to read the picture below it."""
    figure.supxlabel(textwrap.fill(text, _LINE), fontsize=9, color="0.2", x=0.02, ha="left")


def shorten(text: str, most: int) -> str:
    """Cuts the middle out of a text longer than `most` letters.

    >>> shorten("release-2026-01-01-0001", 11)
    'relea…-0001'
    """
    if len(text) <= most:
        return text
    return text[: most // 2] + "…" + text[len(text) - (most - 1) // 2 :]


def marker_every(n_points: int) -> int:
    """Returns the distance of markers that keeps a long line from turning into a band."""
    return int(np.ceil(max(n_points, 1) / _MOST_MARKERS))


def as_png(figure: Figure) -> bytes:
    """Renders a figure; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
