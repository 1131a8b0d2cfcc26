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

"""Episodes as Arrow rows, one row an episode, and back.

A row is what Oumi samples, shuffles and mixes, so none of that can tear an episode. It has a list
for every numeric column of its file, or for chosen metrics alone: then files with other columns
make the same rows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import CONTROL, LABELS, NEVER_STATE, UNKNOWN
from oumi_deploy.errors import DeployError

CONTEXT = ("timestamp", "canary_share", "planned_steps")
"""Columns that are kept beside the metrics that are chosen."""


_FIELDS: dict[str, pa.DataType] = {
    "episode_id": pa.string(),
    "group": pa.string(),
    "service": pa.string(),
    "label": pa.string(),
    "length": pa.int32(),
    "baseline_length": pa.int32(),
    "rolled_back": pa.bool_(),
}
"""What a row has of its episode, beside the lists."""


def list_columns(metrics: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns that hold one number an observation, where metrics are chosen.

    Raises:
        DeployError: If a name is no metric.
    """
    for metric in metrics:
        if not isinstance(metric, str) or metric in NEVER_STATE:
            raise DeployError(f"metrics: {metric!r} is not a metric")
    own = [name for metric in metrics for name in (metric, CONTROL + metric)]
    return tuple(dict.fromkeys([*CONTEXT, *own]))


def to_rows(episodes: Episodes, metrics: Sequence[str] | None = None) -> pa.Table:
    """Returns one row an episode.

    Args:
        episodes: The episodes.
        metrics: Metrics to keep, with their control values and CONTEXT; a column that the episodes
            lack is null. All numeric columns if None.

    Raises:
        DeployError: If a name is no metric, or a column has the name of one of a row's own fields.
    """
    names = tuple(episodes.numbers) if metrics is None else list_columns(metrics)
    for name in names:
        if name in _FIELDS:
            raise DeployError(
                f"column {name}: rows of episodes have a field of that name; rename it"
            )
    columns: dict[str, pa.Array] = {
        "episode_id": pa.array(episodes.ids, pa.string(), from_pandas=True),
        "group": pa.array(episodes.groups, pa.string(), from_pandas=True),
        "service": pa.array(
            episodes.texts.get("service", np.full(len(episodes), None)), pa.string()
        ),
        "label": _label_words(episodes.labels),
        "length": pa.array(episodes.lengths, pa.int32()),
        "baseline_length": pa.array(episodes.baseline_lengths, pa.int32()),
        "rolled_back": pa.array(episodes.rolled_back),
    }
    offsets = pa.array(episodes.offsets, pa.int32())
    numbers = pa.list_(pa.float64())
    for name in names:
        if name in episodes.numbers:
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(episodes.numbers[name]))
        else:
            columns[name] = pa.nulls(len(episodes), numbers)
    return pa.table(columns, schema=pa.schema({**_FIELDS, **dict.fromkeys(names, numbers)}))


def _label_words(codes: np.ndarray) -> pa.Array:
    words = pa.array(sorted(LABELS, key=LABELS.__getitem__), pa.string())
    return words.take(pa.array(codes, mask=codes == UNKNOWN))


def from_rows(rows: pa.Table) -> Episodes:
    """Packs rows; a list column that is null throughout is a column the episodes lack.

    Raises:
        DeployError: If the table does not hold episodes, or has no rows.
    """
    absent = [name for name in _FIELDS if name not in rows.column_names]
    if absent:
        raise DeployError(f"the dataset's rows are not episodes: {', '.join(absent)} missing")
    if not rows.num_rows:
        raise DeployError("the dataset has no episodes")
    lengths = rows["length"].to_numpy().astype(np.int64)
    labels = np.full(len(lengths), UNKNOWN, dtype=np.int8)
    words = rows["label"].to_numpy()
    for word, code in LABELS.items():
        labels[words == word] = code
    services = rows["service"].to_numpy()
    return Episodes(
        ids=rows["episode_id"].to_numpy(),
        groups=rows["group"].to_numpy(),
        labels=labels,
        rolled_back=rows["rolled_back"].to_numpy().astype(bool),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        baseline_lengths=rows["baseline_length"].to_numpy().astype(np.int64),
        numbers=_flatten_all(rows, lengths),
        texts={"service": services} if any(s is not None for s in services) else {},
    )


def _flatten_all(rows: pa.Table, lengths: np.ndarray) -> dict[str, np.ndarray]:
    numbers = {}
    for field in rows.schema:
        is_list = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        if is_list and rows[field.name].null_count < rows.num_rows:
            numbers[field.name] = _flatten(rows[field.name], lengths)
    return numbers


def _flatten(lists: pa.ChunkedArray, lengths: np.ndarray) -> np.ndarray:
    chunks = [chunk.flatten() for chunk in lists.chunks]
    values = pa.chunked_array(chunks).to_numpy() if chunks else np.empty(0)
    if not lists.null_count:
        return values
    held = ~lists.is_null().to_numpy()
    flat = np.full(int(lengths.sum()), np.nan)
    flat[np.repeat(held, lengths)] = values
    return flat
