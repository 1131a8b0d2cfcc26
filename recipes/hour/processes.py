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

"""Prometheus and the decision service as child processes, which end with the script."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from endpoint import HOST

from oumi_deploy.errors import DeployError

_PATIENCE = 60.0
"""Seconds in which a child must be ready."""

_OUMI_DEPLOY = str(Path(sys.executable).with_name("oumi-deploy"))

_STORE = ("--storage.tsdb.path=prometheus", "--storage.tsdb.retention.time=1d")


def free_ports(count: int) -> list[int]:
    """Returns loopback ports that nobody listens on, each another."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def require_prometheus() -> None:
    """Refuses to go on without Prometheus.

    Raises:
        DeployError: If it is not installed.
    """
    if shutil.which("prometheus") is None:
        raise DeployError("prometheus is not on PATH (Debian: apt install prometheus)")


@contextmanager
def prometheus(
    folder: Path, port: int, services: Sequence[str], endpoint: int, minute: int
) -> Iterator[str]:
    """Runs Prometheus, which scrapes every service four times a simulated minute.

    Args:
        folder: Where its files go.
        port: Where it listens.
        services: Names of the services.
        endpoint: Port at which they report.
        minute: Seconds of a simulated minute.

    Yields:
        Its address.
    """
    jobs = [
        f"  - job_name: {name}\n    metrics_path: /{name}\n"
        f"    static_configs: [{{targets: ['{HOST}:{endpoint}']}}]"
        for name in services
    ]
    every = f"{minute * 250}ms"
    config = f"global: {{scrape_interval: {every}, scrape_timeout: {every}}}\nscrape_configs:\n"
    (folder / "prometheus.yml").write_text(config + "\n".join(jobs) + "\n", encoding="utf-8")
    url = f"http://{HOST}:{port}"
    command = ["prometheus", "--config.file=prometheus.yml", *_STORE, "--log.level=warn"]
    with _running("prometheus", [*command, f"--web.listen-address={HOST}:{port}"], folder) as child:
        _wait_until_ready("prometheus", f"{url}/-/ready", child, folder)
        yield url


@contextmanager
def decision_service(
    folder: Path,
    port: int,
    policy: Path,
    prometheus_url: str,
    calls: Mapping[str, Sequence[str]],
    minute: int,
) -> Iterator[str]:
    """Runs `oumi-deploy serve` with a log of its own.

    Args:
        folder: Where its files go.
        port: Where it listens.
        policy: File of the policy that decides.
        prometheus_url: Where it collects.
        calls: Callees by caller.
        minute: Seconds of a simulated minute, the time between observations.

    Yields:
        Its address.
    """
    (folder / "calls.json").write_text(json.dumps(calls), encoding="utf-8")
    # Told half as often as it scrapes, so that a window holds four samples and can lose two.
    (folder / "telemetry.toml").write_text(
        f'url = "{prometheus_url}"\nscrape_interval = "{minute // 2}s"\nwindow = "{minute}s"\n'
        f'step = "{minute}s"\nbaseline = "{6 * minute}s"\nsettle = "0s"\n',
        encoding="utf-8",
    )
    url = f"http://{HOST}:{port}"
    command = [_OUMI_DEPLOY, "serve", "--policy", str(policy.resolve())]
    command += ["--telemetry", "telemetry.toml", "--calls", "calls.json"]
    command += ["--log", "sqlite:///decisions.db", "--port", str(port), "--interval", str(minute)]
    with _running("oumi-deploy", command, folder) as child:
        _wait_until_ready("oumi-deploy", f"{url}/ready", child, folder)
        yield url


def run_to_end(name: str, arguments: Sequence[str], folder: Path) -> str:
    """Runs an `oumi-deploy` command in `folder`, and returns what it prints.

    Raises:
        DeployError: If it fails.
    """
    with _running(name, [_OUMI_DEPLOY, *arguments], folder, folder / f"{name}.out") as child:
        status = child.wait()
    if status:
        raise DeployError(f"{name} ended with {status}: {_said(name, folder)}")
    return (folder / f"{name}.out").read_text(encoding="utf-8")


@contextmanager
def _running(
    name: str, command: Sequence[str], folder: Path, output: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    errors = folder / f"{name}.log"
    with errors.open("wb") as log, (output or errors).open("ab") as out:
        # A session of its own: Ctrl-C reaches the script alone, which ends the child in good order.
        child = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=log, start_new_session=True
        )
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and what it started."""
    if child.poll() is not None:
        return
    os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait_until_ready(name: str, url: str, child: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if httpx.get(url, timeout=1).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise DeployError(f"{name} does not start: {_said(name, folder)}")


def _said(name: str, folder: Path) -> str:
    said = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").split()
    return " ".join(said)[-500:] or "it says nothing"
