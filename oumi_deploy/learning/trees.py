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

"""Fitted Q iteration with gradient-boosted trees (Ernst, Geurts and Wehenkel 2005; Ke et al. 2017).

Trees split on values as they are and send missing ones to a side of their own choice, so they need
neither scale nor marks. No split of a feature with an order puts the worse values on the better
side, and no later one may undo it: the outputs never fall where a metric gets worse.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.transitions import Transitions
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.rewards import Action, Rewards
from oumi_deploy.problem.trees import MOST_LEAVES, Trees, together

BINS = 63
"""Values of a feature that are told apart, at quantiles of the training split."""

_MANY = 50_000
"""Decisions from which on several threads fit faster than one."""


@dataclass(frozen=True)
class Boosting:
    """How an output's trees are fitted.

    Attributes:
        trees: How many.
        leaves: Leaves of each at most.
        learning_rate: Share of the way to its target that each tree goes, above 0 and at most 1.
        l2: Weight of the penalty on the leaves' values.
        min_leaf: Decisions that a leaf must hold; those of one release are alike, so a leaf of 20
            may hold but one release.
    """

    trees: int = 100
    leaves: int = 8
    learning_rate: float = 0.08
    l2: float = 1.0
    min_leaf: int = 20

    def __post_init__(self) -> None:
        for name, least in (("trees", 1), ("leaves", 2), ("min_leaf", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise DeployError(f"{name}: {value!r} is not a whole number of {least} or more")
        if self.leaves > MOST_LEAVES:
            raise DeployError(f"leaves: {self.leaves} is more than {MOST_LEAVES}")
        for name in ("learning_rate", "l2"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not isfinite(value) or value < 0:
                raise DeployError(f"{name}: {value!r} is not a number of 0 or more")
        if not 0 < self.learning_rate <= 1:
            raise DeployError(f"learning_rate: {self.learning_rate:g} is not above 0 and at most 1")


class HasTrees(Protocol):
    """Something that keeps what is learnt."""

    @property
    def trees(self) -> Trees | None:
        """The trees of log odds and lead, None before the first step."""

    @trees.setter
    def trees(self, trees: Trees) -> None: ...


class FittedTrees:
    """Trees over logged episodes; a step is an iteration of fitted Q iteration.

    The first step fits the log odds of "bad". What ROLLBACK is worth follows from them, see
    `problem.bounds`. Each step then fits the lead of ROLLBACK over CONTINUE anew, to

        r(ROLLBACK) - (r(CONTINUE) + discount * max_a Q(s', a))

    with the Q-values of the step before, the first time with those of ending at once. Where the
    label does not tell what ROLLBACK pays, its Q-value stands for that.

    Args:
        model: What keeps the trees.
        features: States of every decision, shape (n, n_features), NaN where missing.
        transitions: Their outcomes, length n.
        signs: Sign of each feature, int of shape (n_features,).
        bounds: How the outputs become Q-values.
        boosting: How the trees are fitted.
        rewards: What decisions pay.
        seed: Seed of the fits.
    """

    steps_per_epoch = 1

    def __init__(
        self,
        model: HasTrees,
        features: np.ndarray,
        transitions: Transitions,
        signs: np.ndarray,
        bounds: Bounds,
        boosting: Boosting,
        rewards: Rewards,
        seed: int,
    ):
        self._model, self._features, self._transitions = model, features, transitions
        self._bounds, self._rewards = bounds, rewards
        self._outputs = np.zeros((len(features), 2))
        self._belief: Trees | None = None
        self._settings: dict[str, Any] = {
            "max_iter": boosting.trees,
            "max_leaf_nodes": boosting.leaves,
            "learning_rate": boosting.learning_rate,
            "l2_regularization": boosting.l2,
            "min_samples_leaf": boosting.min_leaf,
            "max_bins": BINS,
            "monotonic_cst": signs,
            # It would hold out single decisions, whose releases the trees have then seen.
            "early_stopping": False,
            "random_state": seed,
        }

    def step(self, number: int, rate: float, epsilon: float) -> dict[str, Any]:
        """Does one iteration; the loss is how far the lead moved, the mean over the decisions."""
        with threadpool_limits(None if len(self._outputs) >= _MANY else 1, "openmp"):
            return {"loss": self._iterate()}

    def _iterate(self) -> float:
        outputs, t = self._outputs, self._transitions
        if self._belief is None:
            self._belief = self._fit_belief()
        q_values = self._bounds.q_values(outputs)
        worth = t.continue_reward + t.continue_discount * q_values.max(axis=1)[t.next_decision]
        paid = np.where(t.learn_rollback, t.rollback_reward, q_values[:, Action.ROLLBACK])
        known = t.learn_continue
        model = HistGradientBoostingRegressor(**self._settings)
        model.fit(self._features[known], (paid - worth)[known])
        lead = model.predict(self._features)
        loss = float(np.abs(lead - outputs[:, 1])[known].mean())
        outputs[:, 1] = lead
        self._model.trees = together([self._belief, as_trees(model, self._features.shape[1])])
        return loss

    def _fit_belief(self) -> Trees:
        """Fits the log odds, and takes ending at once for what CONTINUE is worth."""
        known = self._transitions.learn_rollback
        model = HistGradientBoostingClassifier(**self._settings)
        unnecessary, correct = self._bounds.rollback
        is_bad = self._transitions.rollback_reward > (unnecessary + correct) / 2
        model.fit(self._features[known], is_bad[known])
        odds = model.decision_function(self._features)
        belief, (good, bad) = expit(odds), self._rewards.table()
        self._outputs[:, 0] = odds
        self._outputs[:, 1] = (1.0 - belief) * (good[1] - good[0]) + belief * (bad[1] - bad[0])
        return as_trees(model, self._features.shape[1])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the outputs at every decision."""
        return {"outputs": torch.from_numpy(self._outputs)}

    def state(self) -> dict[str, Any]:
        """Returns nothing: an iteration depends on the outputs of the one before alone."""
        return {}

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Takes the trees of the log odds back from the model."""
        assert self._model.trees is not None
        self._belief = self._model.trees.of_output(0)


def as_trees(model: Any, n_features: int) -> Trees:
    """Returns what scikit-learn has fitted as plain arrays, of one output.

    The first tree is a leaf by itself: the value that boosting began with.

    Args:
        model: A fitted HistGradientBoosting model of one output.
        n_features: Features of a state.
    """
    nodes = np.concatenate([predictor.nodes for (predictor,) in model._predictors])
    lengths = [1, *(len(predictor.nodes) for (predictor,) in model._predictors)]
    is_leaf = nodes["is_leaf"].astype(bool)
    # An infinite threshold parts known values from missing ones.
    threshold = np.minimum(nodes["num_threshold"], np.finfo(np.float64).max)
    start = float(np.ravel(model._baseline_prediction)[0])

    def column(values: np.ndarray, of_leaf: float, first: float) -> np.ndarray:
        return np.concatenate([[first], np.where(is_leaf, of_leaf, values)])

    return Trees(
        n_features=n_features,
        output=np.zeros(len(lengths), dtype=np.int64),
        first=np.cumsum([0, *lengths]),
        feature=column(nodes["feature_idx"], -1, -1).astype(np.int32),
        threshold=column(threshold, 0, 0),
        missing_left=column(nodes["missing_go_to_left"], 0, 0).astype(np.bool_),
        left=column(nodes["left"], 0, 0).astype(np.int32),
        right=column(nodes["right"], 0, 0).astype(np.int32),
        value=np.concatenate([[start], np.where(is_leaf, nodes["value"], 0.0)]),
    )
