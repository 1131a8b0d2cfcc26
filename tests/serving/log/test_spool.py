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
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import DecisionEntry, LogUnavailable, OutcomeEntry
from oumi_deploy.serving.log.spool import Spool
from oumi_deploy.serving.log.writer import DecisionLog

Decision = Callable[..., DecisionEntry]
Until = Callable[[Callable[[], bool]], None]
Outcome = Callable[..., OutcomeEntry]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps everybody else from writing to an SQLite database."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def ids(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT id FROM decisions ORDER BY seq").fetchall()
    connection.close()
    return [id for (id,) in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    DecisionLog.open(f"sqlite:///{tmp_path / 'log.db'}").close()
    return tmp_path / "log.db"


def test_a_locked_database_refuses_in_time_and_writes_nothing_later(
    path: Path, decision: Decision, until: Until
) -> None:
    log = DecisionLog.open(f"sqlite:///{path}", wait=0.3)
    refused, kept = decision(), decision()
    with locked(path):
        start = time.monotonic()
        with pytest.raises(LogUnavailable, match="locked"):
            asyncio.run(log.record(refused))
        assert time.monotonic() - start < 2
        assert not log.state()["writable"]
        assert "locked" in log.state()["error"]
    until(lambda: log.state()["writable"])
    asyncio.run(log.record(kept))
    log.close()
    assert ids(path) == [kept.id]


def test_a_short_lock_is_waited_for(path: Path, decision: Decision) -> None:
    log = DecisionLog.open(f"sqlite:///{path}", wait=5)
    entry = decision()

    async def write() -> None:
        with locked(path):
            task = asyncio.create_task(log.record(entry))
            await asyncio.sleep(0.3)
            assert not task.done()
        assert await task == entry

    asyncio.run(write())
    log.close()


def test_what_is_spooled_reaches_the_database_once_and_in_order(
    path: Path, tmp_path: Path, decision: Decision, outcome: Outcome, until: Until
) -> None:
    log = DecisionLog.open(f"sqlite:///{path}", spool=tmp_path / "spool", wait=0.2)
    entries = [decision() for _ in range(4)]
    chained = decision(base=entries[0].id, kept=1)
    report = outcome()
    with locked(path):
        for entry in [*entries, chained]:
            assert asyncio.run(log.record(entry)) == entry
        assert asyncio.run(log.record(replace(chained, decision="PAUSE"))) == chained
        assert asyncio.run(log.record_outcome(report))
        assert not asyncio.run(log.record_outcome(report))
        assert log.state()["spooled"] == 6
        assert not log.state()["writable"]
    until(lambda: log.state()["writable"] and not log.state()["spooled"])
    after = decision()
    asyncio.run(log.record(after))
    log.close()
    assert ids(path) == [e.id for e in [*entries, chained, after]]
    assert os.path.getsize(tmp_path / "spool") == 0


def test_while_away_the_spool_answers_at_once(
    path: Path, tmp_path: Path, decision: Decision
) -> None:
    log = DecisionLog.open(f"sqlite:///{path}", spool=tmp_path / "spool", wait=2.0)
    with locked(path):
        asyncio.run(log.record(decision()))
        # Looks whether the lock is gone, which fall into this time, hold nobody up either.
        slowest, end = 0.0, time.monotonic() + 1.5
        while (start := time.monotonic()) < end:
            asyncio.run(log.record(decision()))
            slowest = max(slowest, time.monotonic() - start)
        assert slowest < 0.8
    log.close()


def test_what_is_spooled_outlives_the_process(
    path: Path, tmp_path: Path, decision: Decision, until: Until
) -> None:
    spool, entry = tmp_path / "spool", decision()
    log = DecisionLog.open(f"sqlite:///{path}", spool=spool, wait=0.1)
    with locked(path):
        asyncio.run(log.record(entry))
        log.close()
        log = DecisionLog.open(f"sqlite:///{path}", spool=spool, wait=0.1)
        assert log.state()["spooled"] == 1
    until(lambda: not log.state()["spooled"])
    log.close()
    assert ids(path) == [entry.id]


def test_a_line_that_a_crash_tore_is_set_aside(
    path: Path, tmp_path: Path, decision: Decision, until: Until
) -> None:
    spool, first, second = tmp_path / "spool", decision(), decision()
    with contextlib.closing(Spool(spool)) as waiting:
        waiting.add([first, second])
    whole = spool.read_bytes()
    lines = whole.splitlines(keepends=True)
    spool.write_bytes(lines[0] + b'{"kind": "decision"}\n' + lines[1] + lines[0][:100])
    log = DecisionLog.open(f"sqlite:///{path}", spool=spool)
    until(lambda: not log.state()["spooled"])
    third = decision()
    asyncio.run(log.record(third))
    log.close()
    assert ids(path) == [first.id, second.id, third.id]
    damaged = (tmp_path / "spool.damaged").read_bytes()
    assert damaged == b'{"kind": "decision"}\n' + lines[0][:100] + b"\n"


def test_a_torn_line_does_not_run_into_the_next(tmp_path: Path, decision: Decision) -> None:
    first, second = decision(), decision()
    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        waiting.add([first])
    with (tmp_path / "spool").open("ab") as file:
        file.write(b'{"kind": "dec' + b"-" * 10_000)
    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        waiting.add([second])
    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        assert waiting.first(9) == [first, second]
    # Nothing of it was left behind the second entry, to be found torn again.
    assert len((tmp_path / "spool.damaged").read_bytes().splitlines()) == 1


def test_what_was_moved_before_a_crash_is_not_moved_twice(
    path: Path, tmp_path: Path, decision: Decision, until: Until
) -> None:
    entry = decision()
    log = DecisionLog.open(f"sqlite:///{path}")
    asyncio.run(log.record(entry))
    log.close()
    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        waiting.add([entry])
    log = DecisionLog.open(f"sqlite:///{path}", spool=tmp_path / "spool")
    until(lambda: not log.state()["spooled"])
    log.close()
    assert ids(path) == [entry.id]


def test_an_entry_that_the_database_refuses_leaves_the_spool_for_a_person(
    path: Path, tmp_path: Path, decision: Decision, until: Until
) -> None:
    orphan, entry = decision(base="0" * 32), decision()
    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        waiting.add([orphan, entry])
    log = DecisionLog.open(f"sqlite:///{path}", spool=tmp_path / "spool")
    until(lambda: not log.state()["spooled"])
    log.close()
    assert ids(path) == [entry.id]
    assert json.loads((tmp_path / "spool.damaged").read_text())["id"] == orphan.id


def test_a_spool_belongs_to_one_log(path: Path, tmp_path: Path) -> None:
    log = DecisionLog.open(f"sqlite:///{path}", spool=tmp_path / "spool")
    with pytest.raises(DeployError, match="another process"):
        DecisionLog.open(f"sqlite:///{path}", spool=tmp_path / "spool")
    log.close()


def test_a_full_disk_leaves_the_spool_as_it_was(
    tmp_path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = decision(), decision(), decision()
    write = os.pwrite

    def fill(file: int, data: bytes, start: int) -> int:
        if start > full_at:
            raise OSError(28, "No space left on device")
        return write(file, bytes(data)[: full_at + 1 - start], start)

    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        waiting.add([first])
        full_at = os.path.getsize(tmp_path / "spool") + 50
        monkeypatch.setattr(os, "pwrite", fill)
        with pytest.raises(LogUnavailable, match="No space left"):
            waiting.add([second])
        monkeypatch.undo()
        waiting.add([third])
    with contextlib.closing(Spool(tmp_path / "spool")) as waiting:
        assert waiting.first(9) == [first, third]


def test_what_an_older_version_kept_is_read(tmp_path: Path, decision: Decision) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    kept = decision()
    spool.add([kept])
    spool.close()
    line = json.loads(spool.path.read_text())
    for newer in ("suspects", "notes"):
        del line[newer]
    spool.path.write_text(json.dumps(line) + "\n")
    again = Spool(spool.path)
    assert again.first(10) == [kept]
    again.close()
