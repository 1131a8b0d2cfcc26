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

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from oumi_deploy.serving.log.entries import DecisionEntry, LogUnavailable
from oumi_deploy.serving.log.writer import DecisionLog

pytestmark = pytest.mark.real

Decision = Callable[..., DecisionEntry]
Until = Callable[[Callable[[], bool]], None]


def ids(url: str) -> set[str]:
    if url.startswith("sqlite"):
        found = sqlite3.connect(url.removeprefix("sqlite:///")).execute("SELECT id FROM decisions")
        listed = [id for (id,) in found]
    else:
        with psycopg.connect(url) as connection:
            listed = [id for (id,) in connection.execute("SELECT id FROM decisions")]
    assert len(set(listed)) == len(listed)
    return set(listed)


def test_a_server_that_is_down_refuses_and_is_used_again_once_it_is_back(
    postgresql: Any, decision: Decision, until: Until
) -> None:
    url = postgresql.fresh()
    log = DecisionLog.open(url, wait=0.5)
    before, refused, after = decision(), decision(), decision()
    asyncio.run(log.record(before))
    postgresql.stop()
    try:
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(LogUnavailable, match="not available"):
                asyncio.run(log.record(refused))
            assert time.monotonic() - start < 3
        with pytest.raises(LogUnavailable):
            log.latest(before.name)
    finally:
        postgresql.start()
    until(lambda: log.state()["writable"])
    asyncio.run(log.record(after))
    assert log.latest(after.name) == after
    log.close()
    assert ids(url) == {before.id, after.id}


def test_a_restart_is_waited_for(postgresql: Any, decision: Decision) -> None:
    url = postgresql.fresh()
    log = DecisionLog.open(url, wait=20)
    entries = [decision(), decision()]
    asyncio.run(log.record(entries[0]))
    postgresql.stop()
    recording = threading.Thread(target=lambda: asyncio.run(log.record(entries[1])))
    recording.start()
    time.sleep(0.5)
    postgresql.start()
    recording.join()
    log.close()
    assert ids(url) == {entry.id for entry in entries}


def test_a_service_that_starts_while_the_server_is_down_spools(
    postgresql: Any, tmp_path: Path, decision: Decision, until: Until
) -> None:
    url = postgresql.fresh()
    entries = [decision() for _ in range(3)]
    postgresql.stop()
    try:
        log = DecisionLog.open(url, spool=tmp_path / "spool", wait=0.5)
        for entry in entries:
            assert asyncio.run(log.record(entry)) == entry
        assert log.state() | {"error": None} == {
            "writable": False,
            "spooled": 3,
            "backend": "postgresql",
            "error": None,
        }
    finally:
        postgresql.start()
    until(lambda: not log.state()["spooled"])
    log.close()
    assert ids(url) == {entry.id for entry in entries}


@pytest.mark.parametrize("spooled", [False, True])
def test_a_server_that_does_not_answer_is_not_waited_for(
    postgresql: Any, tmp_path: Path, decision: Decision, spooled: bool, until: Until
) -> None:
    url = postgresql.fresh()
    log = DecisionLog.open(url, spool=tmp_path / "spool" if spooled else None, wait=0.5)
    first, second = decision(), decision()
    asyncio.run(log.record(first))
    with psycopg.connect(url) as connection:
        listed = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        ).fetchall()
    for (pid,) in listed:
        os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        if spooled:
            assert asyncio.run(log.record(second)) == second
        else:
            with pytest.raises(LogUnavailable):
                asyncio.run(log.record(second))
        assert time.monotonic() - start < 5
    finally:
        for (pid,) in listed:
            os.kill(pid, signal.SIGCONT)
    until(lambda: log.state()["writable"] and not log.state()["spooled"])
    log.close()
    assert ids(url) == ({first.id, second.id} if spooled else {first.id})


class CommitSwallower:
    """A line to PostgreSQL that breaks right after it has passed on a COMMIT."""

    def __init__(self, port: int):
        self.port, self.breaks, self.broken = port, False, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                commits = self.breaks and b"COMMIT\0" in data
                if commits:
                    # First the client's line, so that no answer slips through.
                    self.broken += 1
                    source.shutdown(socket.SHUT_RDWR)
                target.sendall(data)
                if commits:
                    time.sleep(0.2)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def swallower(postgresql: Any) -> Iterator[CommitSwallower]:
    line = CommitSwallower(postgresql.port)
    yield line
    line.close()


