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

"""Which values of a metric are worse, and so the sign of every feature that is made from it.

A newest value that is worse moves every feature of its metric the same way, whatever came before:
value, mean, maximum, least-squares slope (the newest time is the latest), change, and the
differences to the baseline and to the old version all rise with it. Where all of its values are
worse by as much, none of them falls either: what has always been bad is never safer for that. How
the metric moved before has no part in either, and no sign.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from oumi_deploy.episodes.schema import CONTROL
from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.problem.state import BEFORE, SHARES, Feature, metrics_of

HIGHER, LOWER, EITHER = "higher", "lower", "either"

DIRECTIONS = (HIGHER, LOWER, EITHER)
"""Which values are worse: higher ones, lower ones, or nothing is known (`either`)."""

DEFAULTS = {
    "error_rate": HIGHER,
    "latency": HIGHER,
    "memory_usage": HIGHER,
    "cpu_usage": HIGHER,
    "health_score": LOWER,
}
"""Of the standard metrics, and of those that carry their name in front (`latency_p99`)."""

COUNTED = ("error_rate", "latency")
"""Metrics that are taken over requests: of few requests they say little."""


def default_direction(metric: str) -> str:
    """Returns which values of a metric are worse by its name; `either` for the old version's."""
    if metric.startswith(CONTROL):
        return EITHER
    return next((d for name, d in DEFAULTS.items() if _is_named_after(metric, name)), EITHER)


def is_counted(metric: str) -> bool:
    """Returns whether a metric is taken over requests, as an error rate is."""
    return any(_is_named_after(metric, name) for name in COUNTED)


def _is_named_after(metric: str, name: str) -> bool:
    return metric == name or metric.startswith(name + "_")


def directions_of(state: Iterable[Feature], given: Mapping[str, str]) -> dict[str, str]:
    """Returns the direction of each metric of a state: the one given, or else its default.

    Args:
        state: The features.
        given: Directions by metric, as in `{"queue_depth": "higher"}`.

    Raises:
        DeployError: If a direction is none, or is given for a metric that the state lacks.
    """
    metrics = metrics_of(state)
    for metric, direction in given.items():
        if metric not in metrics:
            raise DeployError(
                f"directions: the state has no metric {metric}: {near_name(metric, metrics)}"
            )
        if direction not in DIRECTIONS:
            raise DeployError(
                f"directions.{metric}: {direction!r} is not one of {', '.join(DIRECTIONS)} (which "
                "values are worse)"
            )
    return {m: given.get(m, default_direction(m)) for m in metrics}


def signs_of(state: Sequence[Feature], directions: Mapping[str, str]) -> np.ndarray:
    """Returns the way that each feature moves when the newest value of its metric is worse.

    On that side lie its own worse values. Clocks, shares of observations in which a metric is
    missing, and how it moved before do not move.

    Returns:
        1 (up), -1 (down) or 0, int of shape (n_features,).
    """
    signs = {HIGHER: 1, LOWER: -1, EITHER: 0}
    still = {*SHARES, *BEFORE}
    return np.array(
        [
            0 if f.metric is None or f.kind in still else signs[directions.get(f.metric, EITHER)]
            for f in state
        ]
    )
