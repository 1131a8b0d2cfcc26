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

"""Writes past releases as episodes for training, with the collector that serves decisions.

A policy that learns from these episodes is later asked about observations made in the same way.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from oumi_deploy.errors import DeployError
from oumi_deploy.files import refuse_existing
from oumi_deploy.serving.telemetry.collector import Collected, collect_until
from oumi_deploy.serving.telemetry.prometheus import TelemetryUnavailable, connect
from oumi_deploy.serving.telemetry.releases import PastRelease
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

_WAITS = (1.0, 4.0, 16.0)
"""Seconds before each new attempt: one timeout must not cost the work of an hour."""


@dataclass(frozen=True)
class HistoryCounts:
    """What became of a list of releases.

    Attributes:
        written: Releases in the file.
        rows: Observations in it.
        left_out: Releases that are not in it, by reason.
        clipped: Values taken into the format's range, by column.
        notes: In how many releases each note of the collector was made.
    """

    written: int
    rows: int
    left_out: dict[str, int]
    clipped: dict[str, int]
    notes: dict[str, int]


def write_history(
    settings: TelemetrySettings,
    releases: Sequence[PastRelease],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> HistoryCounts:
    """Collects past releases and writes them as an episode file.

    Releases that lasted less than a step, and those of which Prometheus kept nothing, are left out
    and counted: that their telemetry is gone says nothing of how they fared.

    Args:
        settings: Of the collector; those that the service will have.
        releases: From `read_releases`.
        path: The file to write; its suffix picks the kind.
        overwrite: Whether an existing file may be replaced.
        progress: Called after each release with the number just done (1).
        transport: What carries the requests, by default the network.

    Raises:
        TelemetryUnavailable: If Prometheus does not answer, several times in a row.
        DeployError: If it refuses a query, nothing is left to write, or `path` may not be written.
    """
    import pandas as pd

    from oumi_deploy.episodes.table import write_frame

    refuse_existing(Path(path), overwrite)
    rows, counts = asyncio.run(_collect_all(settings, releases, progress, transport))
    if not rows:
        raise DeployError(f"{path}: no release to write: {counts.left_out or 'none was given'}")
    write_frame(pd.DataFrame(rows), path, overwrite=overwrite)
    return counts


async def _collect_all(
    settings: TelemetrySettings,
    releases: Sequence[PastRelease],
    progress: Callable[[int], object] | None,
    transport: httpx.AsyncBaseTransport | None,
) -> tuple[list[dict[str, Any]], HistoryCounts]:
    rows: list[dict[str, Any]] = []
    left_out, clipped, notes = Counter[str](), Counter[str](), Counter[str]()
    async with connect(settings, transport) as client:
        for release in releases:
            collected = await _collect_patiently(client, settings, release)
            notes.update(collected.notes)
            reason = _reason_to_leave_out(collected)
            if reason:
                left_out[reason] += 1
            else:
                clipped.update(collected.clipped)
                rows += _episode_rows(release, collected)
            if progress:
                progress(1)
    written = len(releases) - left_out.total()
    return rows, HistoryCounts(written, len(rows), dict(left_out), dict(clipped), dict(notes))


async def _collect_patiently(
    client: httpx.AsyncClient, settings: TelemetrySettings, release: PastRelease
) -> Collected:
    began, ended = release.started_at, release.ended_at
    for wait in _WAITS:
        try:
            return await collect_until(client, settings, release.name, began, ended)
        except TelemetryUnavailable:
            await asyncio.sleep(wait)
    return await collect_until(client, settings, release.name, began, ended)


def _reason_to_leave_out(collected: Collected) -> str | None:
    if not any(row["phase"] == "canary" for row in collected.observations):
        return "shorter than a step"
    return "no telemetry of the new version" if collected.newest_at is None else None


def _episode_rows(release: PastRelease, collected: Collected) -> list[dict[str, Any]]:
    names = {
        "episode_id": release.episode_id,
        "service": release.service,
        "version": release.version,
        "environment": release.environment,
        "label": release.label,
        "group": release.group,
    }
    return [{**names, "step": step, **row} for step, row in enumerate(collected.observations)]
