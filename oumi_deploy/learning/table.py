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

"""Tabular Q-learning.

A table is a float32 array of shape (n_cells, n_actions); `counts` of the same shape says how
often each entry was learnt from.
"""

from collections.abc import Sequence

import numpy as np

from oumi_deploy.learning.transitions import Transitions
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.rewards import Action


class ReplayedTable:
    """Expected backups over logged episodes: one pass moves every cell towards its mean target.

    For a cell c, with the mean over the n(c, a) decisions in it whose outcome is known,

        Q(c, a) <- Q(c, a) + lr * (mean_i [r_i + discount_i * max_b Q(c'_i, b)] - Q(c, a))

    which is what one-step Q-learning does in expectation, without its noise (Watkins and Dayan,
    1992). The immediate rewards' means are formed once.

    Args:
        table: Q-values, float32 of shape (n_cells, n_actions), learnt in place.
        counts: Decisions behind each entry, float32 of the same shape; those of a table that
            was learnt before are added to, in place.
        cells: Cell of each decision, int64 of shape (n,).
        transitions: Their outcomes, length n.
    """

    def __init__(
        self, table: np.ndarray, counts: np.ndarray, cells: np.ndarray, transitions: Transitions
    ):
        self.table = table
        n_cells = len(table)
        learnt = {
            Action.CONTINUE: (transitions.learn_continue, transitions.continue_reward),
            Action.ROLLBACK: (transitions.learn_rollback, transitions.rollback_reward),
        }
        self._mean_reward = np.zeros(table.shape)
        n_learnt = np.zeros(table.shape)
        for action, (known, reward) in learnt.items():
            n_learnt[:, action] = np.bincount(cells[known], minlength=n_cells)
            total = np.bincount(cells[known], weights=reward[known], minlength=n_cells)
            self._mean_reward[:, action] = total / np.maximum(n_learnt[:, action], 1)
        counts += n_learnt
        self._visited = n_learnt > 0
        goes_on = np.flatnonzero(transitions.learn_continue & (transitions.continue_discount > 0))
        self._from = cells[goes_on]
        self._to = cells[transitions.next_decision[goes_on]]
        n_continue = np.maximum(n_learnt[:, Action.CONTINUE], 1)
        self._weight = transitions.continue_discount[goes_on] / n_continue[self._from]

    def sweep(self, learning_rate: float) -> float:
        """Does one pass over all decisions.

        Returns:
            Mean absolute change of the targets' distance, over the visited entries.
        """
        target = self._mean_reward.copy()
        if len(self._from):
            value = self.table.max(axis=1).astype(np.float64)
            target[:, Action.CONTINUE] += np.bincount(
                self._from, weights=self._weight * value[self._to], minlength=len(target)
            )
        error = np.where(self._visited, target - self.table, 0.0)
        self.table += learning_rate * error
        return float(np.abs(error).sum() / max(self._visited.sum(), 1))


def q_learning_update(
    table: np.ndarray,
    counts: np.ndarray,
    cell: int,
    action: int,
    reward: float,
    next_cell: int | None,
    learning_rate: float,
    discount: float,
) -> float:
    """The textbook update after one step in the environment, in place.

        Q(c, a) <- Q(c, a) + lr * (r + discount * max_b Q(c', b) - Q(c, a))

    Args:
        table: Q-values, shape (n_cells, n_actions).
        counts: Updates of each entry so far, same shape.
        cell: Cell of the state the action was taken in.
        action: The action.
        reward: What it paid.
        next_cell: Cell it led to, None at the end.
        learning_rate: Step towards the target, above 0 and at most 1.
        discount: Factor on what follows.

    Returns:
        The temporal difference before the update.
    """
    following = 0.0 if next_cell is None else discount * float(table[next_cell].max())
    difference = reward + following - float(table[cell, action])
    table[cell, action] += learning_rate * difference
    counts[cell, action] += 1
    return difference


def fill_unvisited(table: np.ndarray, counts: np.ndarray, shape: tuple[int, ...]) -> None:
    """Gives each entry never learnt from the mean of the nearest that were, in place.

    Nearest is by steps between bins, missing counting as one step from every bin. Without this
    a state nobody has seen would have Q-values of 0, a tie that says nothing.

    Args:
        table: Q-values, shape (prod(shape), n_actions).
        counts: Updates of each entry, same shape.
        shape: Bins of each feature, the last of which is missing.
    """
    for action in range(table.shape[1]):
        values = table[:, action].reshape(shape).astype(np.float64)
        known = counts[:, action].reshape(shape) > 0
        if not known.any():
            continue
        while not known.all():
            total, weight = np.zeros(shape), np.zeros(shape)
            for axis in range(len(shape)):
                _add_neighbours(total, np.where(known, values, 0.0), axis)
                _add_neighbours(weight, known.astype(np.float64), axis)
            reached = ~known & (weight > 0)
            values[reached] = total[reached] / weight[reached]
            known |= reached
        table[:, action] = values.reshape(-1)


