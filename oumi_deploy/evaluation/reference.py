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

"""How good a policy could be on a set of episodes: optimal stopping over a fitted risk.

Every CONTINUE that is not the last keeps the option to roll back later, at the price of more
users on a release that may be bad. With a probability of "bad" for each prefix, backward
induction from the last observation gives the best moment to stop. No episode's risk or value
of going on comes from a model fitted to its group, so that the result can be reached, not just
hoped for. With more episodes to learn from it would be slightly better still.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold

from oumi_deploy.errors import DeployError

Array = NDArray[np.float64]

_FOLDS = 5
# Early stopping would hold out single rows, whose episodes the model has then seen.
_FIXED_LENGTH: dict[str, Any] = {"early_stopping": False}


@dataclass(frozen=True)
class ReferenceValue:
    """What the best rule that could be fitted earns on releases it was not fitted on.

    Attributes:
        mean_reward: Mean reward of an episode, without the cost of delay.
        mean_reward_with_delay: The same less the cost of each CONTINUE on a bad release.
        risk: Probability of "bad" at each row, (n_rows,), from models blind to its group.
        roll_back: Whether the rule rolls back at each row, if it gets there, (n_rows,).
    """

    mean_reward: float
    mean_reward_with_delay: float
    risk: Array
    roll_back: NDArray[np.bool_]


def best_achievable_value(
    features: Array,
    offsets: NDArray[np.integer],
    labels: NDArray[np.integer],
    groups: NDArray,
    continue_costs: Array,
    rewards: Array,
    seed: int,
) -> ReferenceValue:
    """Fits the optimal moment to roll back and judges it on groups it has not seen.

    ROLLBACK ends an episode; CONTINUE at its last row ends it too. The rule is the best one
    for the reward with the cost of delay.

    Args:
        features: What is known at each canary row, (n_rows, n_features); NaN is missing.
        offsets: Episode i is rows offsets[i]..offsets[i + 1], (n_episodes + 1,).
        labels: 1 for a bad release, 0 for a good one, (n_episodes,).
        groups: Names of groups that belong together, (n_episodes,).
        continue_costs: Cost (>= 0) of CONTINUE on a bad release when another row follows,
            (n_rows,).
        rewards: Final rewards [label, action] with action 0 CONTINUE and 1 ROLLBACK, (2, 2).
        seed: Seed of the split into folds and of the models.

    Returns:
        The mean rewards, and the risk and the decision at each row.

    Raises:
        DeployError: If there are fewer groups than folds, or only one label.
    """
    if len(np.unique(labels)) < 2 or len(np.unique(groups)) < _FOLDS:
        raise DeployError(
            f"the best achievable value needs good and bad episodes in at least {_FOLDS} groups: "
            "pass more episodes"
        )
    lengths = np.diff(offsets)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    splits = GroupKFold(_FOLDS, shuffle=True, random_state=seed).split(labels, groups=groups)
    fold = np.empty(len(labels), dtype=int)
    for number, (_, held_out) in enumerate(splits):
        fold[held_out] = number

    risk = _cross_fitted_risk(features, labels[episode], fold[episode], seed)
    rows_left = offsets[1:][episode] - 1 - np.arange(len(episode))
    roll_back = _cross_fitted_rule(risk, rows_left, fold[episode], continue_costs, rewards, seed)
    final, delay = _roll_out(roll_back, offsets, labels, continue_costs, rewards)
    return ReferenceValue(float(final.mean()), float((final - delay).mean()), risk, roll_back)


def _cross_fitted_risk(features: Array, bad: NDArray, fold: NDArray, seed: int) -> Array:
    risk = np.empty(len(bad))
    for number in range(_FOLDS):
        held_out = fold == number
        # The rows of an episode share one label: large leaves keep it from being learnt by heart.
        model = HistGradientBoostingClassifier(
            max_iter=120,
            max_leaf_nodes=15,
            min_samples_leaf=200,
            l2_regularization=1.0,
            random_state=seed,
            **_FIXED_LENGTH,
        )
        # A feature that is missing throughout, say without a baseline, cannot be fitted.
        known = ~np.isnan(features[~held_out]).all(axis=0)
        model.fit(features[~held_out][:, known], bad[~held_out])
        risk[held_out] = model.predict_proba(features[held_out][:, known])[:, 1]
    return risk


def _cross_fitted_rule(
    risk: Array,
    rows_left: NDArray[np.integer],
    fold: NDArray[np.integer],
    continue_costs: Array,
    rewards: Array,
    seed: int,
) -> NDArray[np.bool_]:
    """Where to roll back, (n_rows,), by backward induction from the last row of each episode."""
    stop = rewards[0, 1] + risk * (rewards[1, 1] - rewards[0, 1])
    go_on = rewards[0, 0] + risk * (rewards[1, 0] - rewards[0, 0])
    state = np.column_stack([risk, continue_costs])
    # `value` is what each row is worth; a row's successor has one row less left.
    value = np.maximum(stop, go_on)
    for left in range(1, int(rows_left.max()) + 1):
        rows = np.flatnonzero(rows_left == left)
        target = value[rows + 1] - risk[rows] * continue_costs[rows]
        for number in range(_FOLDS):
            held_out = fold[rows] == number
            if not held_out.any() or held_out.all():
                continue
            model = HistGradientBoostingRegressor(
                max_iter=40, max_leaf_nodes=8, random_state=seed, **_FIXED_LENGTH
            )
            model.fit(state[rows[~held_out]], target[~held_out])
            go_on[rows[held_out]] = model.predict(state[rows[held_out]])
        value[rows] = np.maximum(stop[rows], go_on[rows])
    return stop > go_on


def _roll_out(
    roll_back: NDArray[np.bool_],
    offsets: NDArray[np.integer],
    labels: NDArray[np.integer],
    continue_costs: Array,
    rewards: Array,
) -> tuple[Array, Array]:
    """Final reward and cost of delay of each episode under the rule, by the true labels."""
    first, last = offsets[:-1], offsets[1:] - 1
    # The first row at or after an episode's start where the rule rolls back, if it is its own.
    stops = np.append(np.flatnonzero(roll_back), len(roll_back))
    stop = stops[np.searchsorted(stops, first)]
    rolled_back = stop <= last
    paid = np.append(0.0, np.cumsum(continue_costs))
    until = np.where(rolled_back, stop, last)
    delay = (paid[until] - paid[first]) * (labels == 1)
    return rewards[labels, rolled_back.astype(int)], delay
