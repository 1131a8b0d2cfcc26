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

"""Episodes packed into flat arrays, the form that all the rest of the library works on."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd

from oumi_deploy.episodes.columns import Columns
from oumi_deploy.episodes.order import order_rows
from oumi_deploy.episodes.schema import BAD, GOOD, LABELS, UNKNOWN
from oumi_deploy.episodes.table import columns_of_frame, read_columns
from oumi_deploy.episodes.validate import codes_of, find_problems, is_canary, is_rollback
from oumi_deploy.errors import DeployError


@dataclass(frozen=True, eq=False)
class Episodes:
    """A set of episodes. Rows of one episode are neighbours, baseline rows before canary rows.

    Attributes:
        ids: `episode_id`, object of shape (n_episodes,); unique only within one file.
        groups: What an episode must not be separated from, object of shape (n_episodes,); None
            where the episode stands alone.
        labels: GOOD, BAD or UNKNOWN, int8 of shape (n_episodes,).
        rolled_back: Whether the logged episode ended in ROLLBACK, bool of shape (n_episodes,).
        offsets: First row of each episode, int64 of shape (n_episodes + 1,).
        baseline_lengths: Number of baseline rows, int64 of shape (n_episodes,).
        numbers: Numeric columns by name, float64 of shape (n_rows,), NaN where missing.
        texts: Other texts by name, first word of each episode, object of shape (n_episodes,).
    """

    ids: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    rolled_back: np.ndarray
    offsets: np.ndarray
    baseline_lengths: np.ndarray
    numbers: dict[str, np.ndarray]
    texts: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return len(self.ids)

    @property
    def n_rows(self) -> int:
        """Number of observations, baseline and canary."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> np.ndarray:
        """Observations of each episode, int64 of shape (n_episodes,)."""
        return np.diff(self.offsets)

    @property
    def canary_lengths(self) -> np.ndarray:
        """Canary observations, that is decisions, of each episode."""
        return self.lengths - self.baseline_lengths

    @property
    def canary_offsets(self) -> np.ndarray:
        """First decision of each episode among all decisions, shape (n_episodes + 1,)."""
        return np.concatenate([[0], np.cumsum(self.canary_lengths)])

    @property
    def canary_steps(self) -> np.ndarray:
        """Canary observations before each decision, int64 of shape (n_decisions,)."""
        starts = np.repeat(self.canary_offsets[:-1], self.canary_lengths)
        return np.arange(len(starts)) - starts

    @property
    def canary_rows(self) -> np.ndarray:
        """Row numbers of the canary observations, int64 of shape (n_decisions,)."""
        skipped = np.cumsum(self.baseline_lengths)
        return np.arange(self.canary_offsets[-1]) + np.repeat(skipped, self.canary_lengths)

    def column(self, name: str) -> np.ndarray:
        """Returns a numeric column, or missing values where the table has none of that name."""
        values = self.numbers.get(name)
        return np.full(self.n_rows, np.nan) if values is None else values

    def group_codes(self) -> np.ndarray:
        """Numbers the groups; an episode without one is a group of its own.

        Returns:
            Codes from 0, int64 of shape (n_episodes,).
        """
        named = ~pd.isna(self.groups)
        codes = np.empty(len(self), dtype=np.int64)
        codes[named] = pd.factorize(self.groups[named])[0]
        codes[~named] = np.arange((~named).sum()) + (codes[named].max(initial=-1) + 1)
        return codes

    @property
    def n_groups(self) -> int:
        """Number of groups, an episode without one counting as one."""
        return int(self.group_codes().max(initial=-1)) + 1

    def select(self, which: np.ndarray) -> "Episodes":
        """Returns some of the episodes, in the order asked for.

        Args:
            which: Episode numbers or a mask of shape (n_episodes,).
        """
        chosen = np.arange(len(self))[which]
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return Episodes(
            ids=self.ids[chosen],
            groups=self.groups[chosen],
            labels=self.labels[chosen],
            rolled_back=self.rolled_back[chosen],
            offsets=offsets,
            baseline_lengths=self.baseline_lengths[chosen],
            numbers={name: values[rows] for name, values in self.numbers.items()},
            texts={name: words[chosen] for name, words in self.texts.items()},
        )

    def fingerprint(self) -> str:
        """Returns a SHA-256 of everything a policy could have learnt from."""
        digest = hashlib.sha256()
        for part in (self.offsets, self.baseline_lengths, self.labels, self.rolled_back):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update("\n".join(map(str, self.groups)).encode())
        for name in sorted(self.numbers):
            if not np.isnan(self.numbers[name]).all():
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(self.numbers[name]).tobytes())
        return digest.hexdigest()

    def require_both_classes(self) -> None:
        """Raises DeployError unless there are good and bad episodes to learn from."""
        n_good, n_bad = (int((self.labels == label).sum()) for label in (GOOD, BAD))
        if not n_good or not n_bad:
            raise DeployError(
                f"training needs good and bad episodes, and has {n_good} good and {n_bad} bad: "
                "add labelled releases of the missing kind"
            )