def _add_neighbours(total: np.ndarray, values: np.ndarray, axis: int) -> None:
    """Adds to each cell what its neighbours along one feature have."""
    total, values = np.moveaxis(total, axis, 0), np.moveaxis(values, axis, 0)
    total[1:-1] += values[:-2]
    total[:-2] += values[1:-1]
    total[:-1] += values[-1]
    total[-1] += values[:-1].sum(axis=0)


def keep_order(
    table: np.ndarray,
    counts: np.ndarray,
    shape: tuple[int, ...],
    signs: np.ndarray,
    bounds: Bounds,
) -> None:
    """Makes a table that never finds a release less bad where a feature gets worse, in place.

    Q(ROLLBACK), and its lead over Q(CONTINUE), become their projections onto the tables that rise
    with every feature of sign 1 and fall with every one of sign -1: the nearest such table by least
    squares, each entry weighted by the decisions it was learnt from (isotonic regression, by
    Dykstra's alternating projections, 1983, one feature after the other). The bin of missing values
    has no place in the order. Q(CONTINUE) stays within its bounds.

    Args:
        table: Q-values, shape (prod(shape), n_actions), every entry filled.
        counts: Decisions behind each entry, same shape.
        shape: Bins of each feature, the last of which is missing.
        signs: Sign of each feature, int of shape (n_features,).
        bounds: What the rewards allow.
    """
    # What nothing was learnt of goes where its neighbours push it.
    weights = np.maximum(counts, _UNSEEN).reshape(*shape, len(Action)).astype(np.float64)
    q = table.reshape(*shape, len(Action)).astype(np.float64)
    least, most = bounds.rollback
    q_rollback = np.clip(q[..., Action.ROLLBACK], least, most)
    lead = q_rollback - bounds.cut(q[..., Action.CONTINUE])
    both = weights.min(axis=-1)
    q_rollback = _rising(q_rollback, weights[..., Action.ROLLBACK], signs)
    lead = _rising(lead, both, signs)
    table[:, Action.ROLLBACK] = q_rollback.reshape(-1)
    table[:, Action.CONTINUE] = bounds.cut(q_rollback - lead).reshape(-1)


_UNSEEN = 0.1
_ROUNDS = 200
_CLOSE = 1e-6


def _rising(values: np.ndarray, weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Projects onto arrays that rise along each axis of sign 1 and fall along each of sign -1."""
    axes = [axis for axis, sign in enumerate(signs) if sign and values.shape[axis] > 2]
    turned = [axis for axis in axes if signs[axis] < 0]
    values, weights = (_turn(array, turned) for array in (values, weights))
    moved = dict.fromkeys(axes, np.zeros_like(values))
    for _ in range(_ROUNDS):
        before = values
        for axis in axes:
            wanted = values + moved[axis]
            values = _rising_along(axis, wanted, weights)
            moved[axis] = wanted - values
        if np.abs(values - before).max(initial=0.0) < _CLOSE:
            break
    # Where weights differ by millions it may not be there yet. Without what was moved before, each
    # round is nearer to an array in order, and what was learnt from much hardly moves.
    for _ in range(_ROUNDS):
        before = values
        for axis in axes:
            values = _rising_along(axis, values, weights)
        if np.abs(values - before).max(initial=0.0) < _CLOSE:
            break
    for axis in axes:  # What is left of rounding.
        known = np.moveaxis(values, axis, 0)
        values = np.moveaxis(
            np.concatenate([np.maximum.accumulate(known[:-1]), known[-1:]]), 0, axis
        )
    return _turn(values, turned)


def _turn(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Turns the known bins of some axes round."""
    for axis in axes:
        known = np.moveaxis(array, axis, 0)
        array = np.moveaxis(np.concatenate([known[-2::-1], known[-1:]]), 0, axis)
    return array


def _rising_along(axis: int, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the nearest array that rises along one axis, but for its bin of missing values.

    Bin k takes the largest, over where a run of bins may begin, of the smallest weighted mean of
    the runs from there to k or beyond (the max-min formula of isotonic regression).
    """
    values, weights = (np.moveaxis(x, axis, -1) for x in (values, weights))
    result = np.full_like(values, -np.inf)
    result[..., -1] = values[..., -1]
    for first in range(values.shape[-1] - 1):
        weight = weights[..., first:-1]
        means = np.cumsum(weight * values[..., first:-1], axis=-1) / np.cumsum(weight, axis=-1)
        least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        np.maximum(result[..., first:-1], least, out=result[..., first:-1])
    return np.moveaxis(result, -1, axis)
