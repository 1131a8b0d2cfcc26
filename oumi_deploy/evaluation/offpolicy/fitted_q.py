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

"""Fitted Q evaluation with a linear Q-function, cross-fitted by groups and resampled whole.

Le, Voloshin and Yue (2019), "Batch policy learning under constraints". The regressions need only
sums of products over decisions, so each group is summed once, and a fit without one fold, or to
groups drawn with replacement (Hao et al. 2021, "Bootstrapping fitted Q-evaluation for off-policy
inference"), is a sum over groups and a small linear system.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from oumi_deploy.evaluation.offpolicy.intervals import drawn_counts
from oumi_deploy.evaluation.offpolicy.log import METRICS, DecisionLog, Floats

PENALTY = 1.0
"""Ridge penalty on standardised features, the weight of one decision."""

RESAMPLES = 1000
"""Sets of groups drawn; each is a fit for every fold."""

Sums = Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class FittedQ:
    """Cross-fitted values of the target policy.

    Attributes:
        q_values: Q of CONTINUE and ROLLBACK by models blind to the decision's group, shape
            (n_decisions, 2 actions, 2 metrics).
        value: Mean value of the releases' first decisions, shape (2,).
        resampled: The same fitted to drawn groups, shape (RESAMPLES, 2).
    """

    q_values: Floats
    value: Floats
    resampled: Floats


def fitted_q_evaluation(
    log: DecisionLog, x: Floats, folds: NDArray[np.int64], seed: int
) -> FittedQ:
    """Fits Q of the target policy, fold by fold.

    Args:
        log: The log; what is not labelled teaches nothing.
        x: Standardised features with a column of ones first, shape (n_decisions, n_features).
        folds: Fold of each group, shape (n_groups,).
        seed: Seed of the resampling.
    """
    sums = _group_sums(log, x)
    horizon = int(np.diff(log.offsets).max())
    n_folds = int(folds.max()) + 1
    once = np.ones((1, len(folds)))
    go_on, stop = _fit_without_each_fold(_fold_sums(sums, once, folds), horizon)
    fold = folds[log.groups][log.release]
    q_values = np.stack(
        [np.einsum("np,npm->nm", x, coefficients[0][fold]) for coefficients in (go_on, stop)],
        axis=1,
    )
    resampled = [
        _value(drawn, *_fit_without_each_fold(drawn, horizon))
        for counts in drawn_counts(len(folds), seed, RESAMPLES, n_folds * x.shape[1] ** 2)
        for drawn in [_fold_sums(sums, counts, folds)]
    ]
    value = _value(_fold_sums(sums, once, folds), go_on, stop)[0]
    return FittedQ(q_values, value, np.concatenate(resampled))


def _group_sums(log: DecisionLog, x: Floats) -> Sums:
    """Sums of products over the decisions of each group, shape (n_groups, ...).

    A known label tells what ROLLBACK would pay at every decision, not only where it was logged.
    """
    release = log.release
    group = log.groups[release]
    known = log.labelled[release]
    went_on = known & log.went_on
    before = np.flatnonzero(went_on & ~log.is_last)
    stops_next = log.target_stops[before + 1]
    first = log.offsets[:-1]
    stops_first = log.target_stops[first]
    pays = np.repeat(log.rollback_rewards[release][:, None], len(METRICS), axis=1)

    def of(rows: np.ndarray, y: Floats) -> Floats:
        return _products(x[rows], y, group[rows], int(log.groups.max()) + 1)

    def next_where(chosen: np.ndarray) -> Floats:
        return of(before[chosen], x[before[chosen] + 1])

    def first_where(chosen: np.ndarray) -> Floats:
        return of(first[chosen], np.ones((int(chosen.sum()), 1)))

    return {
        "stop_gram": of(known, x[known]),
        "stop_rewards": of(known, pays[known]),
        "go_on_gram": of(went_on, x[went_on]),
        "go_on_rewards": of(went_on, log.rewards[went_on]),
        "next_goes_on": next_where(~stops_next),
        "next_stops": next_where(stops_next),
        "first_goes_on": first_where(~stops_first),
        "first_stops": first_where(stops_first),
    }


def _products(x: Floats, y: Floats, group: np.ndarray, n_groups: int) -> Floats:
    """Returns the sum of outer products x y' of each group, shape (n_groups, p, q)."""
    shape = (n_groups, len(group))
    members = sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape)
    return np.stack([members @ (column[:, None] * y) for column in x.T], axis=1)


def _fold_sums(sums: Sums, counts: Floats, folds: NDArray[np.int64]) -> Sums:
    """Returns the sums over each fold's groups, shape (n_sets, n_folds, p, q)."""
    n_folds = int(folds.max()) + 1
    return {
        name: np.stack(
            [np.tensordot(counts[:, folds == k], s[folds == k], 1) for k in range(n_folds)],
            axis=1,
        )
        for name, s in sums.items()
    }


def _fit_without_each_fold(by_fold: Sums, horizon: int) -> tuple[Floats, Floats]:
    """Returns coefficients of CONTINUE and ROLLBACK, each (n_sets, n_folds, p, 2 metrics).

    Each round lets the target policy decide once more; after `horizon` of them every release
    has come to its end.
    """
    rest = {name: s.sum(axis=1, keepdims=True) - s for name, s in by_fold.items()}
    penalty = PENALTY * np.eye(rest["stop_gram"].shape[-1])
    # The column of ones is not pulled to 0; what is left keeps an empty set solvable.
    penalty[0, 0] *= 1e-6
    stop = np.linalg.solve(rest["stop_gram"] + penalty, rest["stop_rewards"])
    gram = rest["go_on_gram"] + penalty
    ends = np.linalg.solve(gram, rest["go_on_rewards"] + rest["next_stops"] @ stop)
    onward = np.linalg.solve(gram, rest["next_goes_on"])
    go_on = ends
    for _ in range(horizon - 1):
        go_on = ends + onward @ go_on
    return go_on, stop


def _value(by_fold: Sums, go_on: Floats, stop: Floats) -> Floats:
    """Returns the mean value of the first decisions, each by the fit without its fold."""
    total = by_fold["first_goes_on"] * go_on + by_fold["first_stops"] * stop
    # The first feature is 1: its sum counts the releases.
    n = (by_fold["first_goes_on"] + by_fold["first_stops"])[:, :, 0, 0].sum(axis=1)
    return total.sum(axis=(1, 2)) / n[:, None]
