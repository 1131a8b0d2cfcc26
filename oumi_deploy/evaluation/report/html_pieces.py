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

"""Pieces of HTML, all text in them escaped: figures with their intervals, tables, charts."""

from collections.abc import Mapping, Sequence
from html import escape

from oumi_deploy.evaluation import metrics
from oumi_deploy.evaluation.metrics import Metric

Tell = str
"""How a number is told: a format specification, as in `.3f` or `.1%`."""


def paragraph(text: str, kind: str = "") -> str:
    """Returns a paragraph of plain text, of a class of the style sheet if one is named."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def told(metric: Metric | None, tell: Tell = ".3g") -> str:
    """Returns a figure as text, its interval in brackets; a dash where it is not defined."""
    nothing = "–"  # noqa: RUF001
    return nothing if metric is None else metrics.told(metric, tell, nothing)


def cell(metric: Metric | None, tell: Tell = ".3g") -> str:
    """Returns a figure as the HTML of a table's cell, its interval below it."""
    value, _, interval = told(metric, tell).partition(" (")
    return escape(value) + (f"<small>{escape(interval.rstrip(')'))}</small>" if interval else "")


def row(name: str, cells: Sequence[str], kind: str = "") -> str:
    """Returns a table's row.

    Args:
        name: Its head, plain text.
        cells: The HTML of its cells.
        kind: Its class, if any.
    """
    inside = "".join(f"<td>{one}</td>" for one in cells)
    return f'<tr{_class(kind)}><th scope="row">{escape(name)}</th>{inside}</tr>'


def table(caption: str, heads: Sequence[str], bodies: Mapping[str, Sequence[str]]) -> str:
    """Returns a table in a box of its own, which scrolls where the page is narrow.

    Args:
        caption: What it shows, plain text.
        heads: Heads of its columns, plain text.
        bodies: Rows, by the name of the part that they are of; an empty name is not shown.
    """
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    parts = []
    for name, rows in bodies.items():
        over = f'<tr><th scope="rowgroup" colspan="{len(heads)}">{escape(name)}</th></tr>'
        parts.append(f"<tbody>{over if name else ''}{''.join(rows)}</tbody>")
    label = escape(caption.partition(".")[0], quote=True)
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="{label}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead>{''.join(parts)}"
        "</table></div>"
    )


def figure(drawn: str, meaning: str = "") -> str:
    """Returns a chart with the sentence that says what it means."""
    caption = f"<figcaption>{escape(meaning)}</figcaption>" if meaning else ""
    return f"<figure>{drawn}{caption}</figure>"


def charts(figures: Sequence[str]) -> str:
    """Returns figures side by side, as far as the page is wide."""
    return f'<div class="charts">{"".join(figures)}</div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
