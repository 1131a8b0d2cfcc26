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
"""A real Kestra, and services for its flows to ask."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from oumi_deploy.serving.schema import Ask, Outcome

PROGRAMS = Path(__file__).parents[1]
LEAST_JAVA = 21


@pytest.fixture(scope="session")
def java() -> Path:
    """A JDK's program `java` that Kestra runs on."""
    on_path = shutil.which("javac")
    homes = [Path(os.environ["JAVA_HOME"])] if "JAVA_HOME" in os.environ else []
    homes += [Path(on_path).resolve().parents[1]] if on_path else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)
    for home in homes:
        release = home / "release"
        if (home / "bin" / "javac").exists() and release.exists():
            version = re.search(r'JAVA_VERSION="(\d+)', release.read_text())
            if version and int(version[1]) >= LEAST_JAVA:
                return home / "bin" / "java"
    pytest.skip(f"no JDK of {LEAST_JAVA} or later, which Kestra needs")


@pytest.fixture(scope="session")
def classpath(tmp_path_factory) -> Callable[[str], str]:
    """Has Maven fetch what a pom of tests/kestra names; returns where it lies."""

    def resolve(folder: str) -> str:
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip("Maven is not installed")
        found = tmp_path_factory.mktemp(folder) / "classpath"
        goal = ["dependency:build-classpath", f"-Dmdep.outputFile={found}"]
        subprocess.run([maven, "-B", "-q", "-f", PROGRAMS / folder / "pom.xml", *goal], check=True)
        return found.read_text().strip()

    return resolve


class Kestra:
    """Kestra's own engine in a process of its own, see tests/kestra/engine/Engine.java."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process
        self._answer()

    def load(self, source: str) -> dict[str, Any]:
        """Takes a flow; returns `problems`, what is `deprecated`, and `warnings`."""
        return self._ask(load=source)

    def run(self, flow: str, seconds: int = 60, **inputs: Any) -> dict[str, Any]:
        """Executes a flow to its end; returns its state, labels, tasks and messages."""
        return self._ask(run=flow, inputs=inputs, seconds=seconds)

    def restart(self, execution: str, seconds: int = 60) -> dict[str, Any]:
        """Restarts an execution that failed; returns how it ends then."""
        return self._ask(restart=execution, seconds=seconds)

    def executions(self, flow: str) -> list[dict[str, Any]]:
        """Returns all executions of a flow so far."""
        return self._ask(executions=flow)

    def await_end(self, flow: str, seconds: float = 30.0) -> None:
        """Waits until no execution of a flow is under way."""
        end = time.monotonic() + seconds
        while {one["state"] for one in self.executions(flow)} - {"SUCCESS", "FAILED"}:
            assert time.monotonic() < end, f"{flow} does not end"
            time.sleep(0.1)

    def _ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "Kestra's engine ended; its log is in what was captured from stderr"
        told = json.loads(line)
        assert "failure" not in told, told
        return told


@pytest.fixture(scope="session")
def kestra(java, classpath, tokens, tmp_path_factory) -> Iterator[Kestra]:
    """Kestra 2: executor, worker, scheduler and indexer, on loopback, with a database in memory."""
    folder = tmp_path_factory.mktemp("kestra")
    command = [java, "-Xmx1g", f"-Dlogback.configurationFile={PROGRAMS / 'engine' / 'logback.xml'}"]
    command += ["-cp", classpath("engine"), PROGRAMS / "engine" / "Engine.java"]
    command += [folder, str(free_port())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    secret = {"SECRET_OUMI_DEPLOY_ASK": b64encode(tokens["ask"].encode()).decode()}
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **secret}, **pipes) as process:
        try:
            yield Kestra(process)
        finally:
            process.kill()


@pytest.fixture
def take(kestra: Kestra) -> Callable[..., str]:
    """Has Kestra take a flow that was set up, under a name of its own; returns that name."""

    def load(flow: dict[str, Any], name: str) -> str:
        told = kestra.load(yaml.safe_dump({**flow, "id": name}, sort_keys=False))
        assert told["problems"] == []
        return name

    return load


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: Its address.
        token: One that may ask.
    """

    url: str
    token: str

    def get(self, path: str, **asked: Any) -> Any:
        """Returns what it answers under a path."""
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.get(f"{self.url}{path}", params=asked, headers=headers).json()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def service(error_policy, tokens, tmp_path_factory) -> Iterator[Service]:
    """Runs `oumi-deploy serve` with tokens."""
    folder = tmp_path_factory.mktemp("service")
    error_policy.save(folder / "policy.json")
    (folder / "tokens").write_text("".join(f"{may} {token}\n" for may, token in tokens.items()))
    port = free_port()
    program = Path(sys.executable).with_name("oumi-deploy")
    command = [program, "serve", "--policy", "policy.json", "--tokens", "tokens"]
    running = subprocess.Popen([*command, "--port", str(port)], cwd=folder)
    try:
        for _ in range(300):
            assert running.poll() is None, "the service does not start"
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield Service(f"http://127.0.0.1:{port}", tokens["ask"])
    finally:
        running.terminate()
        running.wait(timeout=30)


@dataclass
class Script:
    """What a stand-in for the service answers, in turn, and what it was sent.

    Attributes:
        url: Its address.
        answers: Bodies of the answers; the last stays.
        asked: Questions so far, each as the service's own model reads it.
        reported: Outcomes so far, likewise.
        delay: Seconds before it answers.
    """

    url: str = ""
    answers: list[str] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    reported: list[Outcome] = field(default_factory=list)
    delay: float = 0.0


@contextmanager
def answering(script: Script) -> Iterator[Script]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            said = '{"id": "o1", "new": true}'
            if self.path == "/v1/decide":
                script.asked.append(Ask.model_validate_json(body))
                said = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            else:
                script.reported.append(Outcome.model_validate_json(body))
            time.sleep(script.delay)
            # Who asked may have hung up by now.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield script
        server.shutdown()


@pytest.fixture
def down_url() -> str:
    """An address where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def script() -> Iterator[Script]:
    with answering(Script()) as one:
        yield one
