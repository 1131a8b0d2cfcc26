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

"""Shapley values: what each player of a game contributes (Shapley 1953).

The value of player i is the mean, over all orders in which the players can join, of what i adds to
those before it. The values sum to the worth of all players minus that of none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial

import numpy as np

MOST_EXACT = 10
"""Players up to which all coalitions are played; above, orders are sampled."""

N_ORDERS = 256
"""Orders that are sampled."""


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """What each player contributes.

    Attributes:
        values: Shape (n_players,).
        worth_of_none: Worth without any player.
        worth_of_all: Worth with every player.
        standard_error: Largest standard error of the values; None where they are exact.
    """

    values: np.ndarray
    worth_of_none: float
    worth_of_all: float
    standard_error: float | None


def shapley_values(
    worth: Callable[[np.ndarray], np.ndarray], n_players: int, seed: int = 0
) -> ShapleyValues:
    """Returns the Shapley values of a game, exact up to MOST_EXACT players.

    Args:
        worth: From coalitions, bool of shape (n, n_players), to their worths, shape (n,). It is
            called once.
        n_players: Number of players, 1 or more.
        seed: Seed of the sampled orders.
    """
    if n_players <= MOST_EXACT:
        return _exact(worth, n_players)
    return _sampled(worth, n_players, seed)


def _exact(worth: Callable[[np.ndarray], np.ndarray], n_players: int) -> ShapleyValues:
    """Sums over coalitions S: |S|! (n - |S| - 1)! / n! times what the player adds to S.

    What is summed are differences, so that a player who never adds less than 0 gets no less.
    """
    codes = np.arange(2**n_players)
    is_in = (codes[:, None] >> np.arange(n_players) & 1).astype(bool)
    worths = worth(is_in)
    share = np.array(
        [
            factorial(size) * factorial(n_players - size - 1) / factorial(n_players)
            for size in range(n_players)
        ]
    )
    values = np.empty(n_players)
    for player in range(n_players):
        others = codes[~is_in[:, player]]
        added = worths[others | 1 << player] - worths[others]
        values[player] = added @ share[is_in[others].sum(axis=1)]
    return ShapleyValues(values, float(worths[0]), float(worths[-1]), None)


def _sampled(worth: Callable[[np.ndarray], np.ndarray], n_players: int, seed: int) -> ShapleyValues:
    """Averages what each player adds over random orders (Castro, Gomez and Tejada 2009)."""
    random = np.random.default_rng(seed)
    place = random.permuted(np.tile(np.arange(n_players), (N_ORDERS, 1)), axis=1)
    is_in = place[:, None, :] < np.arange(n_players + 1)[:, None]
    worths = worth(is_in.reshape(-1, n_players)).reshape(N_ORDERS, n_players + 1)
    added = np.take_along_axis(np.diff(worths, axis=1), place, axis=1)
    error = added.std(axis=0, ddof=1).max() / np.sqrt(N_ORDERS)
    return ShapleyValues(
        added.mean(axis=0), float(worths[0, 0]), float(worths[0, -1]), float(error)
    )
