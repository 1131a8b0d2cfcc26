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

"""Importance weights of decisions and of whole releases, and the means they weight."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oumi_deploy.evaluation.offpolicy.log import DecisionLog, Floats, steps_of


@dataclass(frozen=True, eq=False)
class Mean:
    """An estimate as a ratio of sums over releases, sum(above) / sum(below).

    Attributes:
        name: Name of the estimator.
        above: Shape (n, 2), by METRICS.
        below: Shape (n,).
        weights: Weight of each release, shape (n,).
    """

    name: str
    above: Floats
    below: Floats
    weights: Floats

    @property
    def value(self) -> Floats:
        """The estimate, shape (2,)."""
        return self.above.sum(axis=0) / self.below.sum()


def importance_ratios(log: DecisionLog) -> Floats:
    """Returns target over behaviour probability of each logged action, shape (n_decisions,)."""
    return (log.went_on != log.target_stops) / log.propensity


def completion_ratios(log: DecisionLog) -> Floats:
    """Returns the same for the policy that always goes on, shape (n_decisions,)."""
    return log.went_on / log.propensity


def running_weights(log: DecisionLog, ratios: Floats) -> Floats:
    """Returns the product of a release's ratios up to each decision, shape (n_decisions,)."""
    products = np.array(ratios)
    for t, (_, rows) in enumerate(steps_of(log.offsets)):
        if t:
            products[rows] *= products[rows - 1]
    return products


def release_weights(log: DecisionLog, ratios: Floats) -> Floats:
    """Returns the product of all ratios of each release, and its label weight, shape (n,)."""
    return running_weights(log, ratios)[log.offsets[1:] - 1] * log.label_weights


def effective_n(weights: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 if all weights are."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def importance_sampling(log: DecisionLog) -> list[Mean]:
    """Importance sampling: plain, weighted (self-normalised) and per-decision.

    Precup, Sutton and Singh (2000), "Eligibility traces for off-policy policy evaluation".
    """
    ratios = importance_ratios(log)
    weights = release_weights(log, ratios)
    earned = np.add.reduceat(log.rewards, log.offsets[:-1])
    paid_as_they_come = running_weights(log, ratios)[:, None] * log.rewards
    per_decision = np.add.reduceat(paid_as_they_come, log.offsets[:-1])
    ones = np.ones(len(log))
    return [
        Mean("IS", weights[:, None] * earned, ones, weights),
        Mean("weighted IS", weights[:, None] * earned, weights, weights),
        Mean("per-decision IS", log.label_weights[:, None] * per_decision, ones, weights),
    ]


def replay(log: DecisionLog) -> list[Mean]:
    """Replays the target policy on releases whose log reaches its end, plain and self-normalised.

    Decisions do not change the metrics, and a known label tells what ROLLBACK would have paid. So
    the logged actions need not agree: it is enough that the log went on for as long as the target
    policy does.
    """
    weights = replay_weights(log)
    weighted = weights[:, None] * log.returns
    return [
        Mean("replay", weighted, np.ones(len(log)), weights),
        Mean("weighted replay", weighted, weights, weights),
    ]


def replay_weights(log: DecisionLog) -> Floats:
    """1 / P(going on for as long as the target policy does), 0 where the log did not; (n,)."""
    ratios = np.where(target_has_stopped(log), 1.0, completion_ratios(log))
    return release_weights(log, ratios)


def target_has_stopped(log: DecisionLog) -> NDArray[np.bool_]:
    """Whether the target policy says ROLLBACK at or before each decision, (n_decisions,)."""
    at = np.arange(len(log.target_stops))
    stops = np.where(log.target_stops, at, len(at))
    return at >= np.minimum.reduceat(stops, log.offsets[:-1])[log.release]


def completion_weighting(log: DecisionLog) -> list[Mean]:
    """Inverse probability of completion, plain and self-normalised.

    On a completed release the target policy's return is known by replaying it, so only releases
    that went on to their end count, each with 1 / product of P(going on). Robins, Rotnitzky and
    Zhao (1994), "Estimation of regression coefficients when some regressors are not always
    observed".
    """
    weights = release_weights(log, completion_ratios(log))
    weighted = weights[:, None] * log.returns
    return [
        Mean("IPW", weighted, np.ones(len(log)), weights),
        Mean("weighted IPW", weighted, weights, weights),
    ]
