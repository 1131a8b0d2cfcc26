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
"""Observations that the service collects itself, from Prometheus."""

from collections.abc import Collection
from pathlib import Path

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.sources import Found, SourceAway
from oumi_deploy.serving.telemetry.collector import collect
from oumi_deploy.serving.telemetry.prometheus import TelemetryUnavailable, connect
from oumi_deploy.serving.telemetry.queries import ReleaseName, columns_of
from oumi_deploy.serving.telemetry.settings_file import read_telemetry

MOST_STEPS = 2_000
"""Steps of a rollout under way, a day and a half of minutes, as many as a caller may send: all of
them are collected and read again at a question after a restart."""


class PrometheusSource:
    """Collects by the settings of a file."""

    def __init__(self, path: Path):
        """Reads the settings.

        Raises:
            DeployError: If they cannot be used.
        """
        self._settings = read_telemetry(path)
        self._client = connect(self._settings)

    @property
    def columns(self) -> Collection[str]:
        """The columns of the episode format that it asks for."""
        return columns_of(self._settings)

    async def observations(self, name: RolloutName, started_at: float, now: float) -> Found:
        """Returns the rollout so far.

        Raises:
            SourceAway: If Prometheus does not answer.
            DeployError: If it refuses a query, the release is not named whole, or it began too
                long ago to be under way.
        """
        if now - started_at > MOST_STEPS * self._settings.step:
            raise DeployError(
                f"started_at: more than {MOST_STEPS:,} steps of {self._settings.step}s ago; name "
                "this try at the version in `rollout`, or give its start"
            )
        release = ReleaseName(name.service, name.environment, name.version)
        try:
            found = await collect(self._client, self._settings, release, started_at, now)
        except TelemetryUnavailable as error:
            raise SourceAway(str(error)) from error
        reported = found.newest_at is not None
        return Found(found.observations, found.clipped, reported, found.notes)

    async def close(self) -> None:
        """Lets go of connections."""
        await self._client.aclose()
