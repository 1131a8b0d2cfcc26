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
"""A real Kestra, in a process of its own.

What runs is its engine with its own reading of flows: executor, worker, scheduler and indexer. Not
run, since they are not published where its modules are: its web server and what is around it (a
stand-in takes the page's commands), its image, and the plugins of script tasks (a stand-in begins
what its Python task begins, see tests/kestra/plugin/Script.java).
"""

import json
import os
import re
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

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
def classpath(tmp_path_factory) -> Callable[..., str]:
    """Has Maven fetch what a pom of tests/kestra names; returns where it lies."""

    def resolve(folder: str, **properties: str) -> str:
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip("Maven is not installed")
        found = tmp_path_factory.mktemp(folder) / "classpath"
        goal = ["dependency:build-classpath", f"-Dmdep.outputFile={found}"]
        goal += [f"-D{name}={value}" for name, value in properties.items()]
        subprocess.run([maven, "-B", "-q", "-f", PROGRAMS / folder / "pom.xml", *goal], check=True)
        return found.read_text().strip()

    return resolve


ENDED = {"SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED"}


class Kestra:
    """Kestra's own engine in a process of its own, see tests/kestra/engine/Engine.java.

    Args:
        command: Starts it.
        folder: Where it keeps all that it knows, and runs.
        env: Its environment.
    """

    def __init__(self, command: list[Any], folder: Path, env: Mapping[str, str]):
        self._command, self._folder, self._env = command, folder, env
        self.start()

    def start(self) -> None:
        """Starts it, where it was killed with all that it knew before."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(self._command, cwd=self._folder, env=self._env, **pipes)
        self._answer()

    def kill(self) -> None:
        """Ends it as a crash does: it writes nothing any more."""
        self._process.kill()
        self._process.wait()

    def load(self, source: str) -> dict[str, Any]:
        """Takes a flow; returns `problems`, what is `deprecated`, and `warnings`."""
        return self._ask(load=source)

    def run(self, flow: str, seconds: float = 60.0, **inputs: Any) -> dict[str, Any]:
        """Executes a flow to its end; returns its state, labels, tasks and messages."""
        return self.end_of(self.begin(flow, **inputs), seconds)

    def begin(self, flow: str, **inputs: Any) -> str:
        """Begins to execute a flow; returns the execution's id."""
        return self._ask(start=flow, inputs=inputs)["id"]

    def end_of(self, execution: str, seconds: float = 60.0) -> dict[str, Any]:
        """Waits for an execution to end; returns its state, labels, tasks and messages."""
        return self.await_one(lambda: self._ask(execution=execution), ended, seconds)

    def restart(self, execution: str, seconds: int = 60) -> dict[str, Any]:
        """Restarts an execution that failed; returns how it ends then."""
        return self._ask(restart=execution, seconds=seconds)

    def executions(self, flow: str) -> list[dict[str, Any]]:
        """Returns all executions of a flow so far."""
        return self._ask(executions=flow)

    def next(self, flow: str, trigger: str) -> str:
        """Returns when a trigger is to fire next, as ISO 8601; empty until that is settled."""
        return self._ask(next=trigger, flow=flow)

    def render(self, expressions: list[str], variables: Mapping[str, Any]) -> list[str]:
        """Returns what expressions come to."""
        return self._ask(render=expressions, variables=variables)

    def await_end(self, flow: str, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Waits until a flow was executed and all its executions ended; returns those."""
        every = lambda all_of_it: all_of_it and all(map(ended, all_of_it))  # noqa: E731
        return self.await_one(lambda: self.executions(flow), every, seconds)

    def await_one(
        self, look: Callable[[], Any], is_it: Callable[[Any], Any], seconds: float = 60.0
    ) -> Any:
        """Looks again and again until it is; returns what was seen then."""
        end = time.monotonic() + seconds
        while not is_it(seen := look()):
            assert time.monotonic() < end, f"not within {seconds} s: {seen}"
            time.sleep(0.1)
        return seen

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
        assert not isinstance(told, dict) or "failure" not in told, told
        return told


def ended(execution: Mapping[str, Any]) -> bool:
    return execution["state"] in ENDED


@pytest.fixture(scope="session")
def compiled(java, classpath, tmp_path_factory) -> Callable[..., str]:
    """Compiles programs of tests/kestra against a pom there; returns a class path to run them."""

    def compile_all(pom: str, *sources: str, **properties: str) -> str:
        out, needs = tmp_path_factory.mktemp("classes"), classpath(pom, **properties)
        command = [java.with_name("javac"), "-proc:none", "-d", out, "-cp", needs]
        subprocess.run([*command, *(PROGRAMS / source for source in sources)], check=True)
        return f"{out}{os.pathsep}{needs}"

    return compile_all


@pytest.fixture(scope="session")
def run_java(java) -> list[Any]:
    """Begins a command that runs a program for a short while: quick to start, not to go on."""
    log = PROGRAMS / "engine" / "logback.xml"
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1g"]
    return [java, *quick, f"-Dlogback.configurationFile={log}"]


@pytest.fixture(scope="session")
def on_path(tmp_path_factory) -> Path:
    """A folder of programs that come first on the path of Kestra's worker."""
    return tmp_path_factory.mktemp("bin")


@pytest.fixture(scope="session")
def kestra(compiled, run_java, tokens, on_path, free_port, tmp_path_factory) -> Iterator[Kestra]:
    """Kestra 2: executor, worker, scheduler and indexer, on loopback, all in one folder."""
    folder = tmp_path_factory.mktemp("kestra")
    programs = compiled("engine", "engine/Engine.java", "plugin/Script.java")
    programs = f"{programs}{os.pathsep}{PROGRAMS / 'plugin'}"
    command = [*run_java, "-cp", programs, "Engine", folder, str(free_port())]
    secrets = {
        f"SECRET_OUMI_DEPLOY_{right.upper()}": b64encode(token.encode()).decode()
        for right, token in tokens.items()
    }
    path = f"{on_path}{os.pathsep}{os.environ['PATH']}"
    engine = Kestra(command, folder, {**os.environ, **secrets, "PATH": path})
    try:
        yield engine
    finally:
        engine.kill()


@pytest.fixture(scope="session")
def take(kestra: Kestra) -> Callable[..., str]:
    """Has Kestra take a flow that was set up, under a name of its own; returns that name."""

    def load(flow: dict[str, Any], name: str) -> str:
        told = kestra.load(yaml.safe_dump({**flow, "id": name}, sort_keys=False))
        assert told["problems"] == []
        return name

    return load


@dataclass(frozen=True)
class Gate:
    """A gate of the recipe with its own waits, and who answers it.

    Attributes:
        execution: Its id.
        script: Who answers.
    """

    execution: str
    script: Any


@pytest.fixture(scope="session")
def patient(kestra, take, set_up, scripted) -> Iterator[dict[str, Gate]]:
    """Begins gates that are in no hurry: they wait beside the tests, and are looked at last."""
    pause, go_on = '{"decision": "PAUSE"}', '{"decision": "CONTINUE"}'
    answers = {"away": [""], "held": ["", pause, go_on]}
    with ExitStack() as open_ones:
        gates = {}
        for name, says in answers.items():
            script = open_ones.enter_context(scripted(says))
            flow = take(set_up("ask", script.url, hurry=False), f"ask-{name}")
            gates[name] = Gate(kestra.begin(flow, service="shop", version="v2"), script)
        yield gates


@pytest.fixture
def checked_as(take, set_up) -> Callable[[str], str]:
    """Has Kestra take a team's check of a release that always finds the same."""

    def find(label: str) -> str:
        flow = set_up("check-health", "")
        flow["tasks"] = [{"id": "look", "type": "io.kestra.plugin.core.log.Log", "message": "seen"}]
        flow["outputs"][0]["value"] = label
        return take(flow, "check-health")

    return find
