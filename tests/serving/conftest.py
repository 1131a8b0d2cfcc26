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
"""A service with a policy small enough to know by heart, and a PostgreSQL server of our own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient

from oumi_deploy import DeploymentPolicy
from oumi_deploy.serving.app import create_app
from oumi_deploy.serving.settings import ServiceSettings


@pytest.fixture(scope="session")
def policy(error_policy) -> DeploymentPolicy:
    return error_policy


@pytest.fixture
def policy_file(policy, tmp_path) -> Path:
    path = tmp_path / "policy.json"
    policy.save(path)
    return path


@pytest.fixture
def serve(policy_file, tmp_path) -> Iterator[Callable[..., TestClient]]:
    """Starts a service within this process: `serve(shadow=True)` returns a client of it."""
    with ExitStack() as running:

        def start(**settings: Any) -> TestClient:
            base = ServiceSettings(policy=policy_file, log=f"sqlite:///{tmp_path / 'log.db'}")
            app = create_app(replace(base, **settings))
            return running.enter_context(TestClient(app))

        yield start


def observations(*error_rates: float | None, age: float = 0.0) -> list[dict[str, Any]]:
    """Returns one canary observation a minute, the newest `age` seconds old."""
    newest = time.time() - age
    n = len(error_rates)
    return [
        {"timestamp": newest - 60.0 * (n - 1 - i), "error_rate": rate, "requests": 500}
        for i, rate in enumerate(error_rates)
    ]


@pytest.fixture
def rows() -> Callable[..., list[dict[str, Any]]]:
    return observations


@pytest.fixture
def ask(rows) -> Callable[..., dict[str, Any]]:
    """Asks about a rollout: `ask(client, 0.1, 0.5)` returns the answer."""

    def one(client: TestClient, *error_rates: float | None, **more: Any) -> dict[str, Any]:
        body = {"service": "shop", "observations": rows(*error_rates), **more}
        response = client.post("/v1/decide", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    return one


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


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that happens in another thread."""
    return wait_until
