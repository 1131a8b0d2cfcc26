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

"""Binning the state for a table of Q-values."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from oumi_deploy.errors import DeployError

MOST_CELLS = 1_000_000
"""Cells above which a table is refused: no release history could fill it."""


def quantile_edges(features: np.ndarray, n_bins: int) -> list[np.ndarray]:
    """Returns edges that fill the bins of each feature equally; repeated ones count once.

    Args:
        features: Training features of shape (n, n_features), NaN where missing.
        n_bins: Bins of a feature, missing values apart.

    Returns:
        Rising inner edges of each feature, at most n_bins - 1.
    """
    return [_inner_edges(column[~np.isnan(column)], n_bins) for column in features.T]


def _inner_edges(known: np.ndarray, n_bins: int) -> np.ndarray:
    """Quantile edges; a minimum that fills a bin alone gets it, and the rest share the others.

    Most error rates are 0: plain quantiles of them would all be 0 and tell nothing apart.
    """
    if n_bins < 2 or not len(known) or known.min() == known.max():
        return np.empty(0)
    above = known[known > known.min()]
    if len(above) > len(known) * (1 - 1 / n_bins):
        return np.unique(np.quantile(known, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.unique(np.quantile(above, np.linspace(0, 1, n_bins)[:-1]))


def make_edges(
    names: Sequence[str],
    features: np.ndarray,
    n_bins: int,
    fixed: Mapping[str, Sequence[float]],
) -> list[np.ndarray]:
    """Returns the edges of each feature: those given, else quantiles of the training split.

    Raises:
        DeployError: If edges are given for no feature, do not rise, or make too many cells.
    """
    for name, inner in fixed.items():
        if name not in names:
            raise DeployError(f"edges: the state has no feature {name}; it has {', '.join(names)}")
        if not _rise(inner):
            raise DeployError(f"edges.{name}: give a list of finite numbers that rise, got {inner}")
    edges = [
        np.asarray(fixed[name], dtype=np.float64) if name in fixed else inner
        for name, inner in zip(names, quantile_edges(features, n_bins), strict=True)
    ]
    n_cells = prod(table_shape(edges))
    if n_cells > MOST_CELLS:
        raise DeployError(
            f"the table would have {n_cells:,} cells, more than {MOST_CELLS:,}: "
            "name fewer features in the state or take fewer bins"
        )
    return edges


def _rise(edges: Sequence[float]) -> bool:
    try:
        inner = np.asarray(edges, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return (
        inner.ndim == 1
        and len(inner) > 0
        and bool(np.isfinite(inner).all() and (np.diff(inner) > 0).all())
    )


def table_shape(edges: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Returns the bins of each feature: one more than inner edges, and one for missing."""
    return tuple(len(inner) + 2 for inner in edges)


def cells(edges: Sequence[np.ndarray], features: np.ndarray) -> np.ndarray:
    """Returns the table cell of each state.

    Args:
        edges: Inner edges of each feature; a value on an edge belongs to the bin above it.
        features: Shape (n, n_features), NaN where missing.

    Returns:
        Cell numbers, int64 of shape (n,).
    """
    numbers = np.zeros(len(features), dtype=np.int64)
    for inner, size, column in zip(edges, table_shape(edges), features.T, strict=True):
        bins = np.searchsorted(inner, column, side="right")
        # NaN sorts to the end, which is the last real bin; missing has the one after it.
        bins[np.isnan(column)] = size - 1
        numbers = numbers * size + bins
    return numbers
