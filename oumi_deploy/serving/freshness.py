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
"""Telemetry that has stopped coming."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.policy.observation import is_baseline, read_time

STALE_AFTER = 2
"""Intervals after which a newest observation is missing telemetry."""


def with_gap(
    observations: Sequence[Mapping[str, Any]], now: float, interval: float
) -> list[Mapping[str, Any]]:
    """Returns the observations so far, and empty ones where the newest is too old.

    Before the first canary observation there is one without a value too. What should have come and
    did not is an observation without a value. Two of them make missing telemetry of it and no more:
    a caller whose clock or pipeline is behind is answered PAUSE, and not rolled back for it.

    Args:
        observations: Oldest first.
        now: Unix seconds.
        interval: Seconds between observations.

    Raises:
        DeployError: If the newest observation's time is none.
    """
    newest = read_time(observations[-1], len(observations)) * 60 if observations else now
    if not observations or is_baseline(observations[-1], len(observations)):
        return [*observations, {"timestamp": max(now, newest) if newest == newest else None}]
    if not now - newest > STALE_AFTER * interval:
        return list(observations)
    missed = [{"timestamp": newest + n * interval} for n in range(1, STALE_AFTER + 1)]
    return [*observations, *missed]
