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

"""A PostgreSQL server of our own, and logs on either database."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName

NAME = RolloutName("pay", "production", "2.1", "7")


@dataclass
class PostgreSQL:
    """A server in a folder of its own, on the loopback interface."""

    programs: Path
    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server; the kernel ends it with the thread that calls this, even if killed."""
        options = ["-p", str(self.port), "-k", str(self.data), "-c", "listen_addresses=127.0.0.1"]
        command = ["postgres", "-D", str(self.data), "-c", "fsync=off", *options]
        with (self.data.parent / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(*command), stdout=output, stderr=output, cwd="/"
            )
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stops the server without a word to its clients, as a crash does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()

    def command(self, program: str, *arguments: str) -> list[str]:
        become = ["setpriv", "--pdeathsig", "QUIT"]
        if os.geteuid() == 0:
            # The server refuses to run as root.
            become += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*become, str(self.programs / program), *arguments]

    def initialize(self) -> None:
        made = self.command("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust")
        subprocess.run([*made, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """Makes an empty database and returns its URL."""
        name = f"log_{uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found += [Path(p) for p in [shutil.which("initdb")] if p]
    if not found or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL's server, or setpriv to start it with, is not installed")
    folder = Path(tempfile.mkdtemp(prefix="decision-log-"))
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    server = PostgreSQL(found[-1].parent, folder / "data", free_port())
    try:
        server.initialize()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return request.getfixturevalue("postgresql").fresh()


def make_decision(**changes: Any) -> DecisionEntry:
    """Builds a decision on one observation."""
    values: dict[str, Any] = {
        "id": uuid4().hex,
        "name": NAME,
        "at": 1_790_000_000.0,
        "asked_by": "api",
        "policy_version": "abc",
        "base": None,
        "kept": 0,
        "observations": [{"timestamp": 1_790_000_000.0, "error_rate": 0.01, "memory_usage": None}],
        "last": False,
        "preferred": "CONTINUE",
        "decision": "CONTINUE",
        "answered": "CONTINUE",
        "propensity": 1.0,
        "explored": False,
        "shadow": False,
        "risk": 0.125,
        "confidence": 0.875,
        "q_values": {"CONTINUE": 12.5, "ROLLBACK": -50.0},
        "reasons": ["unsure"],
    }
    return DecisionEntry(**{**values, **changes})


def make_outcome(**changes: Any) -> OutcomeEntry:
    """Builds an outcome."""
    values: dict[str, Any] = {
        "id": uuid4().hex,
        "name": NAME,
        "at": 1_790_003_600.0,
        "source": "flagger",
        "label": "good",
        "by": "flagger",
        "note": "",
        "detail": {"phase": "Succeeded"},
    }
    return OutcomeEntry(**{**values, **changes})


@pytest.fixture(scope="session")
def decision() -> Callable[..., DecisionEntry]:
    return make_decision


@pytest.fixture(scope="session")
def outcome() -> Callable[..., OutcomeEntry]:
    return make_outcome


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that happens in another thread."""
    return wait_until
