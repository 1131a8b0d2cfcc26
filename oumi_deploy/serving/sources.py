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
"""Where observations come from that a question does not bring."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import RolloutName


class SourceAway(DeployError):
    """The telemetry cannot be reached: no fault of the release."""


@dataclass(frozen=True)
class Found:
    """What was collected of a rollout.

    Attributes:
        observations: Oldest first, baseline rows before canary rows.
        clipped: Values that the episode format does not allow, by metric.
        reported: Whether the new version ever reported anything.
        notes: What a person should know of this telemetry, a sentence each.
    """

    observations: Sequence[Mapping[str, Any]]
    clipped: Mapping[str, int]
    reported: bool
    notes: Sequence[str] = ()


def since(observations: Sequence[Mapping[str, Any]], first_asked: float) -> list[Mapping[str, Any]]:
    """Returns the observations without the canary ones from before it was first asked about.

    A version that never reported is missing from then on: who asks late, or by a wrong name, is
    answered PAUSE for as long as anybody is.
    """
    return [o for o in observations if o["phase"] == "baseline" or o["timestamp"] > first_asked]


class Source(Protocol):
    """Collects the observations of a rollout."""

    @property
    def columns(self) -> Collection[str]:
        """The columns of the episode format that it asks for."""
        ...

    async def observations(self, name: RolloutName, started_at: float, now: float) -> Found:
        """Returns the rollout so far.

        Raises:
            SourceAway: If the telemetry cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
