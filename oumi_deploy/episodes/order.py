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

"""Which rows of a table belong to which episode."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oumi_deploy.episodes.columns import Columns


@dataclass(frozen=True, eq=False)
class EpisodeOrder:
    """The rows of a table, episode by episode, in the order the file has them.

    Attributes:
        rows: Row numbers, int64 of shape (n_rows,), episodes one after the other.
        offsets: Where each episode starts in `rows`, int64 of shape (n_episodes + 1,).
        names: `episode_id` of each episode, object of shape (n_episodes,).
    """

    rows: np.ndarray
    offsets: np.ndarray
    names: np.ndarray

    def episode_at(self, positions: np.ndarray) -> np.ndarray:
        """Returns the number of the episode that each position of `rows` belongs to."""
        return np.searchsorted(self.offsets, positions, side="right") - 1

    def name_at(self, position: int) -> str:
        """Returns the name of the episode that a position of `rows` belongs to."""
        return self.names[int(self.episode_at(np.array(position)))]

    def within(self, changes: np.ndarray) -> Iterator[int]:
        """Yields positions whose difference to the one before, in the same episode, is marked.

        Args:
            changes: Marks between neighbouring positions, bool of shape (n_rows - 1,).
        """
        inside = np.concatenate([[False], changes])
        inside[self.offsets[:-1]] = False
        return iter(np.flatnonzero(inside).tolist())


def order_rows(columns: Columns) -> EpisodeOrder:
    """Gathers the rows of each episode; episodes stand in the order of their first rows."""
    cells = columns.texts["episode_id"]
    codes = cells.indices.to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    rows = np.arange(len(codes))
    if len(np.unique(codes[starts])) < len(starts):
        first_row = np.full(codes.max() + 1, len(codes))
        np.minimum.at(first_row, codes, rows)
        rows = np.argsort(first_row[codes], kind="stable")
        sorted_codes = codes[rows]
        starts = np.flatnonzero(np.concatenate([[True], sorted_codes[1:] != sorted_codes[:-1]]))
    names = cells.dictionary.take(cells.indices.take(rows[starts])).to_numpy(zero_copy_only=False)
    return EpisodeOrder(rows, np.append(starts, len(codes)).astype(np.int64), names)
