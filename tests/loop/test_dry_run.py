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
"""A dry run says what would happen, and writes nothing."""

import contextlib
import os
import signal
import sqlite3
import tempfile
from pathlib import Path

import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.loop.night import learn
from oumi_deploy.serving.log.database import open_engine
from oumi_deploy.serving.log.migrate import HEAD, migrate, revision_of


def files(folder: Path) -> dict[str, bytes | str]:
    """Returns what a folder holds, with where its links lead."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    } | {str(path): "" for path in folder.rglob("*") if path.is_dir()}


@pytest.fixture
def everything(tmp_path, monkeypatch) -> Path:
    """Folder of the loop, of the log, of what is at hand and of what is passing."""
    for name in ("at hand", "passing"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "at hand")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "passing"))
    return tmp_path


def make_older_log(path: Path) -> str:
    """Makes a log of the first version of the program, with nothing in it."""
    url = f"sqlite:///{path}"
    engine = open_engine(url, wait=2)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        migrate(connection, "0001")
    engine.dispose()
    return url


def test_a_dry_run_says_the_same_and_writes_nothing(
    loop, make_log, drifted_log, trains, policy_on, everything
):
    trains(policy_on("memory_usage"))
    log = make_log(drifted_log())
    before = files(everything)
    dry = learn(loop, log, dry_run=True)
    assert files(everything) == before
    assert loop.champion == 1
    wet = learn(loop, log)
    for name in ("outcome", "reason", "figures", "data"):
        assert dry[name] == wet[name]


def test_a_dry_run_migrates_no_log(loop, everything, capsys):
    log = make_older_log(everything / "older.db")
    before = files(everything)
    words = ["learn", "--loop", str(loop.path), "--log", log]
    assert main([*words, "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "dry run" in told
    assert "0001" in told
    assert told.count("\n") == 1
    assert files(everything) == before
    # A night migrates it, and then a dry run can read it.
    assert main(words) == 0
    with open_engine(log, wait=2).connect() as connection:
        assert revision_of(connection) == HEAD
    assert main([*words, "--dry-run"]) == 0


def test_a_dry_run_tidies_up_after_no_service(
    loop, make_log, drifted_log, trains, policy_on, everything
):
    """One that was killed leaves a write-ahead log, which whoever comes next would take in."""
    trains(policy_on("memory_usage"))
    log = Path(make_log(drifted_log()).removeprefix("sqlite:///"))
    if not (child := os.fork()):
        connection = sqlite3.connect(log)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("UPDATE outcomes SET note = 'killed'")
        connection.commit()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = [log, log.with_name(f"{log.name}-wal")]
    before = [path.read_bytes() for path in left]
    assert len(before[1])
    learn(loop, f"sqlite:///{log}", dry_run=True)
    assert [path.read_bytes() for path in left] == before


def test_a_dry_run_makes_no_log(loop, everything, capsys):
    before = files(everything)
    words = ["--loop", str(loop.path), "--log", f"sqlite:///{everything / 'none.db'}"]
    assert main(["learn", *words, "--dry-run"]) == 2
    assert "none.db" in capsys.readouterr().err
    assert files(everything) == before


def test_a_dry_run_leaves_a_copy_of_a_log_as_it_is(
    loop, make_log, drifted_log, trains, policy_on, everything
):
    """A copy is not written ahead to, and to make it so would be to write to it."""
    trains(policy_on("memory_usage"))
    log, copy = make_log(drifted_log()), everything / "copy.db"
    with contextlib.closing(sqlite3.connect(log.removeprefix("sqlite:///"))) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    before = files(everything)
    assert learn(loop, f"sqlite:///{copy}", dry_run=True)["outcome"] == "promoted"
    assert files(everything) == before
