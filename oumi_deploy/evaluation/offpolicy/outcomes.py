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

"""A model of what the target policy will have earned by a release's end, from each decision on."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from oumi_deploy.evaluation.offpolicy.log import DecisionLog, Floats
from oumi_deploy.evaluation.offpolicy.weights import (
    completion_ratios,
    release_weights,
    running_weights,
    target_has_stopped,
)


def fitted_outcomes(log: DecisionLog, x: Floats, folds: NDArray[np.int64]) -> Floats:
    """Regresses the replayed return of completed releases on what is known at each decision.

    A completed release stands for those like it that were rolled back later, so its decision
    counts with 1 / P(going on from there to the end).

    Args:
        log: The log.
        x: Standardised features with a column of ones first, shape (n_decisions, n_features).
        folds: Fold of each group, shape (n_groups,).

    Returns:
        The return to expect, by models blind to the decision's group, (n_decisions, 2 metrics).
    """
    release = log.release
    stopped = target_has_stopped(log)[:, None]
    # What the target policy has already decided changes all that the features mean.
    design = np.concatenate([x * ~stopped, x * stopped], axis=1)
    weights = _remaining_weights(log)
    fold = folds[log.groups][release]
    outcomes = np.zeros((len(x), log.returns.shape[1]))
    for number in range(int(folds.max()) + 1):
        train = (fold != number) & (weights > 0)
        if not train.any():
            continue
        model = Ridge(alpha=1.0, fit_intercept=False, solver="cholesky")
        scale = weights[train].mean()
        model.fit(design[train], log.returns[release[train]], weights[train] / scale)
        outcomes[fold == number] = model.predict(design[fold == number])
    return outcomes


def _remaining_weights(log: DecisionLog) -> Floats:
    """1 / P(going on from each decision to the end); 0 where the end is unknown."""
    ratios = completion_ratios(log)
    whole = release_weights(log, ratios)[log.release]
    known = whole > 0
    weights = np.zeros(len(whole))
    weights[known] = (whole * ratios)[known] / running_weights(log, ratios)[known]
    return weights
