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
"""The recipe's flows, as they stand and as somebody sets them up, and services for them to ask."""

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from oumi_deploy.serving.schema import Ask, Outcome

FLOWS = Path(__file__).parents[2] / "recipes" / "kestra"
ASK, REPORT = "asking-0123456789abcdef", "reporting-0123456789abcdef"
"""Tokens of the service that the tests start."""


@pytest.fixture(scope="session")
def tokens() -> dict[str, str]:
    return {"ask": ASK, "report": REPORT}


def each_task(node: Any) -> Iterator[dict[str, Any]]:
    """Goes through all tasks of a flow, however deep: what has an id and a type among them."""
    if isinstance(node, list):
        for item in node:
            yield from each_task(item)
    elif isinstance(node, dict):
        if str(node.get("type", "")).startswith("io.kestra.plugin") and "id" in node:
            yield node
        for value in node.values():
            yield from each_task(value)


def in_a_hurry(flow: dict[str, Any]) -> dict[str, Any]:
    """Returns a flow whose waits are short, so that its end can be waited for."""
    for task in each_task(flow["tasks"]):
        if "checkFrequency" in task:
            task["checkFrequency"] |= {"interval": "PT1S", "maxIterations": 3}
        if "retry" in task:
            task["retry"] |= {"interval": "PT0.2S", "maxInterval": "PT0.5S", "maxAttempts": 2}
            task["timeout"] = "PT5S"
            task["options"]["timeout"] = {"connectTimeout": "PT1S", "readIdleTimeout": "PT2S"}
    return flow


@pytest.fixture(scope="session")
def recipe() -> Callable[[str], dict[str, Any]]:
    """Reads a flow of the recipe as it stands: `recipe("ask")`."""
    return lambda name: yaml.safe_load((FLOWS / f"{name}.yaml").read_text())


@pytest.fixture(scope="session")
def commands() -> Callable[[str], list[str]]:
    """Reads what the recipe's page has one run under a heading, by line: `commands("## 1")`."""
    page = (FLOWS / "README.md").read_text()

    def read(heading: str) -> list[str]:
        part = page.split(f"\n{heading}")[1].split("\n## ")[0]
        blocks = re.findall(r"^```bash\n(.*?)^```", part, re.M | re.S)
        return [line for block in blocks for line in block.splitlines()]

    return read


@pytest.fixture(scope="session")
def page_flows() -> dict[str, dict[str, Any]]:
    """Reads what the recipe's page suggests to put into flows, by the id of the first task."""
    page = (FLOWS / "README.md").read_text()
    parts = map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S))
    return {part["tasks"][0]["id"]: part for part in parts}


@pytest.fixture
def copy_of_the_recipe(tmp_path) -> Path:
    return shutil.copytree(FLOWS, tmp_path / "recipes" / "kestra")


@pytest.fixture(scope="session")
def tasks() -> Callable[[Any], Iterator[dict[str, Any]]]:
    return each_task


@pytest.fixture(scope="session")
def set_up() -> Callable[..., dict[str, Any]]:
    """Reads a flow with what a person puts in, in a hurry unless told: `set_up("ask", url)`."""

    def read(name: str, url: str, ask: str = ASK, hurry: bool = True) -> dict[str, Any]:
        source = (FLOWS / f"{name}.yaml").read_text()
        source = source.replace("http://PUT-THE-SERVICE-HERE:8377", url)
        source = source.replace("PUT-THE-TOKEN-THAT-MAY-ASK-HERE", ask)
        source = source.replace("PUT-THE-TOKEN-THAT-MAY-REPORT-HERE", REPORT)
        flow = yaml.safe_load(source)
        return in_a_hurry(flow) if hurry else flow

    return read


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: Its address.
        token: One that may ask.
        reporting: One that may report.
    """

    url: str
    token: str
    reporting: str

    def get(self, path: str, **asked: Any) -> Any:
        """Returns what it answers under a path."""
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.get(f"{self.url}{path}", params=asked, headers=headers).json()

    def report(self, **outcome: Any) -> None:
        """Reports an outcome."""
        headers = {"authorization": f"Bearer {self.reporting}"}
        told = httpx.post(f"{self.url}/v1/outcomes", json=outcome, headers=headers)
        told.raise_for_status()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return a_free_port


def a_free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def service(error_policy, tokens, tmp_path_factory) -> Iterator[Service]:
    """Runs `oumi-deploy serve` with tokens."""
    folder = tmp_path_factory.mktemp("service")
    error_policy.save(folder / "policy.json")
    (folder / "tokens").write_text("".join(f"{may} {token}\n" for may, token in tokens.items()))
    port = a_free_port()
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
        yield Service(f"http://127.0.0.1:{port}", tokens["ask"], tokens["report"])
    finally:
        running.terminate()
        running.wait(timeout=30)


@dataclass
class Script:
    """What a stand-in for the service answers, in turn, and what it was sent.

    Attributes:
        url: Its address.
        answers: Bodies of the answers, an empty one for status 500; the last stays.
        asked: Questions so far, each as the service's own model reads it.
        asked_at: When each was asked, on the monotonic clock.
        reported: Outcomes so far, likewise.
        delay: Seconds before it answers.
    """

    url: str = ""
    answers: list[str] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    reported: list[Outcome] = field(default_factory=list)
    delay: float = 0.0


@dataclass(frozen=True)
class Request:
    """What a stand-in was sent: `path` with its query, `headers` by their names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@contextmanager
def standing_in(answer: Callable[[Request], tuple[int, str]]) -> Iterator[str]:
    """Runs a server on loopback that answers with a status and a text; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            status, text = answer(Request(self.command, self.path, headers, body))
            # Who asked may have hung up by now.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def answering(script: Script) -> Iterator[Script]:
    def answer(asked: Request) -> tuple[int, str]:
        if asked.method == "GET":
            return 200, "[]"
        said = '{"id": "o1", "new": true}'
        if asked.path == "/v1/decide":
            script.asked.append(Ask.model_validate_json(asked.body))
            script.asked_at.append(time.monotonic())
            said = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
        else:
            script.reported.append(Outcome.model_validate_json(asked.body))
        time.sleep(script.delay)
        return (200 if said else 500), said

    with standing_in(answer) as script.url:
        yield script


@pytest.fixture(scope="session")
def stand_in() -> Callable[[Callable[[Any], tuple[int, str]]], AbstractContextManager[str]]:
    """Runs a server of one's own for as long as a context lasts, which gives its address."""
    return standing_in


@pytest.fixture
def down_url() -> str:
    """An address where nothing listens."""
    return f"http://127.0.0.1:{a_free_port()}"


@pytest.fixture(scope="session")
def scripted() -> Callable[[list[str]], AbstractContextManager[Script]]:
    """Stands in for the service for as long as a context lasts, with answers given in turn."""
    return lambda answers: answering(Script(answers=answers))


@pytest.fixture
def script(scripted) -> Iterator[Script]:
    with scripted([]) as one:
        yield one
