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

"""Doubly robust estimators: a model's value, corrected by weighting what the model gets wrong.

With known propensities they are unbiased whatever the model says; a good model makes them vary
less than weighting alone.
"""

import numpy as np

from oumi_deploy.evaluation.offpolicy.log import DecisionLog, Floats, steps_of
from oumi_deploy.evaluation.offpolicy.weights import (
    Mean,
    completion_ratios,
    importance_ratios,
    release_weights,
    replay_weights,
)


def doubly_robust(log: DecisionLog, q_values: Floats) -> Mean:
    """The recursive estimator of Jiang and Li (2016), see also Thomas and Brunskill (2016).

    From the last decision back, V = V^(s) + ratio * (reward + V' - Q^(s, logged action)), where
    V^(s) is Q^ of the target's action. Where the label is known, so is what ROLLBACK pays, and it
    takes the place of the model's guess: the logged actions need not agree where the target
    policy stops. What was not labelled corrects nothing.

    Args:
        log: The log.
        q_values: Q^ of each decision and action CONTINUE, ROLLBACK, fitted to other groups;
            shape (n_decisions, 2 actions, 2 metrics).
    """
    rows = np.arange(len(log.propensity))
    stops, known = log.target_stops.astype(int), log.labelled[log.release]
    modelled = q_values[rows, stops][log.offsets[:-1]]
    informed = np.array(q_values)
    informed[known, 1] = log.rollback_rewards[log.release[known], None]
    target, logged = informed[rows, stops], informed[rows, (~log.went_on).astype(int)]
    ratios = importance_ratios(log)
    value = np.zeros_like(modelled)
    for going, at in reversed(list(steps_of(log.offsets))):
        error = log.rewards[at] + value[going] - logged[at]
        value[going] = target[at] + ratios[at, None] * error
    corrected = modelled + log.label_weights[:, None] * (value - modelled)
    return Mean("doubly robust", corrected, np.ones(len(log)), replay_weights(log))


def doubly_robust_completion(log: DecisionLog, outcomes: Floats) -> Mean:
    """Inverse probability of completion, augmented at each decision that could have ended it.

    From the last decision back, V = m(s) + went on / P(going on) * (V' - m(s)), which starts
    from the target policy's replayed return. Robins, Rotnitzky and Zhao (1994); Bang and Robins
    (2005), "Doubly robust estimation in missing data and causal inference models". A completed
    release without a label counts as lost at its last decision.

    Args:
        log: The log.
        outcomes: m, the return to expect at each decision, fitted to other groups; shape
            (n_decisions, 2 metrics).
    """
    ratios = completion_ratios(log)
    last = log.offsets[1:] - 1
    ratios[last] *= log.label_weights
    value = np.array(log.returns)
    for going, at in reversed(list(steps_of(log.offsets))):
        value[going] = outcomes[at] + ratios[at, None] * (value[going] - outcomes[at])
    weights = release_weights(log, completion_ratios(log))
    return Mean("doubly robust IPW", value, np.ones(len(log)), weights)