def read_episodes(path: str | os.PathLike[str]) -> Episodes:
    """Reads and validates an episode file.

    Args:
        path: A Parquet, CSV or JSON Lines file in the format of `FORMAT.md`.

    Raises:
        DeployError: With the first thing that is wrong with the file.
    """
    return episodes_of_columns(read_columns(path), source=str(path))


def episodes_of_frame(frame: pd.DataFrame, source: str = "data frame") -> Episodes:
    """Packs and validates a long-form data frame.

    Raises:
        DeployError: With the first thing that is wrong, after the name of the `source`.
    """
    return episodes_of_columns(columns_of_frame(frame), source=source)


def episodes_of_columns(columns: Columns, source: str) -> Episodes:
    """Validates typed columns and packs them."""
    problems = find_problems(columns)
    if problems:
        raise DeployError(f"{source}: {problems[0]}{_and_more(len(problems) - 1)}")
    order = order_rows(columns)
    rows, starts = order.rows, order.offsets[:-1]
    in_place = bool((rows[1:] > rows[:-1]).all())
    baseline = ~is_canary(columns)[rows]
    return Episodes(
        ids=order.names,
        groups=_first_words(columns, "group", rows[starts]),
        labels=_label_codes(columns, rows[starts]),
        rolled_back=is_rollback(columns)[rows[order.offsets[1:] - 1]],
        offsets=order.offsets,
        baseline_lengths=np.add.reduceat(baseline, starts, dtype=np.int64),
        numbers={n: v if in_place else v[rows] for n, v in columns.numbers.items()},
        texts={
            name: _first_words(columns, name, rows[starts])
            for name in columns.texts
            if name not in ("episode_id", "group", "label", "phase", "action")
        },
    )


def concatenate(parts: Iterable[Episodes]) -> Episodes:
    """Joins sets of episodes; a column that one of them lacks is missing there."""
    parts = list(parts)
    names = dict.fromkeys(name for part in parts for name in part.numbers)
    texts = dict.fromkeys(name for part in parts for name in part.texts)
    shared = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Episodes)
        if f.name not in ("offsets", "numbers", "texts")
    }
    lengths = np.concatenate([part.lengths for part in parts])
    return Episodes(
        **shared,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        numbers={name: np.concatenate([p.column(name) for p in parts]) for name in names},
        texts={
            name: np.concatenate([p.texts.get(name, np.full(len(p), None)) for p in parts])
            for name in texts
        },
    )


def _and_more(n_others: int) -> str:
    return f" (and {n_others} more; `oumi-deploy check` lists them)" if n_others else ""


def _first_words(columns: Columns, name: str, rows: np.ndarray) -> np.ndarray:
    cells = columns.texts.get(name)
    if cells is None:
        return np.full(len(rows), None, dtype=object)
    words = np.array([*cells.dictionary.to_pylist(), None], dtype=object)
    return words[codes_of(cells)[rows]]


def _label_codes(columns: Columns, rows: np.ndarray) -> np.ndarray:
    words = _first_words(columns, "label", rows)
    codes = np.full(len(rows), UNKNOWN, dtype=np.int8)
    for word, code in LABELS.items():
        codes[words == word] = code
    return codes
