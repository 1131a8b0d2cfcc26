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

"""Intervals by resampling groups, studentised.

Importance weights make a few releases count for many. The percentile interval of such a mean is
too short on the side of the rare large weight; resampling the estimate over its own standard
error (bootstrap-t, Davison and Hinkley 1997, section 5.2; groups drawn whole, section 3.8) makes
up for that.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from oumi_deploy.evaluation.offpolicy.log import Floats
from oumi_deploy.evaluation.offpolicy.weights import Mean

RESAMPLES = 2000
"""Sets of groups drawn."""

LEVELS = (0.025, 0.975, 0.05)
"""Ends of the 95 % interval, and of the one-sided 95 % bound from below."""

_BLOCK = 4_000_000
"""Numbers held at a time while drawing."""


def drawn_counts(n_groups: int, seed: int, resamples: int, width: int = 1) -> Iterator[Floats]:
    """Yields, block by block, how often each group was drawn, shape (block, n_groups).

    Args:
        n_groups: Groups to draw from, and to draw.
        seed: Seed.
        resamples: Sets to draw.
        width: Numbers that the caller makes of a set, if more than it has groups.
    """
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(n_groups, width))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, n_groups, size=(size, n_groups))
        cells = (drawn + n_groups * np.arange(size)[:, None]).ravel()
        yield np.bincount(cells, minlength=size * n_groups).reshape(drawn.shape).astype(float)


def studentised(means: Sequence[Mean], groups: np.ndarray, seed: int = 0) -> Floats:
    """Returns intervals of weighted means.

    Args:
        means: The estimates, each of the same n releases.
        groups: Codes from 0 of the releases' groups, shape (n,).
        seed: Seed of the resampling.

    Returns:
        Low and high end of the 95 % interval and the lower bound, shape (n_means, 2 metrics, 3).
    """
    n_groups = int(groups.max()) + 1
    above = np.concatenate([_by_group(m.above, groups) for m in means], axis=1)
    below = np.concatenate(
        [_by_group(np.repeat(m.below[:, None], m.above.shape[1], axis=1), groups) for m in means],
        axis=1,
    )
    shape = (len(means), above.shape[1] // len(means), len(LEVELS))
    terms = np.concatenate([above, below, above**2, above * below, below**2], axis=1)
    value, error = _ratio(terms.sum(axis=0, keepdims=True))
    sets = drawn_counts(n_groups, seed, RESAMPLES)
    values, errors = _ratio(np.concatenate([counts @ terms for counts in sets]))
    scores = np.zeros_like(values)
    np.divide(values - value, errors, out=scores, where=errors > 0)
    # A set without any spread, such as one large weight drawn throughout, has no score.
    scores[(values != value) & ~(errors > 0)] = np.nan
    ends = [value[0] - error[0] * np.nanquantile(scores, 1 - level, axis=0) for level in LEVELS]
    return np.stack(ends, axis=-1).reshape(shape)


def _by_group(values: Floats, groups: np.ndarray) -> Floats:
    columns = [np.bincount(groups, column) for column in values.T]
    return np.stack(columns, axis=1).astype(float)


def _ratio(sums: Floats) -> tuple[Floats, Floats]:
    """Returns sum(above) / sum(below) and its standard error by linearisation, (n_sets, k)."""
    above, below, above2, product, below2 = np.split(sums, 5, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = above / below
        squares = above2 - 2 * value * product + value**2 * below2
        return value, np.sqrt(np.maximum(squares, 0.0)) / np.abs(below)
