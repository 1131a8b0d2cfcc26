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

"""Reading and writing episode tables as Parquet, CSV and JSON Lines."""

import contextlib
import csv
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from oumi_deploy.episodes.columns import Columns, codes_of, one_chunk, type_columns
from oumi_deploy.episodes.schema import TEXT_COLUMNS
from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done

SUFFIXES = (".parquet", ".csv", ".jsonl")


def read_columns(path: str | os.PathLike[str]) -> Columns:
    """Reads the typed columns of an episode file without judging their values.

    Raises:
        DeployError: If the file is missing, of another kind, or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise DeployError(f"{path}: no such file")
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_json_lines}
    if path.suffix not in readers:
        raise DeployError(f"{path}: not an episode file; its name must end in {_suffixes()}")
    try:
        table = readers[path.suffix](path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DeployError(f"{path}: cannot be read as {path.suffix[1:]}: {reason}") from error
    return type_columns(table, table.column_names)


def columns_of_frame(frame: pd.DataFrame) -> Columns:
    """Types the columns of a long-form data frame."""
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError) as error:
        reason = " ".join(map(str, error.args))
        raise DeployError(f"the table cannot be read: {reason}") from error
    return type_columns(table, table.column_names)


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads an episode file as a long-form data frame, one row an observation.

    Raises:
        DeployError: As `read_columns`, and at the first cell that is not of its column's type.
    """
    columns = read_columns(path)
    if columns.problems:
        raise DeployError(f"{path}: {columns.problems[0]}")
    numbers = {name: pd.Series(values) for name, values in columns.numbers.items()}
    texts = {name: cells.to_pandas().astype(object) for name, cells in columns.texts.items()}
    frame = pd.DataFrame({**texts, **numbers})
    steps = columns.numbers.get("step", np.array([np.nan]))
    # Steps that are no whole numbers are the validator's to refuse.
    if (np.isnan(steps) | ((np.abs(steps) < 2**53) & (steps == np.round(steps)))).all():
        return frame.assign(step=frame["step"].astype("Int64")) if "step" in frame else frame
    return frame


def write_frame(
    frame: pd.DataFrame, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Writes a long-form data frame; the suffix of `path` picks the kind of file.

    Raises:
        DeployError: If the suffix is unknown or `path` exists and `overwrite` is not set.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DeployError(f"{path}: the name of an episode file must end in {_suffixes()}")
    with replace_when_done(path, overwrite=overwrite) as draft:
        if path.suffix == ".parquet":
            frame.to_parquet(draft, index=False)
        elif path.suffix == ".csv":
            frame.to_csv(draft, index=False, quoting=_quoting(frame))
        else:
            draft.write_text("".join(_json_lines(frame)), encoding="utf-8")


def _quoting(frame: pd.DataFrame) -> Literal[0, 2]:
    """Picks the quotes of a CSV: Python's writer leaves a carriage return bare, a line's end."""
    words = (w for name in frame for w in frame[name].unique() if frame[name].dtype == object)
    returns = any(isinstance(word, str) and "\r" in word for word in words)
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL


def _suffixes() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _read_parquet(path: Path) -> pa.Table:
    """Reads column by column, each cell to its place in one array.

    A million episodes fill gigabytes: read whole and joined afterwards, they would stand in
    memory twice, and to be given that memory takes longer than to read the file.
    """
    schema = pq.read_schema(path)
    texts = [field.name for field in schema if _is_string(field.type)]
    opened = threading.local()

    def read(field: pa.Field) -> pa.Array | pa.ChunkedArray:
        # A file is read by one thread at a time, so that each opens its own.
        if not hasattr(opened, "file"):
            opened.file = pq.ParquetFile(path, memory_map=True, read_dictionary=texts)
        return _read_column(opened.file, field)

    if len(set(schema.names)) < len(schema):
        return pq.read_table(path)
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        return pa.table(dict(zip(schema.names, pool.map(read, schema), strict=True)))


def _read_column(file: pq.ParquetFile, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """Reads a column; numbers become float64, texts are dictionaries."""
    name, n_rows = field.name, file.metadata.num_rows
    is_text = _is_string(field.type)
    if not (is_text or _is_plain_number(field.type)):
        return file.read(columns=[name])[name]
    values = np.empty(n_rows, dtype=np.int32 if is_text else np.float64)
    words, starts = [], [0]
    for group in range(file.num_row_groups):
        cells = one_chunk(file.read_row_group(group, columns=[name], use_threads=False)[name])
        starts.append(starts[-1] + len(cells))
        place = values[starts[-2] : starts[-1]]
        if is_text:
            words.append(cells.dictionary)
            place[:] = codes_of(cells)
        else:
            place[:] = cells.to_numpy(zero_copy_only=False)
    return _join_words(values, starts, words) if is_text else pa.array(values)


def _join_words(codes: np.ndarray, starts: list[int], parts: list[pa.Array]) -> pa.Array:
    """Joins the parts of a text column, whose codes each count from the part's own words.

    Args:
        codes: Codes of shape (n_rows,), -1 where missing; renumbered in place.
        starts: First row of each part, and the number of rows at the end.
        parts: Words of each part.
    """
    words = pa.concat_arrays(parts or [pa.array([], pa.string())]).dictionary_encode()
    bounds = np.cumsum([len(part) for part in parts])[:-1]
    renumbered = np.split(words.indices.to_numpy(), bounds)
    for (start, end), new in zip(pairwise(starts), renumbered, strict=False):
        # A missing cell's -1 finds the last entry, which says missing again.
        codes[start:end] = np.append(new, np.int32(-1))[codes[start:end]]
    missing = codes < 0
    indices = pa.array(codes, mask=missing) if missing.any() else pa.array(codes)
    return pa.DictionaryArray.from_arrays(indices, words.dictionary)


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_plain_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _read_csv(path: Path) -> pa.Table:
    """Reads every cell as text, so that a wrong one can be named by its row."""
    options = pacsv.ParseOptions(newlines_in_values=True)
    # Threads lose count of the rows, and then the message about a ragged one does not name it.
    one_thread = pacsv.ReadOptions(use_threads=False)
    with pacsv.open_csv(path, read_options=one_thread, parse_options=options) as reader:
        names = reader.schema.names
    return pacsv.read_csv(
        path,
        read_options=one_thread,
        parse_options=options,
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _read_json_lines(path: Path) -> pa.Table:
    records = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                records.append(_read_record(path, number, line))
    names = list(dict.fromkeys(name for record in records for name in record))
    return pa.table({name: _json_column(name, [r.get(name) for r in records]) for name in names})


def _read_record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DeployError(f"{path}: line {number}: not JSON: {error.msg}") from error
    if not isinstance(record, dict):
        raise DeployError(f"{path}: line {number}: an observation is an object, not {line.strip()}")
    return record


def _json_column(name: str, values: list[Any]) -> pa.Array:
    """Keeps numbers as numbers; a column that mixes kinds becomes text and is judged there.

    A name that is a number is text at once: as a float it could lose digits.
    """
    is_name = name in TEXT_COLUMNS or name == "action"
    if not is_name and all(value is None or type(value) in (int, float) for value in values):
        with contextlib.suppress(OverflowError):
            return pa.array([None if v is None else float(v) for v in values], pa.float64())
    values = [None if value != value else value for value in values]
    words = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(words, pa.string())


def _json_lines(frame: pd.DataFrame) -> Iterator[str]:
    for record in frame.astype(object).where(frame.notna(), None).to_dict(orient="records"):
        yield json.dumps({str(k): getattr(v, "item", lambda v=v: v)() for k, v in record.items()})
        yield "\n"
