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

"""Telemetry that has not begun, or has stopped coming."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.policy.observation import is_baseline, read_time

STALE_AFTER = 2
"""Intervals after which a newest observation is missing telemetry."""


def with_a_first(
    observations: Sequence[Mapping[str, Any]], now: float
) -> Sequence[Mapping[str, Any]]:
    """Returns the observations so far; before the first canary one there is one without a value.

    Args:
        observations: Oldest first.
        now: Unix seconds.

    Raises:
        DeployError: If the newest observation's time or phase is none.
    """
    if not observations:
        return [{"timestamp": now}]
    if not is_baseline(observations[-1], len(observations)):
        return observations
    newest = read_time(observations[-1], len(observations)) * 60
    return [*observations, {"timestamp": max(now, newest) if newest == newest else None}]


def is_stale(observations: Sequence[Mapping[str, Any]], now: float, interval: float) -> bool:
    """Returns whether the newest observation is so old that telemetry is missing.

    Args:
        observations: Oldest first, one or more; without a time, one is never too old.
        now: Unix seconds.
        interval: Seconds between observations.
    """
    newest = read_time(observations[-1], len(observations)) * 60
    return now - newest > STALE_AFTER * interval


def missed(observations: Sequence[Mapping[str, Any]], now: float, interval: float) -> int:
    """Returns how many observations should have come since the newest, see `is_stale`."""
    age = now - read_time(observations[-1], len(observations)) * 60
    return int(age / interval) if age > 0 else 0
