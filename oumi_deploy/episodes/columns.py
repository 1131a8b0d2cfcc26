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

"""Turning the cells of a file into typed columns, noting every cell that will not turn."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from oumi_deploy.episodes.schema import NUMBER_COLUMNS, TEXT_COLUMNS, number_column
from oumi_deploy.episodes.times import unix_seconds

_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a table, and where.

    Attributes:
        message: What is wrong, and what would be right.
        column: Name of the column, if one is at fault.
        row: Row, counted from 0 without a header, if one is at fault.
    """

    message: str
    column: str | None = None
    row: int | None = None

    def __str__(self) -> str:
        """Returns the place and the message as one line; rows count from 1."""
        place = [f"row {self.row + 1}"] if self.row is not None else []
        place += [f"column {self.column}"] if self.column else []
        return f"{', '.join(place)}: {self.message}" if place else self.message


@dataclass
class Columns:
    """A table as typed columns of equal length.

    Attributes:
        n_rows: Number of rows.
        numbers: Numeric columns, float64 of shape (n_rows,), NaN where missing.
        texts: Text columns as dictionary arrays of shape (n_rows,), null where missing.
        problems: Cells that are not of their column's type.
    """

    n_rows: int
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, pa.DictionaryArray] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def type_columns(table: Mapping[str, pa.ChunkedArray] | pa.Table, names: Iterable[str]) -> Columns:
    """Types every named column of `table`.

    A column with a meaning has the type of that meaning. Any other is a number if all its
    values are, else text.
    """
    columns = Columns(n_rows=0)
    names = list(names)
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            columns.problems.append(Problem("two columns have this name", name))
            continue
        cells = one_chunk(table[name])
        columns.n_rows = len(cells)
        try:
            _type_column(columns, name, cells)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            problem = Problem(f"expected numbers or text, got {cells.type}", name)
            columns.problems.append(problem)
    return columns


def _type_column(columns: Columns, name: str, cells: pa.Array) -> None:
    if name in TEXT_COLUMNS or name == "action":
        columns.texts[name] = _as_text(cells)
    elif name == "timestamp" and not _is_number(cells.type):
        _add_number(columns, name, cells, *_parse_times(cells))
    elif _is_number(cells.type):
        columns.numbers[name] = _as_float(cells)
    elif name in NUMBER_COLUMNS or number_column(name).name.startswith("control_"):
        _add_number(columns, name, cells, *_parse_numbers(cells))
    else:
        _type_free_column(columns, name, cells)


def _type_free_column(columns: Columns, name: str, cells: pa.Array) -> None:
    if pa.types.is_null(cells.type):
        columns.numbers[name] = np.full(len(cells), np.nan)
        return
    truths = _as_truths(cells)
    if truths is not None:
        columns.numbers[name] = truths
        return
    if pa.types.is_dictionary(cells.type) and not _all_numbers(_as_text(cells)):
        columns.texts[name] = _as_text(cells)
        return
    values, wrong = _parse_numbers(cells)
    if len(wrong):
        columns.texts[name] = _as_text(cells)
    else:
        columns.numbers[name] = values


def _as_truths(cells: pa.Array) -> np.ndarray | None:
    """Returns words that are all true or false as 1 and 0, as a boolean column is; else None."""
    text = _as_text(cells)
    words = [word.lower() for word in text.dictionary.to_pylist()]
    if not words or not set(words) <= {"true", "false"}:
        return None
    values = np.array([*(float(word == "true") for word in words), np.nan])
    return values[codes_of(text)]


def _add_number(
    columns: Columns, name: str, cells: pa.Array, values: np.ndarray, wrong: np.ndarray
) -> None:
    columns.numbers[name] = values
    words = _as_text(cells) if len(wrong) else cells
    for row in wrong.tolist():
        message = f"{words[row].as_py()!r} is not a number; leave the cell empty if it is missing"
        columns.problems.append(Problem(message, name, row))


def one_chunk(cells: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns cells as one array."""
    if isinstance(cells, pa.ChunkedArray):
        if pa.types.is_dictionary(cells.type):
            cells = cells.unify_dictionaries()
        return cells.combine_chunks() if cells.num_chunks != 1 else cells.chunk(0)
    return cells


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _as_float(cells: pa.Array) -> np.ndarray:
    if pa.types.is_boolean(cells.type):
        cells = cells.cast(pa.int8())
    return cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _as_text(cells: pa.Array) -> pa.DictionaryArray:
    if pa.types.is_floating(cells.type):
        # A text column without any text is often stored as floats that are NaN throughout.
        cells = pa.array(cells.to_numpy(zero_copy_only=False), from_pandas=True)
    if not pa.types.is_dictionary(cells.type):
        cells = cells.cast(pa.string()).dictionary_encode()
    if not pa.types.is_string(cells.type.value_type):
        cells = pa.DictionaryArray.from_arrays(cells.indices, cells.dictionary.cast(pa.string()))
    return cells


def _all_numbers(cells: pa.DictionaryArray) -> bool:
    """Whether every cell is a number or missing; a long text column shows its first words only."""
    words = cells.dictionary.to_pylist()
    used = np.zeros(len(words) + 1, dtype=bool)
    used[codes_of(cells)] = True
    try:
        return all(float(words[code]) is not None for code in np.flatnonzero(used[:-1]))
    except ValueError:
        return False


def _parse_numbers(cells: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Reads text cells as numbers; returns them and the rows that hold something else."""
    if not pa.types.is_dictionary(cells.type):
        words = cells.cast(pa.string())
        with contextlib.suppress(pa.ArrowInvalid):
            return words.cast(pa.float64()).to_numpy(zero_copy_only=False), _NO_ROWS
    return _parse_each(_as_text(cells), float)


def _parse_times(cells: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Reads ISO 8601 text or Arrow timestamps as Unix seconds; text without a zone is UTC."""
    if pa.types.is_null(cells.type):
        return np.full(len(cells), np.nan), _NO_ROWS
    if pa.types.is_timestamp(cells.type):
        micros = cells.cast(pa.timestamp("us", cells.type.tz)).cast(pa.int64())
        return micros.cast(pa.float64()).to_numpy(zero_copy_only=False) / 1e6, _NO_ROWS
    return _parse_each(_as_text(cells), unix_seconds)


def _parse_each(
    cells: pa.DictionaryArray, parse: Callable[[str], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Parses each different word once; long columns hold few."""
    words = cells.dictionary.to_pylist()
    values = np.full(len(words) + 1, np.nan)
    wrong = np.zeros(len(words) + 1, dtype=bool)
    for code, word in enumerate(words):
        try:
            values[code] = parse(word)
        except ValueError:
            wrong[code] = True
    # Code -1, a missing cell, is the last entry: NaN and not wrong.
    codes = codes_of(cells)
    return values[codes], np.flatnonzero(wrong[codes]) if wrong.any() else _NO_ROWS


def codes_of(cells: pa.DictionaryArray) -> np.ndarray:
    """Returns dictionary codes of shape (n_rows,), -1 where the cell is missing."""
    indices = cells.indices.fill_null(-1) if cells.null_count else cells.indices
    return indices.to_numpy(zero_copy_only=False)
