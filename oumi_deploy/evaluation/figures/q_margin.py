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

"""The heat map of the Q-margin over two features."""

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from oumi_deploy.evaluation.figures.plane import Plane
from oumi_deploy.evaluation.figures.style import add_caption, new_figure, set_title

# From yellow over grey to blue: two hues, but the lightness falls all the way, so that in grey
# a light area is still CONTINUE and a dark one ROLLBACK.
_COLOURS = "cividis_r"


def draw_q_margin(plane: Plane) -> Figure:
    """Draws how much more the policy expects from ROLLBACK than from CONTINUE."""
    figure = new_figure(5.4)
    axes = figure.subplots()
    most = float(np.abs(plane.margin).max()) or 1.0
    mesh = axes.pcolormesh(
        plane.x.points,
        plane.y.points,
        plane.margin,
        shading="nearest",
        cmap=_COLOURS,
        norm=TwoSlopeNorm(0.0, -most, most),
        rasterized=True,
    )
    plane.draw_thin(axes, "0.35")
    # Black on white stands out from light and dark alike.
    plane.draw_boundary(axes, "white", 3.4)
    plane.draw_boundary(axes, "black", 1.6)
    plane.apply_to(axes)
    set_title(axes, f"What ROLLBACK gains over CONTINUE, by {plane.x.name} and {plane.y.name}")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    bar.set_label("Q(ROLLBACK) - Q(CONTINUE) (reward units)")
    bar.ax.axhline(0.0, color="black", linewidth=1.6)
    line = "One action is worth more everywhere."
    if plane.has_boundary:
        line = "On the line both are worth the same."
    add_caption(figure, f"Light: CONTINUE is better; dark: ROLLBACK. {line} {plane.caption()}")
    return figure
