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
"""A real service with a real log, and a real browser to look at its page."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from oumi_deploy.serving.log.entries import DecisionEntry, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog

ASK = "asking-0123456789abcdef"
STARTS_WITHIN = 30.0


@dataclass
class Service:
    """A service in a process of its own, always at the same address.

    Attributes:
        url: Its address.
        command: What starts it.
        environment: Its environment variables.
        process: The process, None while it does not run.
    """

    url: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                httpx.get(f"{self.url}/health").raise_for_status()
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the service does not start"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None

    def ask(self, service: str, *error_rates: float | None, **more: Any) -> dict[str, Any]:
        """Asks about a rollout after each of its observations; returns the last answer."""
        token = {"Authorization": f"Bearer {ASK}"}
        seen: list[dict[str, Any]] = []
        answer: dict[str, Any] = {}
        for n, rate in enumerate(error_rates):
            at = time.time() - 10 * (len(error_rates) - n)
            seen.append({"timestamp": at, "error_rate": rate, "requests": 500, "latency": 0.1})
            body = {"service": service, "observations": seen, **more}
            response = httpx.post(f"{self.url}/v1/decide", json=body, headers=token)
            assert response.is_success, response.text
            answer = response.json()
        return answer


@pytest.fixture
def run(policy_file: Path, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services: `run(tokens="ask TOKEN")` returns one that runs.

    What it may do is in the file `tokens`, its log in `log.db` where no other is named.
    """
    own_log = f"sqlite:///{tmp_path / 'log.db'}"
    with ExitStack() as running:

        def start(tokens: str | None = None, log: str = own_log) -> Service:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = str(probe.getsockname()[1])
            program = Path(sys.executable).with_name("oumi-deploy")
            command = [str(program), "serve", "--policy", str(policy_file), "--port", port]
            command += ["--log", log]
            if tokens is not None:
                path = tmp_path / "tokens"
                path.write_text(tokens)
                command += ["--tokens", str(path)]
            service = Service(f"http://127.0.0.1:{port}", command, dict(os.environ))
            running.callback(service.stop)
            service.start()
            return service

        yield start


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Writes decisions into `log.db` beside the service: `write(entry, ...)`."""

    async def record(entries: Sequence[DecisionEntry]) -> None:
        log = DecisionLog.open(f"sqlite:///{tmp_path / 'log.db'}")
        for entry in entries:
            await log.record(entry)
        log.close()

    def in_a_thread(*entries: DecisionEntry) -> None:
        # In this one the browser's driver has a loop of its own.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, record(entries)).result()

    return in_a_thread


@pytest.fixture(scope="session")
def entry() -> Callable[..., DecisionEntry]:
    """Makes a decision: `entry(service="shop", decision="PAUSE")`."""

    def made(service: str = "shop", version: str = "v1", **changes: Any) -> DecisionEntry:
        values: dict[str, Any] = {
            "id": uuid4().hex,
            "name": RolloutName(service, "", version),
            "at": time.time(),
            "asked_by": "api",
            "policy_version": "v",
            "base": None,
            "kept": 0,
            "observations": [{"error_rate": 0.6, "requests": 500.0}],
            "last": False,
            "decision": "CONTINUE",
            "propensity": 1.0,
            "explored": False,
            "shadow": False,
            "risk": 0.1,
            "confidence": 0.9,
            "q_values": {},
            "reasons": [],
        } | changes
        decision = values["decision"]
        return DecisionEntry(**{"preferred": decision, "answered": decision, **values})

    return made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    # Chromium's sandbox refuses to run as root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium) -> Iterator[Callable[..., Any]]:
    """Opens a page whose clock can be put forward; no script on it may have failed at the end."""
    failed: list[str] = []
    with ExitStack() as contexts:

        def open_page(url: str, **options: Any) -> Any:
            context = chromium.new_context(**options)
            contexts.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: failed.append(str(error)))
            page.on("console", lambda said: _note_refusal(failed, said))
            page.clock.install()
            page.goto(url)
            return page

        yield open_page
    assert not failed


def _note_refusal(failed: list[str], said: Any) -> None:
    if "Content Security Policy" in said.text:
        failed.append(said.text)
