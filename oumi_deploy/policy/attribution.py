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

"""How much each metric pushed an answer: Shapley values over the metrics of the state.

A metric moves as one, with its history, its differences and its marks. Without it the state is as
if the metric had stayed at the episode's own baseline. The clocks always run, and what tells of the
traffic is as it is: neither is a sign of how the new version does.

The risk never falls where a metric is worse, so a metric that is no better than its reference in
any feature, and missing in none that the reference has, never gets a contribution below 0.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.episodes.schema import ROLLOUT_COLUMNS
from oumi_deploy.policy.calibration import UNCALIBRATED
from oumi_deploy.policy.rollout import Newest
from oumi_deploy.policy.shapley import shapley_values
from oumi_deploy.problem.encoder import gather
from oumi_deploy.problem.rewards import Action
from oumi_deploy.problem.state import BEFORE, CLOCK, HISTORY, SHARES

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

LEVELS = ("value", "mean", "max")
"""Kinds of features in the unit of the metric itself."""

_NOTABLE = 0.005
"""Contribution that shows in two digits."""

_KINDS = (*LEVELS, *HISTORY, *CLOCK)


@dataclass(frozen=True)
class MetricEffect:
    """What one metric adds to an answer.

    Attributes:
        metric: Its name.
        value: Its newest value, None where missing.
        baseline: Its mean over the episode's baseline rows, None without any.
        control: The old version's value at the same time, None where missing.
        contribution: Its Shapley value: risk, or reward where the policy states no risk.
    """

    metric: str
    value: float | None
    baseline: float | None
    control: float | None
    contribution: float


@dataclass(frozen=True)
class Attribution:
    """What the metrics add to an answer.

    Attributes:
        effects: Of each metric that is attributed, the largest contribution (whatever its sign)
            first.
        value: The risk, or Q(ROLLBACK) - Q(CONTINUE) where the policy states none.
        reference_value: The same with every metric at its baseline.
        standard_error: Largest of the contributions', None where they are exact.
    """

    effects: tuple[MetricEffect, ...]
    value: float
    reference_value: float
    standard_error: float | None

    @property
    def suspect(self) -> str | None:
        """The metric that raised the value most, None where none that has a value did notably."""
        top = max(self.effects, key=lambda effect: effect.contribution)
        return top.metric if top.contribution > _NOTABLE and top.value is not None else None


def says_risk(policy: "DeploymentPolicy") -> bool:
    """Returns whether a policy states a risk: all do but old ones that are not calibrated."""
    return policy.version > 1 or policy.calibration is not None


def attributed_metrics(policy: "DeploymentPolicy") -> tuple[str, ...]:
    """Returns the metrics of the state that are held to account: not the traffic, if not alone."""
    metrics = policy.encoder.metrics
    return tuple(m for m in metrics if m not in ROLLOUT_COLUMNS) or metrics


def attribute(policy: "DeploymentPolicy", newest: Newest, seed: int) -> Attribution:
    """Returns what each metric adds to the risk, or to the Q-difference where none is stated.

    Args:
        policy: The policy.
        newest: The newest observation of a rollout.
        seed: Seed of the sampled orders, where the metrics are too many for all.
    """
    encoder = policy.encoder
    with_it, without = newest.weighed.features[0], absent_features(policy, newest)
    players = attributed_metrics(policy)
    column = {metric: i for i, metric in enumerate(players)}
    owner = np.array([column.get(f.metric, -1) if f.metric else -1 for f in encoder.state])

    def worth(is_in: np.ndarray) -> np.ndarray:
        features = np.where(is_in[:, owner] | (owner < 0), with_it, without)
        return _output(policy, policy.q_values(features))

    shapley = shapley_values(worth, len(players), seed)
    reading, baseline = newest.reading, baseline_means(newest)
    effects = [
        MetricEffect(
            metric,
            _known(reading.values[0, at]),
            _known(baseline[at]),
            _known(reading.control[0, at]),
            float(contribution),
        )
        for metric, contribution in zip(players, shapley.values, strict=True)
        for at in [encoder.metrics.index(metric)]
    ]
    effects.sort(key=lambda effect: -abs(effect.contribution))
    return Attribution(
        tuple(effects), shapley.worth_of_all, shapley.worth_of_none, shapley.standard_error
    )


def _known(x: float) -> float | None:
    return None if np.isnan(x) else float(x)


def _output(policy: "DeploymentPolicy", q_values: np.ndarray) -> np.ndarray:
    """Returns the risk or, where none is stated, Q(ROLLBACK) - Q(CONTINUE), shape (n,)."""
    if not says_risk(policy):
        return q_values[:, Action.ROLLBACK] - q_values[:, Action.CONTINUE]
    return (policy.calibration or UNCALIBRATED).risk(q_values, policy.rewards)


def baseline_means(newest: Newest) -> np.ndarray:
    """Returns the mean of each metric over the baseline rows, shape (m,), NaN without any."""
    memory = newest.past.memory
    with np.errstate(invalid="ignore"):
        return memory.base_sum[0] / memory.base_count[0]


def absent_features(policy: "DeploymentPolicy", newest: Newest) -> np.ndarray:
    """Returns the state as if every metric had stayed at the episode's own baseline.

    There, levels are the baseline's mean, slopes and differences are 0, and nothing is missing.
    For a metric without a baseline, levels, slopes and differences are their medians in training.
    What would be missing whatever the metric did stays missing: a slope of one observation, a
    difference to a baseline or an old version that nobody reported. It is not the metric's doing.

    Returns:
        Shape (n_features,). Clocks are NaN, for they are not a metric's.
    """
    encoder, memory = policy.encoder, newest.past.memory
    baseline = baseline_means(newest)[None]
    has_baseline = ~np.isnan(baseline)
    has_control = ~np.isnan(newest.reading.control)
    stayed = dict.fromkeys(_KINDS, np.zeros_like(baseline)) | dict.fromkeys(LEVELS, baseline)
    is_knowable = dict.fromkeys(_KINDS, np.ones_like(has_baseline)) | {
        "slope": np.full_like(has_baseline, memory.n_canary[0, 0] > 0),
        "baseline": has_baseline,
        "baseline_mean": has_baseline,
        "control": has_control,
        "control_mean": has_control | (memory.gap_count + memory.unmatched_count > 0),
        "change": np.full_like(has_baseline, memory.n_canary[0, 0] > 0),
        # How it moved before takes two observations before this one.
        **dict.fromkeys(BEFORE, np.full_like(has_baseline, memory.n_canary[0, 0] > 1)),
        "control_change": has_control & (memory.gap_count > 0),
        **dict.fromkeys(CLOCK, np.zeros_like(has_baseline)),
    }
    knows_where = dict.fromkeys(_KINDS, has_baseline)
    knows_where |= dict.fromkeys(SHARES, np.ones_like(has_baseline))
    at_baseline, by_baseline, knowable = (
        gather(encoder.state, encoder.metrics, history)[0]
        for history in (stayed, knows_where, is_knowable)
    )
    return np.where(knowable, np.where(by_baseline, at_baseline, encoder.center), np.nan)
