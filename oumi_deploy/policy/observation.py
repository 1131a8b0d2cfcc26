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

"""Reading one observation as a caller sends it: a mapping from names to values."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import inf, isfinite, nan
from typing import Any

import numpy as np

from oumi_deploy.episodes.schema import CONTROL, PHASES, number_column
from oumi_deploy.episodes.times import iso_seconds
from oumi_deploy.errors import DeployError

_rule_of = lru_cache(maxsize=1024)(number_column)


def read_number(observation: Mapping[str, Any], name: str, number: int) -> float:
    """Returns the value of a metric, NaN where it is absent, null or NaN.

    Args:
        observation: The observation.
        name: Name of the metric.
        number: Which observation it is, from 1, for messages.

    Raises:
        DeployError: If the value is no number, or outside what the episode format allows.
    """
    value = observation.get(name)
    if value is None:
        return nan
    if type(value) is not float:
        value = _as_float(value, name, number)
    if value != value:
        return nan
    rule = _rule_of(name)
    if not isfinite(value) or not rule.low <= value <= rule.high or (rule.positive and value <= 0):
        raise DeployError(f"observation {number}: {name}: {value:g} is not {rule.accepts()}")
    return value


def _as_float(value: Any, name: str, number: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise DeployError(f"observation {number}: {name}: {value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        return inf


def read_time(observation: Mapping[str, Any], number: int) -> float:
    """Returns `timestamp` in minutes, from Unix seconds or ISO 8601 text, NaN where absent."""
    value = observation.get("timestamp")
    if isinstance(value, str):
        try:
            return iso_seconds(value) / 60
        except ValueError as error:
            raise DeployError(
                f"observation {number}: timestamp: {value!r} is not ISO 8601 or Unix seconds"
            ) from error
    return read_number(observation, "timestamp", number) / 60.0


def is_baseline(observation: Mapping[str, Any], number: int) -> bool:
    """Returns whether the observation is from before the change."""
    phase = observation.get("phase")
    if phase is None or phase != phase:
        return False
    if phase not in PHASES:
        raise DeployError(
            f"observation {number}: phase: {phase!r} is not one of {', '.join(PHASES)}"
        )
    return phase == "baseline"


def length_of_baseline(observations: Sequence[Mapping[str, Any]]) -> int:
    """Returns how many observations, oldest first, come before the first of the canary phase."""
    phases = (is_baseline(observation, i + 1) for i, observation in enumerate(observations))
    return next((i for i, before in enumerate(phases) if not before), len(observations))


def as_last(observations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns a rollout whose newest observation says that it is the last that is planned.

    So a policy with `planned_share` in its state values waiting as it does at the end.

    Args:
        observations: Oldest first, at least one; the newest a canary one.

    Raises:
        DeployError: If a phase is none.
    """
    n_canary = sum(not is_baseline(o, i + 1) for i, o in enumerate(observations))
    return [*observations[:-1], {**observations[-1], "planned_steps": n_canary}]


def read_metrics(
    observation: Mapping[str, Any], metrics: Sequence[str], number: int
) -> tuple[list[float], list[float]]:
    """Returns the metrics and their control values, in the order of the metrics."""
    values = [read_number(observation, name, number) for name in metrics]
    control = [read_number(observation, CONTROL + name, number) for name in metrics]
    return values, control
