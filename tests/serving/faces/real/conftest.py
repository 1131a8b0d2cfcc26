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
"""A running service, telemetry for it, and Go programs of the systems that ask it."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules

PROGRAMS = Path(__file__).parents[1]
STARTS_WITHIN = 30.0
"""Seconds that a service may take to start on a machine that is busy compiling."""

ASK, REPORT = "asking-0123456789abcdef", "reporting-0123456789abcdef"

TELEMETRY = """
url = "http://127.0.0.1:{port}"
scrape_interval = "1s"
window = "2s"
step = "1s"
baseline = "0s"
settle = "0s"
[canary]
traffic = 'new="1"'
pods = 'new="1"'
[stable]
traffic = 'new="0"'
pods = 'new="0"'
[queries]
error_rate = 'error_rate{{service="{{service}}"}}'
requests = 'requests{{service="{{service}}"}}'
memory_usage = false
cpu_usage = false
health_score = false
canary_share = false
n_pods = false
"""

SHOWN = {
    "well": {"error_rate": 0.01, "requests": 500},
    "quiet": {"error_rate": 0.01, "requests": 3},
    "bad": {"error_rate": 0.6, "requests": 500},
}
"""What each service's telemetry shows all the time: CONTINUE, PAUSE and ROLLBACK."""


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: Its address.
        ask: A token that may ask.
        report: One that may report.
    """

    url: str
    ask: str
    report: str


class Prometheus(BaseHTTPRequestHandler):
    """Answers range queries on what SHOWN shows: one value a step."""

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        asked = {k: v[0] for k, v in parse_qs(self.rfile.read(length).decode()).items()}
        metric, _, matcher = asked["query"].partition("{")
        value = next(shown[metric] for name, shown in SHOWN.items() if f'"{name}"' in matcher)
        start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
        values = [[start + i * step, str(value)] for i in range(int((end - start) / step + 1.5))]
        matrix = {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
        body = json.dumps({"status": "success", "data": matrix}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def prometheus() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Prometheus) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def service(policy, tmp_path_factory) -> Iterator[Service]:
    """Runs `oumi-deploy serve` with telemetry, tokens, and a policy that never tires of pausing."""
    folder = tmp_path_factory.mktemp("service")
    rules = PauseRules(pause_limit=100_000)
    replace(policy, calibration=Calibration(0.0, 1.0, rules)).save(folder / "policy.json")
    (folder / "tokens").write_text(f"ask {ASK}\nreport {REPORT}\n")
    port = free_port()
    program = Path(sys.executable).with_name("oumi-deploy")
    options = {"policy": "policy.json", "telemetry": "telemetry.toml", "tokens": "tokens"}
    command = [program, "serve", "--port", str(port)]
    command += [f"--{name}={folder / file}" for name, file in options.items()]
    with prometheus() as prometheus_port:
        (folder / "telemetry.toml").write_text(TELEMETRY.format(port=prometheus_port))
        running = subprocess.Popen(command, cwd=folder)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, running)
            yield Service(url, ASK, REPORT)
        finally:
            running.terminate()
            running.wait(timeout=30)


def _wait_for(url: str, running: subprocess.Popen) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        assert running.poll() is None, "the service does not start"
        try:
            httpx.get(f"{url}/health", timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the service does not answer within {STARTS_WITHIN:g} s")


@pytest.fixture
def slow_url() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def down_url() -> str:
    """An address where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def go_program(tmp_path_factory) -> Callable[[str], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Builds a Go program of the faces once; it reads a question as JSON and prints an answer."""
    built = tmp_path_factory.mktemp("go")

    def build(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        if shutil.which("go") is None:
            pytest.skip("Go is not installed")
        program = built / name
        if not program.exists():
            # Two compilers at once: linking takes a gigabyte.
            subprocess.run(
                ["go", "build", "-p=2", "-o", program, "."], cwd=PROGRAMS / name, check=True
            )

        def run(question: dict[str, Any]) -> dict[str, Any]:
            asked = json.dumps(question).encode()
            said = subprocess.run(program, input=asked, stdout=subprocess.PIPE, check=True)
            return json.loads(said.stdout)

        return run

    return build
