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

"""Where the values of a metric can lie, and in what unit two of them are apart."""

from dataclasses import dataclass
from math import ceil, inf, isnan, log10, nextafter
from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.episodes.schema import CONTROL, ROLLOUT_COLUMNS, number_column
from oumi_deploy.policy.attribution import LEVELS, baseline_means
from oumi_deploy.policy.rollout import Newest
from oumi_deploy.problem.directions import EITHER, HIGHER, default_direction
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.state import HISTORY, SHARES, TO_BASELINE

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

_FROM_CONTROL = ("control", "control_mean")
"""Differences to the old version from which the value follows."""

_RANKED = (*LEVELS, "baseline", "control", "baseline_mean", "control_mean")

_BEYOND = 10.0
"""How far values are looked at that are worse than all of training, in widths of its range."""


@dataclass(frozen=True)
class Ruler:
    """The values of one metric that are looked at.

    Attributes:
        metric: Its name.
        sign: 1 where higher values are worse, -1 where lower ones are.
        start: The newest value; where it is missing, the one to expect.
        is_missing: Whether the newest value is missing.
        low: Least value to try.
        high: Largest value to try.
        center: Where values lie close together in training.
        scale: Unit of distances, above 0.
    """

    metric: str
    sign: int
    start: float
    is_missing: bool
    low: float
    high: float
    center: float
    scale: float

    @property
    def decimals(self) -> int:
        """Decimal places that its values are worth."""
        return decimals_of(self.scale)

    def distance(self, value: float) -> float:
        """Returns how far a value is from the start, in units of the scale."""
        return abs(value - self.start) / self.scale

    def allows(self, value: float) -> bool:
        """Returns whether the value is one to try."""
        return self.low <= value <= self.high

    def grid(self, n: int) -> np.ndarray:
        """Returns values to try, from the best to the worst, shape (n + 1,).

        They are even as the network sees them, and the start is among them.
        """
        low, high = np.arcsinh((np.array([self.low, self.high]) - self.center) / self.scale)
        inner = self.center + self.scale * np.sinh(np.linspace(low, high, n))
        return np.sort([*np.clip(inner, self.low, self.high), self.start])[:: self.sign]


def decimals_of(scale: float) -> int:
    """Returns the decimal places that tell values a tenth of the scale apart."""
    return max(0, ceil(1 - log10(scale)))


def sign_of(encoder: StateEncoder, metric: str) -> int:
    """Returns 1 where higher values of a metric are worse, -1 where lower ones are, else 0.

    Policy files of version 1 know no directions; theirs go by the metrics' names.
    """
    known = encoder.directions
    direction = default_direction(metric) if known is None else known[metric]
    return 0 if direction == EITHER else 1 if direction == HIGHER else -1


def rulers_of(policy: "DeploymentPolicy", newest: Newest) -> list[Ruler]:
    """Returns the rulers of the metrics that a person could change, and know which way is better.

    They are those of the new version that have a direction: no columns that tell of the traffic,
    and none of the old version.
    """
    encoder = policy.encoder
    return [
        _ruler_of(policy, newest, metric, sign)
        for metric in encoder.metrics
        if metric not in ROLLOUT_COLUMNS and not metric.startswith(CONTROL)
        for sign in [sign_of(encoder, metric)]
        if sign
    ]


def _ruler_of(policy: "DeploymentPolicy", newest: Newest, metric: str, sign: int) -> Ruler:
    """Returns the ruler of a metric.

    Its better end is the best that training has seen of the metric itself and, seen from this
    episode, of its differences to the baseline and the old version. What is worse than all of that
    is known to be no better, so its worse end lies far beyond; both end where the format does.
    """
    encoder = policy.encoder
    of = encoder.metrics.index(metric)
    actual = float(newest.reading.values[0, of])
    baseline = float(baseline_means(newest)[of])
    control = float(newest.reading.control[0, of])
    at = leading_feature(encoder, metric)
    is_level = encoder.state[at].kind in LEVELS
    scale = float(encoder.scale[at])
    expected = baseline if not isnan(baseline) else float(encoder.center[at]) * is_level
    start = expected if isnan(actual) else actual

    rule = number_column(metric)
    least = nextafter(rule.low, rule.high) if rule.positive else rule.low
    start = min(max(start, least), rule.high)
    around = (start - _BEYOND * scale, start + _BEYOND * scale)
    low, high = range_seen(encoder, metric, baseline, control) or around
    far = _BEYOND * max(high - low, scale)
    worst = rule.high if sign > 0 else least
    worst = worst if abs(worst) < inf else high + far if sign > 0 else low - far
    low, high = (low, worst) if sign > 0 else (worst, high)
    return Ruler(
        metric,
        sign,
        start,
        isnan(actual),
        min(max(low, least), start),
        max(min(high, rule.high), start),
        center=float(encoder.center[at]) if is_level else expected,
        scale=scale,
    )


def leading_feature(encoder: StateEncoder, metric: str) -> int:
    """Returns the number of the feature whose scale measures the metric.

    It is the value, else another level, else a difference, else whatever there is.
    """
    of_metric = (i for i, f in enumerate(encoder.state) if f.metric == metric)
    kinds = (*_RANKED, *(kind for kind in HISTORY if kind not in SHARES), *SHARES)
    return min(of_metric, key=lambda i: kinds.index(encoder.state[i].kind))


def range_seen(
    encoder: StateEncoder, metric: str, baseline: float, control: float
) -> tuple[float, float] | None:
    """Returns the least and largest value of a metric that training has seen; None if unknown.

    Args:
        encoder: The encoder.
        metric: The metric.
        baseline: Where differences to the baseline are taken from.
        control: Where differences to the old version are taken from.
    """
    origin = dict.fromkeys(LEVELS, 0.0)
    origin |= dict.fromkeys(TO_BASELINE, baseline) | dict.fromkeys(_FROM_CONTROL, control)
    ends = [
        (origin[f.kind] + encoder.low[i], origin[f.kind] + encoder.high[i])
        for i, f in enumerate(encoder.state)
        if f.metric == metric and f.kind in origin
    ]
    known = [(float(low), float(high)) for low, high in ends if low <= high]
    if not known:
        return None
    return min(low for low, _ in known), max(high for _, high in known)
