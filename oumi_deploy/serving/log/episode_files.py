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

"""Writing an episode file in pieces, so that a log of any length fits into memory."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from oumi_deploy.episodes.columns import Problem, type_columns
from oumi_deploy.episodes.schema import TEXT_COLUMNS
from oumi_deploy.episodes.validate import find_problems

Row = dict[str, Any]

_FIRST = ("episode_id", "step", "timestamp", "phase")
_LAST = ("action", "propensity", "label", "group", "service", "version", "environment")
_TEXTS = {*TEXT_COLUMNS, "action"}
_PIECE = 10_000


class EpisodeDraft:
    """Rows on their way into an episode file.

    Which columns there are is known once all rows are: until then they lie in a file of JSON
    Lines.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()):
        """Begins a draft.

        Args:
            path: Where rows wait.
            columns: Numeric columns that the file has, whether a row has a value or not.
        """
        self.path = path
        self.n_rows = 0
        self._always = dict.fromkeys(columns)
        self._names: dict[str, None] = dict.fromkeys(_FIRST) | self._always
        self._texts = set(_TEXTS)
        self._file = path.open("w", encoding="utf-8")

    def add(self, rows: Iterable[Row]) -> None:
        """Adds rows; what they do not name is missing there."""
        for row in rows:
            self._names.update(dict.fromkeys(row))
            self._texts.update(name for name, value in row.items() if isinstance(value, str))
            told = self._always | {k: v for k, v in row.items() if v is not None}
            self._file.write(json.dumps(told, allow_nan=False) + "\n")
            self.n_rows += 1

    def finish(self, final: Path) -> None:
        """Writes the episode file; its suffix picks the kind."""
        self._file.close()
        if final.suffix == ".jsonl":
            self.path.rename(final)
            return
        between = [name for name in self._names if name not in (*_FIRST, *_LAST)]
        names = [*_FIRST, *between, *_LAST]
        kinds = [(name, pa.string() if name in self._texts else pa.float64()) for name in names]
        schema = pa.schema(kinds)
        writer = pq.ParquetWriter if final.suffix == ".parquet" else pacsv.CSVWriter
        with writer(final, schema) as file:
            for rows in self._pieces():
                file.write_table(table_of(rows, schema))

    def close(self) -> None:
        """Closes the file of rows."""
        self._file.close()

    def _pieces(self) -> Iterator[list[Row]]:
        with self.path.open(encoding="utf-8") as lines:
            while piece := [json.loads(line) for line in islice(lines, _PIECE)]:
                yield piece


def problems_of(rows: Sequence[Row]) -> list[Problem]:
    """Returns what keeps rows from being episodes, empty if nothing does."""
    names = dict.fromkeys(name for row in rows for name in row)
    texts = _TEXTS | {n for row in rows for n, value in row.items() if isinstance(value, str)}
    kinds = [(name, pa.string() if name in texts else pa.float64()) for name in names]
    table = table_of(rows, pa.schema(kinds))
    return find_problems(type_columns(table, table.column_names))


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Returns rows as a table; a number in a column of text becomes a word."""
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if field.type == pa.string():
            values = [json.dumps(v) if isinstance(v, float) else v for v in values]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)