def test_a_commit_that_nobody_heard_of_is_withdrawn_where_the_caller_was_told_so(
    postgresql: Any, swallower: CommitSwallower, decision: Decision, until: Until
) -> None:
    direct = postgresql.fresh()
    log = DecisionLog.open(direct.replace(str(postgresql.port), str(swallower.own_port)), wait=0.3)
    before, lost = decision(), decision()
    asyncio.run(log.record(before))
    swallower.breaks = True
    with pytest.raises(LogUnavailable):
        asyncio.run(log.record(lost))
    assert swallower.broken
    assert lost.id in ids(direct), "the line broke too early for this test to show anything"
    swallower.breaks = False
    until(lambda: log.state()["writable"])
    assert ids(direct) == {before.id}
    assert asyncio.run(log.record(lost)) == lost
    log.close()
    assert ids(direct) == {before.id, lost.id}


def test_a_commit_that_nobody_heard_of_stays_where_another_was_told_of_it(
    postgresql: Any, swallower: CommitSwallower, decision: Decision, until: Until
) -> None:
    direct = postgresql.fresh()
    log = DecisionLog.open(direct.replace(str(postgresql.port), str(swallower.own_port)), wait=0.3)
    lost = decision()
    swallower.breaks = True
    with pytest.raises(LogUnavailable):
        asyncio.run(log.record(lost))
    another = DecisionLog.open(direct)
    assert asyncio.run(another.record(lost)) == lost
    another.close()
    swallower.breaks = False
    until(lambda: log.state()["writable"])
    log.close()
    assert ids(direct) == {lost.id}


def test_a_commit_that_nobody_heard_of_counts_once_with_a_spool(
    postgresql: Any, swallower: CommitSwallower, tmp_path: Path, decision: Decision, until: Until
) -> None:
    direct = postgresql.fresh()
    through = direct.replace(str(postgresql.port), str(swallower.own_port))
    log = DecisionLog.open(through, spool=tmp_path / "spool", wait=0.3)
    lost = decision()
    swallower.breaks = True
    assert asyncio.run(log.record(lost)) == lost
    swallower.breaks = False
    until(lambda: log.state()["writable"] and not log.state()["spooled"])
    log.close()
    assert ids(direct) == {lost.id}


RECORDING = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from oumi_deploy.serving.log.entries import DecisionEntry, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog

async def record(log, caller):
    base = None
    while True:
        entry = DecisionEntry(
            uuid4().hex, RolloutName("pay", "", "", str(caller)), 1.0, "api", "v", base, 0,
            [{"error_rate": 0.5}], False, "PAUSE", "PAUSE", "PAUSE", 1.0, False, False, 0.5, 0.5,
            {}, [],
        )
        await log.record(entry)
        sys.stdout.write(entry.id + "\\n")
        sys.stdout.flush()
        base = entry.id

async def main():
    log = DecisionLog.open(sys.argv[1], spool=Path(sys.argv[2]), wait=0.2)
    await asyncio.gather(*(record(log, caller) for caller in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("away", [False, True])
def test_what_was_acknowledged_outlives_being_killed(
    url: str, tmp_path: Path, away: bool, until: Until
) -> None:
    told: set[str] = set()
    spool = tmp_path / "spool"
    for turn in range(4):
        lock = _lock(url) if away and turn % 2 else None
        command = [sys.executable, "-c", RECORDING, url, str(spool)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            told.add(child.stdout.readline().strip())
            time.sleep(0.1 + 0.07 * turn)
            child.kill()
            told |= {line.strip() for line in child.stdout if line.endswith("\n")}
        if lock is not None:
            lock.close()
    log = DecisionLog.open(url, spool=spool)
    until(lambda: not log.state()["spooled"])
    log.close()
    # The child may have been killed before it could say so; nothing that it said may be missing.
    assert told <= ids(url)
    assert len(told) > 20


def _lock(url: str) -> Any:
    DecisionLog.open(url).close()
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        return connection
    connection = psycopg.connect(url)
    connection.execute("LOCK TABLE decisions, rollouts, outcomes IN ACCESS EXCLUSIVE MODE")
    return connection
