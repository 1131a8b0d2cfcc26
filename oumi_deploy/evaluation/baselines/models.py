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

"""Supervised models of "bad" on the policy's own state, asked after every observation.

Logistic regression, gradient-boosted trees (Ke et al. 2017 as in scikit-learn) and extremely
randomised trees (Geurts et al. 2006). Each row of a training release is an example with the
release's label, and all rows of a release weigh 1 together. A release is rolled back once the
probability has stayed at or above a threshold for a number of observations; both are picked by
cross-validation within the training releases, which never tears a group, for mean reward with
delay. A missing feature reaches the models as zero after standardising and with a mark of its own,
so that it differs from every value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.baselines.fitting import Context, Rule, best_setting, some_episodes
from oumi_deploy.policy.pauses import running_length
from oumi_deploy.problem.encoder import StateEncoder, encode_episodes, fit_encoder

MOST_EPISODES = 15_000
"""Training releases that a model is fitted on, drawn at random if there are more."""

MOST_INNER_EPISODES = 3_000
"""Of those, releases that threshold and patience are picked on."""

INNER_FOLDS = 3
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PATIENCES = (1, 2, 3, 5)
"""Observations in a row at or above the threshold."""

_FIXED_LENGTH: dict[str, Any] = {"early_stopping": False}

MakeModel = Callable[[int], Any]
"""Makes a scikit-learn classifier from a seed."""


def logistic_regression(seed: int) -> LogisticRegression:
    """Makes a logistic regression."""
    return LogisticRegression(max_iter=1000, random_state=seed)


def gradient_boosting(seed: int) -> HistGradientBoostingClassifier:
    """Makes gradient-boosted trees."""
    return HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_iter=200,
        max_leaf_nodes=15,
        max_bins=63,
        l2_regularization=1.0,
        random_state=seed,
        **_FIXED_LENGTH,
    )


def extra_trees(seed: int) -> ExtraTreesClassifier:
    """Makes extremely randomised trees."""
    return ExtraTreesClassifier(n_estimators=100, min_samples_leaf=5, random_state=seed)


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows for a classifier.

    Attributes:
        inputs: Shape (n, n_inputs).
        bad: Label of each row, bool of shape (n,).
        weights: Weight of each row, shape (n,).
    """

    inputs: np.ndarray
    bad: np.ndarray
    weights: np.ndarray

    def select(self, which: np.ndarray) -> "Examples":
        """Returns some of the rows."""
        return Examples(self.inputs[which], self.bad[which], self.weights[which])


def fit_online(make_model: MakeModel, episodes: Episodes, context: Context) -> Rule:
    """Fits a model that is asked after every observation.

    Raises:
        DeployError: If the labelled episodes lack a class, are of fewer than two groups, or lack a
            column of the state.
    """
    episodes = some_episodes(episodes, MOST_EPISODES, context.seed)
    encoder = require_state(episodes, context)
    examples = examples_of(episodes, encode(encoder, episodes))
    inner = some_episodes(episodes, MOST_INNER_EPISODES, context.seed)
    inner_risk = cross_fitted_risk(
        make_model, inner, examples_of(inner, encode(encoder, inner)), inner.canary_lengths, context
    )
    tried = (
        ((threshold, patience), _patient(inner, inner_risk, threshold, patience))
        for threshold, patience in product(THRESHOLDS, PATIENCES)
    )
    threshold, patience = best_setting(inner, tried, context.rewards)
    risk = fit_risk(make_model, examples, context.seed)
    return lambda others: _patient(others, risk(encode(encoder, others)), threshold, patience)


def require_state(episodes: Episodes, context: Context) -> StateEncoder:
    """Fits the encoder of the policy's state, after a look at whether a model can be fitted."""
    episodes.require_both_classes()
    if len(np.unique(episodes.group_codes())) < 2:
        raise DeployError(
            "models as baselines need training releases of at least two groups: add some"
        )
    return fit_encoder(context.state, episodes)


def encode(encoder: StateEncoder, episodes: Episodes) -> np.ndarray:
    """Returns standardised features and marks at every decision, (n_decisions, n_inputs)."""
    return encoder.standardise(encode_episodes(encoder.state, episodes))


def examples_of(episodes: Episodes, inputs: np.ndarray) -> Examples:
    """Makes an example of every decision."""
    lengths = episodes.canary_lengths
    return Examples(
        inputs, np.repeat(episodes.labels == BAD, lengths), np.repeat(1.0 / lengths, lengths)
    )


def fit_risk(
    make_model: MakeModel, examples: Examples, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Fits a model and returns what gives the probability 0..1 of "bad" for inputs."""
    if examples.bad.all() or not examples.bad.any():
        always = float(examples.bad[0])
        return lambda inputs: np.full(len(inputs), always)
    # Trees take the mean of weights as one, so that a leaf's size keeps its meaning.
    weights = examples.weights / examples.weights.mean()
    model = make_model(seed).fit(examples.inputs, examples.bad, sample_weight=weights)
    return lambda inputs: model.predict_proba(inputs)[:, 1]


def cross_fitted_risk(
    make_model: MakeModel,
    episodes: Episodes,
    examples: Examples,
    rows_each: np.ndarray,
    context: Context,
) -> np.ndarray:
    """Returns each example's risk by a model that never saw its group, shape (n_examples,).

    Args:
        make_model: Makes the model.
        episodes: The episodes that the examples are of.
        examples: The examples, those of an episode one after the other.
        rows_each: Examples of each episode, int of shape (n_episodes,).
        context: For its seed.
    """
    groups = episodes.group_codes()
    n_folds = min(INNER_FOLDS, len(np.unique(groups)))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=context.seed)
    of = np.repeat(np.arange(len(episodes)), rows_each)
    risk = np.empty(len(of))
    for fitted, held_out in folds.split(groups, episodes.labels, groups):
        model = fit_risk(make_model, examples.select(np.isin(of, fitted)), context.seed)
        which = np.isin(of, held_out)
        risk[which] = model(examples.inputs[which])
    return risk


def _patient(episodes: Episodes, risk: np.ndarray, threshold: float, patience: int) -> np.ndarray:
    above = running_length(risk >= threshold, episodes.canary_offsets[:-1])
    return (above >= patience).astype(int)
