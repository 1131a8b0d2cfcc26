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

"""The hour itself: the endpoint, the releases of every service, and the progress bar."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from clock import Clock
from cluster import Cluster
from endpoint import serving
from pictures import take
from releases import Release
from rollouts import Run, Tools, roll_out
from services import Service
from tqdm import tqdm

from oumi_deploy.errors import DeployError


@dataclass(frozen=True)
class Hour:
    """An hour to live.

    Attributes:
        minutes: Simulated minutes; a release that would not be through by then does not begin.
        minute: Seconds of a simulated minute.
        endpoint: Port at which the services report.
        service_url: Address of the decision service.
        pictures: Folder for a picture of the dashboard on the way, None for none.
    """

    minutes: int
    minute: int
    endpoint: int
    service_url: str
    pictures: Path | None


def live(
    hour: Hour,
    services: Sequence[Service],
    releases: Mapping[str, Sequence[Release]],
    rng: np.random.Generator,
) -> list[Run]:
    """Lets the hour pass.

    Args:
        hour: How.
        services: The services.
        releases: The releases of each, in order, by its name.
        rng: Source of what is noise.

    Returns:
        The releases that began, in the order in which they did.

    Raises:
        DeployError: If none fits into the time, or the service does not take outcomes.
    """
    try:
        runs = asyncio.run(_live(hour, services, releases, rng))
    except ExceptionGroup as failed:
        # One is enough to tell: the others were cancelled, or fail alike.
        raise failed.exceptions[0] from None
    if not runs:
        raise DeployError(f"--minutes {hour.minutes}: no release fits into that; give 30 or more")
    return sorted(runs, key=lambda run: run.began)


async def _live(
    hour: Hour,
    services: Sequence[Service],
    releases: Mapping[str, Sequence[Release]],
    rng: np.random.Generator,
) -> list[Run]:
    clock = Clock(hour.minute, time.time())
    cluster = Cluster(services, clock, rng)
    runs: list[Run] = []
    async with (
        httpx.AsyncClient(base_url=hour.service_url, timeout=2 * hour.minute) as client,
        serving(cluster, set(releases), hour.endpoint),
        _progress(clock, hour.minutes),
        asyncio.TaskGroup() as group,
    ):
        tools = Tools(clock, cluster, client, lambda line: tqdm.write(line, file=sys.stderr))
        for mine in releases.values():
            group.create_task(_release_all(mine, hour.minutes, tools, runs))
        if hour.pictures is not None:
            await clock.sleep_until(_PICTURED_AT * hour.minutes)
            await take(f"{hour.service_url}/", hour.pictures / "overview.png", 1000, 1250)
    return runs


async def _release_all(
    releases: Sequence[Release], minutes: int, tools: Tools, runs: list[Run]
) -> None:
    """Rolls the releases of one service out, one after the other."""
    for release in releases:
        begin = tools.clock.now() + release.quiet
        if begin + release.planned > minutes:
            return
        await tools.clock.sleep_until(begin)
        runs.append(await roll_out(release, tools))


@asynccontextmanager
async def _progress(clock: Clock, minutes: int) -> AsyncIterator[None]:
    """Shows the minutes that have passed until the block ends."""
    with tqdm(total=minutes, unit="min", desc="hour", bar_format=_BAR) as bar:

        async def show() -> None:
            for n in range(1, minutes + 1):
                await clock.sleep_until(n)
                bar.update()

        showing = asyncio.create_task(show())
        try:
            yield
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing


_PICTURED_AT = 0.6
"""Share of the hour after which the dashboard has past releases and some under way."""

_BAR = "{desc} |{bar:30}| minute {n_fmt} of {total_fmt}"
