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

"""One validator for every episode table, whatever file or frame it came from."""

from collections.abc import Iterator

import numpy as np

from oumi_deploy.episodes.columns import Columns, Problem, codes_of
from oumi_deploy.episodes.order import EpisodeOrder, order_rows
from oumi_deploy.episodes.schema import LABELS, LOGGED_ACTIONS, PHASES, number_column

REPORTED = 20
"""Problems reported of one kind; a file that is wrong throughout need not be listed whole."""


def find_problems(columns: Columns) -> list[Problem]:
    """Returns what is wrong with a table, in the order of its checks; empty if nothing is."""
    problems = _missing_columns(columns) + columns.problems
    if problems:
        return problems
    problems += _missing_keys(columns)
    for name, values in columns.numbers.items():
        problems += _outside(name, values)
    problems += _foreign_words(columns)
    if problems:
        return problems
    order = order_rows(columns)
    return [problem for check in _EPISODE_CHECKS for problem in _first(check(columns, order))]


def _first(problems: Iterator[Problem]) -> list[Problem]:
    return [problem for problem, _ in zip(problems, range(REPORTED), strict=False)]


def _missing_columns(columns: Columns) -> list[Problem]:
    present = {*columns.numbers, *columns.texts, *(p.column for p in columns.problems if p.column)}
    if not present:
        return [Problem("the table has no rows")]
    if "" in present:
        return [Problem("a column has no name; name it or leave it out")]
    found = [
        Problem(f"required column {name} is missing; the table has {', '.join(sorted(present))}")
        for name in ("episode_id", "step")
        if name not in present
    ]
    return found or ([] if columns.n_rows else [Problem("the table has no rows")])


def _missing_keys(columns: Columns) -> list[Problem]:
    problems = [
        Problem("the episode's name is missing", "episode_id", row)
        for row in np.flatnonzero(columns.texts["episode_id"].is_null().to_numpy(False))[:REPORTED]
    ]
    steps = columns.numbers["step"]
    with np.errstate(invalid="ignore"):
        fractional = np.flatnonzero(np.isfinite(steps) & (steps != np.round(steps)))
    problems += [Problem("the step is missing", "step", r) for r in np.flatnonzero(np.isnan(steps))]
    problems += [Problem(f"{steps[r]:g} is not a whole number", "step", r) for r in fractional]
    return problems[:REPORTED]


def _outside(name: str, values: np.ndarray) -> list[Problem]:
    rule = number_column(name)
    outside = np.isinf(values) | (values < rule.low) | (values > rule.high)
    if rule.positive:
        outside |= values <= 0
    return [
        Problem(f"{values[row]:g} is not {rule.accepts()}; leave it empty if unknown", name, row)
        if np.isinf(values[row])
        else Problem(f"{values[row]:g} is not {rule.accepts()}", name, row)
        for row in np.flatnonzero(outside)[:REPORTED]
    ]


def _foreign_words(columns: Columns) -> list[Problem]:
    problems = []
    for name, allowed in (("label", tuple(LABELS)), ("phase", PHASES), ("action", LOGGED_ACTIONS)):
        cells = columns.texts.get(name)
        if cells is None:
            continue
        words = np.array(cells.dictionary.to_pylist(), dtype=object)
        wrong = np.flatnonzero(~np.isin(words.astype(str), allowed)) if len(words) else []
        rows = np.flatnonzero(np.isin(codes_of(cells), wrong))[:REPORTED]
        problems += [
            Problem(f"{cells[int(row)].as_py()!r} is not one of {', '.join(allowed)}", name, row)
            for row in rows
        ]
    return problems


def _steps_rise(columns: Columns, order: EpisodeOrder) -> Iterator[Problem]:
    steps = columns.numbers["step"][order.rows]
    for at in order.within(np.diff(steps) <= 0):
        episode, step = order.name_at(at), int(steps[at])
        kind = "stands twice" if steps[at] == steps[at - 1] else f"follows {int(steps[at - 1])}"
        message = f"step {step} of episode {episode} {kind}; steps must rise"
        yield Problem(message, "step", int(order.rows[at]))


def _times_rise(columns: Columns, order: EpisodeOrder) -> Iterator[Problem]:
    times = columns.numbers.get("timestamp")
    if times is None:
        return
    # Rows without a time say nothing of the order of those around them.
    ordered = times[order.rows]
    timed = np.flatnonzero(~np.isnan(ordered))
    falls = np.flatnonzero(np.diff(ordered[timed]) < 0)
    before, after = timed[falls], timed[falls + 1]
    same = order.episode_at(before) == order.episode_at(after)
    for at in after[same].tolist():
        message = f"time goes back in episode {order.name_at(at)}"
        yield Problem(message, "timestamp", int(order.rows[at]))


def _one_word(columns: Columns, order: EpisodeOrder) -> Iterator[Problem]:
    for name in ("label", "group"):
        if name not in columns.texts:
            continue
        codes = codes_of(columns.texts[name])[order.rows]
        for at in order.within(np.diff(codes) != 0):
            message = f"episode {order.name_at(at)} has more than one {name}"
            yield Problem(message, name, int(order.rows[at]))


def _canary_follows_baseline(columns: Columns, order: EpisodeOrder) -> Iterator[Problem]:
    canary = is_canary(columns)[order.rows]
    for at in order.within(np.diff(canary.astype(np.int8)) < 0):
        message = f"baseline row after a canary row in episode {order.name_at(at)}"
        yield Problem(message, "phase", int(order.rows[at]))
    n_canary = np.add.reduceat(canary, order.offsets[:-1], dtype=np.int64)
    for episode in np.flatnonzero(n_canary == 0):
        row = int(order.rows[order.offsets[episode]])
        yield Problem(f"episode {order.names[episode]} has no canary row", "phase", row)


def _rollback_ends(columns: Columns, order: EpisodeOrder) -> Iterator[Problem]:
    if "action" not in columns.texts:
        return
    rolled_back = is_rollback(columns)[order.rows]
    rolled_back[order.offsets[1:] - 1] = False
    for at in np.flatnonzero(rolled_back):
        message = f"episode {order.name_at(at)} goes on after its ROLLBACK"
        yield Problem(message, "action", int(order.rows[at]))


_EPISODE_CHECKS = (_steps_rise, _times_rise, _one_word, _canary_follows_baseline, _rollback_ends)


def is_canary(columns: Columns) -> np.ndarray:
    """Returns the canary rows, bool of shape (n_rows,); without a phase all rows are."""
    return ~_says(columns, "phase", "baseline")


def is_rollback(columns: Columns) -> np.ndarray:
    """Returns the rows whose logged action is ROLLBACK, bool of shape (n_rows,)."""
    return _says(columns, "action", "ROLLBACK")


def _says(columns: Columns, name: str, word: str) -> np.ndarray:
    cells = columns.texts.get(name)
    if cells is None:
        return np.zeros(columns.n_rows, dtype=bool)
    words = cells.dictionary.to_pylist()
    return codes_of(cells) == (words.index(word) if word in words else -2)
