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

"""Small charts as SVG text, without a script and without a colour that only a screen shows.

What a line, bar or dot looks like is told by class names, which `style.css` gives their look in
light, in dark and on paper.
"""

from collections.abc import Callable, Sequence
from html import escape

from matplotlib.ticker import MaxNLocator

Point = tuple[float, float | None]
"""x and y; a missing y breaks the line."""

_WIDTH, _LEFT, _RIGHT, _ABOVE, _BELOW = 360, 48, 12, 30, 34
_MOST_POINTS = 400
"""Points of a line beyond which it is thinned; a chart has not that many pixels."""


def chart(
    title: str,
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    lines: Sequence[tuple[str, Sequence[Point]]] = (),
    bars: Sequence[tuple[str, float, float, float]] = (),
    dots: Sequence[tuple[str, float, float, float, float]] = (),
    marks: Sequence[tuple[float, str]] = (),
    notes: Sequence[tuple[float, float, str]] = (),
    shaded_until: float | None = None,
    height: int = 220,
    tell_y: Callable[[float], float] = float,
) -> str:
    """Draws a chart.

    Args:
        title: What the chart shows, read out by screen readers.
        x_label: What runs to the right.
        y_label: What runs upwards.
        x_range: Ends of the x axis.
        y_range: What the y axis must reach from and to.
        lines: Class name and points.
        bars: Class name, left and right end, and height from 0.
        dots: Class name, x, y, and the lower and upper end of y's interval.
        marks: x of vertical lines, with the word on them.
        notes: x, y and the word that stands there.
        shaded_until: x up to which the ground is shaded, None for nowhere.
        height: Height in units of which the width has 360.
        tell_y: What the y axis says of its values.
    """
    left, right = _widened(*x_range)
    y_ticks = _ticks(*_widened(*y_range), 4)
    low, high = y_ticks[0], y_ticks[-1]

    def at_x(x: float) -> float:
        return round(_LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT), 1)

    def at_y(y: float) -> float:
        return round(_ABOVE + (high - y) / (high - low) * (height - _ABOVE - _BELOW), 1)

    x0, x1, y0, y1 = at_x(left), at_x(right), at_y(low), at_y(high)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">'
    ]
    if shaded_until is not None:
        width = round(at_x(min(shaded_until, right)) - x0, 1)
        parts.append(f'<rect class="shade" x="{x0}" y="{y1}" width="{width}" height="{y0 - y1}"/>')
    for y in y_ticks:
        parts.append(f'<path class="grid" d="M{x0} {at_y(y)}H{x1}"/>')
        parts.append(_text(x0 - 5, at_y(y) + 4, f"{tell_y(y):.4g}", "end"))
    for kind, begin, end, y in bars:
        top, bottom = sorted((at_y(y), at_y(0)))
        size = f'width="{at_x(end) - at_x(begin):.1f}" height="{bottom - top:.1f}"'
        parts.append(f'<rect class="{kind}" x="{at_x(begin)}" y="{top}" {size}/>')
    parts.append(f'<path class="axis" d="M{x0} {y1}V{y0}H{x1}"/>')
    parts += [
        _text(at_x(x), y0 + 14, f"{x:.4g}", "mid")
        for x in _ticks(left, right, 6)
        if left <= x <= right
    ]
    parts.append(_text((x0 + x1) / 2, height - 4, x_label, "mid"))
    parts.append(_text(2, 11, y_label, "name"))
    for x, word in marks:
        parts.append(f'<path class="mark" d="M{at_x(x)} {y0}V{y1}"/>')
        side = "end" if at_x(x) > _WIDTH / 2 else "start"
        parts.append(_text(at_x(x) + (-4 if side == "end" else 4), y1 - 4, word, side))
    for kind, points in lines:
        parts.append(f'<path class="line {kind}" d="{_path(points, at_x, at_y)}"/>')
    for kind, x, y, least, most in dots:
        if most > least:
            parts.append(f'<path class="axis" d="M{at_x(x)} {at_y(least)}V{at_y(most)}"/>')
        parts.append(f'<circle class="{kind}" cx="{at_x(x)}" cy="{at_y(y)}" r="3.5"/>')
    parts += [_text(at_x(x), at_y(y), word, "mid") for x, y, word in notes]
    return "".join([*parts, "</svg>"])


def _widened(low: float, high: float) -> tuple[float, float]:
    """Returns the ends, apart even where all values are equal."""
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Returns round numbers, the first at or below `low` and the last at or above `high`."""
    return [float(x) for x in MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def _path(
    points: Sequence[Point], at_x: Callable[[float], float], at_y: Callable[[float], float]
) -> str:
    steps, is_on = [], False
    for x, y in _thinned(points):
        if y is not None:
            steps.append(f"{'L' if is_on else 'M'}{at_x(x)} {at_y(y)}")
            # A value between two missing ones is a point: a line of no length, with round ends.
            steps.append("" if is_on else "h0")
        is_on = y is not None
    return "".join(steps)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Keeps the lowest and highest point of each stretch of a long line, so no spike is lost."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    size, kept = 2 * len(points) // _MOST_POINTS + 1, []
    for begin in range(0, len(points), size):
        known = [p for p in points[begin : begin + size] if p[1] is not None]
        if known:
            ends = {min(known, key=lambda p: p[1] or 0.0), max(known, key=lambda p: p[1] or 0.0)}
            kept += sorted(ends, key=lambda p: p[0])
        else:
            kept.append((points[begin][0], None))
    return kept
