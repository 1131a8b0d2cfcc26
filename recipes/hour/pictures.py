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

"""Pictures of the dashboard, by a headless Chromium."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import httpx
from rollouts import Run
from versions import NAMESPACE

from oumi_deploy.errors import DeployError

_CHROMIUM = "chromium"
_OPTIONS = ("--headless", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb")
_TIME = 4000
"""Milliseconds that a page takes at most to ask for its data and to draw it."""


def require_chromium() -> None:
    """Refuses to go on without Chromium.

    Raises:
        DeployError: If it is not installed.
    """
    if shutil.which(_CHROMIUM) is None:
        raise DeployError(f"--pictures needs {_CHROMIUM} on PATH (Debian: apt install chromium)")


async def take(url: str, file: Path, width: int, height: int) -> None:
    """Takes a picture of a page.

    Args:
        url: Address of the page.
        file: PNG file to write.
        width: Of the window, in pixels.
        height: Likewise.

    Raises:
        DeployError: If there is no picture in the end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hour-", ignore_cleanup_errors=True) as profile:
        options = [*_OPTIONS, f"--user-data-dir={profile}", f"--virtual-time-budget={_TIME}"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # It has none for root.
        options += [f"--window-size={width},{height}", f"--screenshot={file.resolve()}", url]
        quiet = asyncio.subprocess.DEVNULL
        child = await asyncio.create_subprocess_exec(
            _CHROMIUM, *options, stdin=quiet, stdout=quiet, stderr=quiet
        )
        try:
            status = await child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
    if status or not file.is_file():
        raise DeployError(f"{_CHROMIUM} ended with {status} and took no picture of {url}")


async def take_release(service_url: str, run: Run, file: Path) -> None:
    """Takes a picture of the page of one release."""
    async with httpx.AsyncClient(base_url=service_url, timeout=10) as client:
        found = await client.get("/v1/rollouts", params={"service": run.release.service.name})
        found.raise_for_status()
    mine = (NAMESPACE, run.release.version)
    named = {(r["environment"], r["version"]): r["id"] for r in found.json()["rollouts"]}
    await take(f"{service_url}/#/rollouts/{named[mine]}", file, 1000, 1250)
