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

"""A Prometheus that answers from a dictionary, and a real one with a history."""

import asyncio
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from oumi_deploy.serving.telemetry.collector import Collected, collect
from oumi_deploy.serving.telemetry.prometheus import connect
from oumi_deploy.serving.telemetry.queries import ReleaseName
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

START = 1_700_000_940
"""When every canary of the history began: a whole minute."""


def named(service: str, environment: str = "prod", version: str = "new11") -> ReleaseName:
    return ReleaseName(service, environment, version)


@dataclass
class FakePrometheus:
    """Answers each query with the series that stand under a part of it."""

    series: dict[str, list[dict[str, Any]]]
    asked: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        self.asked.append(form)
        # Servers that round times answer with points up to a step before what was asked.
        start, end = float(form["start"]) - float(form["step"]), float(form["end"])
        found = next((s for part, s in self.series.items() if part in form["query"]), [])
        kept = [{**s, "values": [v for v in s["values"] if start < v[0] <= end]} for s in found]
        result = [series for series in kept if series["values"]]
        return httpx.Response(
            200,
            json={"status": "success", "data": {"resultType": "matrix", "result": result}},
        )

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)


def collect_now(
    settings: TelemetrySettings,
    name: ReleaseName,
    started_at: float,
    now: float,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Collected:
    async def run() -> Collected:
        async with connect(settings, transport) as client:
            return await collect(client, settings, name, started_at, now)

    return asyncio.run(run())


@pytest.fixture(scope="session")
def fake() -> type[FakePrometheus]:
    return FakePrometheus


@pytest.fixture(scope="session")
def release() -> Callable[..., ReleaseName]:
    return named


@pytest.fixture(scope="session")
def collecting() -> Callable[..., Collected]:
    return collect_now


@pytest.fixture(scope="session")
def start() -> int:
    return START


@pytest.fixture(scope="session")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Runs Prometheus with a history in which each service has one thing happen to it."""
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "history.txt").write_text(history(), encoding="utf-8")
    (folder / "prometheus.yml").write_text("global: {}\n")
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # `timeout` ends it even if nobody is left to.
    command = ["timeout", "600", "prometheus", "--config.file=prometheus.yml"]
    command += ["--storage.tsdb.path=data", "--storage.tsdb.retention.time=10y"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"http://{address}", server, folder / "log")
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Prometheus is not ready: {log.read_text()}")


# The history: scrapes every 30 s, 7 s off the minute, from 20 minutes before START to 20 after.
SCRAPES = [START + 7 + 30 * k for k in range(-40, 40)]

Line = tuple[str, dict[str, str], int, float]


def history() -> str:
    """Writes the samples of all services as OpenMetrics text."""
    lines = [
        *shop(),
        *gap(),
        *idle(),
        *restarted(),
        *odd_names(),
    ]
    return "\n".join([*map(_text, lines), "# EOF", ""])


def _text(line: Line) -> str:
    name, labels, at, value = line
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value} {at}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def pod_lines(pod: str, at: int, *, requests: float, errors: float | None, memory: float):
    """Yields what one pod and those who watch it report at a scrape."""
    labels = {"namespace": "prod", "pod": pod}
    container = {**labels, "container": "app", "image": "app:1"}
    yield "http_requests_total", {**labels, "code": "200"}, at, requests - (errors or 0)
    if errors is not None:
        yield "http_requests_total", {**labels, "code": "500"}, at, errors
    yield "container_memory_working_set_bytes", container, at, memory
    # The sum of the whole pod, which must not be counted beside its containers.
    yield "container_memory_working_set_bytes", {**labels, "container": ""}, at, memory
    yield "container_cpu_usage_seconds_total", container, at, 0.25 * (at - SCRAPES[0])
    for resource, limit in (("memory", 1000.0), ("cpu", 0.5)):
        name = "kube_pod_container_resource_limits"
        yield name, {**labels, "container": "app", "resource": resource}, at, limit
    yield "kube_pod_info", {**labels, "node": "n1"}, at, 1
    yield "kube_pod_status_ready", {**labels, "condition": "true"}, at, 1
    yield "kube_pod_status_ready", {**labels, "condition": "false"}, at, 0


def shop() -> Iterator[Line]:
    """Two old pods with 3 requests a second, 1 % failing; a new one that fails from minute 6 on."""
    for at in SCRAPES:
        for pod in ("shop-old22-aaaaa", "shop-old22-bbbbb"):
            seen = 3.0 * (at - SCRAPES[0])
            yield from pod_lines(pod, at, requests=seen, errors=0.01 * seen, memory=400)
        # Another service whose name begins alike.
        yield from pod_lines("shop-api-old22-ccccc", at, requests=9e6, errors=9e6, memory=1e6)
        if at > START:
            seen, failed = 2.0 * (at - START), max(0.0, 0.2 * (at - START - 360))
            yield from pod_lines("shop-new11-ddddd", at, requests=seen, errors=failed, memory=700)


def gap() -> Iterator[Line]:
    """A new pod that nobody scraped from minute 5 to minute 12."""
    for at in SCRAPES:
        if at > START and not START + 300 < at < START + 720:
            seen = 2.0 * (at - START)
            yield from pod_lines("gap-new11-aaaaa", at, requests=seen, errors=0, memory=500)


def idle() -> Iterator[Line]:
    """A new pod that was never asked anything after its start."""
    for at in SCRAPES:
        if at > START:
            yield from pod_lines("idle-new11-aaaaa", at, requests=50, errors=0, memory=500)


def restarted() -> Iterator[Line]:
    """A new pod whose counters began again at minute 8, and that never failed."""
    for at in SCRAPES:
        if at > START:
            since = at - START if at < START + 480 else at - START - 480
            yield from pod_lines(
                "restarted-new11-aaaaa", at, requests=2.0 * since, errors=None, memory=500
            )


ODD_VERSIONS = (
    '1.0"} or vector(1) or up{a="',
    "back\\slash",
    "v{version}",
    "line\nend",
    "v.*",
    "ü",
)


def odd_names() -> Iterator[Line]:
    """A gauge of each odd version that tells its place in the list, and one more version."""
    for number, version in enumerate((*ODD_VERSIONS, "v11")):
        for at in SCRAPES:
            yield "odd", {"service": "odd", "version": version}, at, number


@pytest.fixture(scope="session")
def odd_versions() -> tuple[str, ...]:
    return ODD_VERSIONS
