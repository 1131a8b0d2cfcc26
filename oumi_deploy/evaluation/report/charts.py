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

"""Small charts as SVG text, without a script and without a colour that only a screen shows."""

from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[float, float]]

_W, _H, _LEFT, _BELOW = 360, 220, 46, 34


def chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[tuple[str, Points]],
    *,
    dots: Sequence[tuple[float, float, float, float]] = (),
    x_max: float = 1.0,
    y_max: float = 1.0,
    mark: float | None = None,
) -> str:
    """Draws lines and dots from the origin.

    Args:
        title: What the chart shows, read out by screen readers.
        x_label: What runs to the right.
        y_label: What runs upwards.
        lines: Class names of the style sheet with their points.
        dots: x, y and the lower and upper end of y's interval.
        x_max: Right end, above 0.
        y_max: Upper end, above 0.
        mark: Where to draw a vertical line, if anywhere.
    """

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / x_max * (_W - _LEFT - 12)
        return round(across, 1), round(_H - _BELOW - y / y_max * (_H - _BELOW - 14), 1)

    (x0, y0), (x1, y1) = at(0, 0), at(x_max, y_max)
    parts = [
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{escape(title, quote=True)}">',
        f'<path class="axis" d="M{x0} {y1}V{y0}H{x1}"/>',
    ]
    for share in (0, 0.5, 1):
        (x, _), (_, y) = at(share * x_max, 0), at(0, share * y_max)
        parts.append(f'<text x="{x}" y="{y0 + 13}" class="mid">{share * x_max:.3g}</text>')
        parts.append(f'<text x="{x0 - 5}" y="{y + 4}" class="end">{share * y_max:.3g}</text>')
    parts.append(f'<text x="{(x0 + x1) / 2}" y="{_H - 5}" class="mid">{escape(x_label)}</text>')
    parts.append(f'<text x="2" y="10">{escape(y_label)}</text>')
    for kind, points in lines:
        path = " ".join(f"{x},{y}" for x, y in (at(*p) for p in points))
        parts.append(f'<polyline class="{kind}" points="{path}"/>')
    for x, y, low, high in dots:
        (cx, cy), (_, bottom), (_, top) = at(x, y), at(x, low), at(x, high)
        parts.append(f'<path class="axis" d="M{cx} {bottom}V{top}"/>')
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="3.5"/>')
    if mark is not None:
        x, _ = at(mark, 0)
        parts.append(f'<path class="mark" d="M{x} {y0}V{y1}"/>')
    return "".join([*parts, "</svg>"])
