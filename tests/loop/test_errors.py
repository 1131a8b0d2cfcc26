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
"""What is wrong with a loop is told in one line, and nothing is lost by it."""

import errno
import fcntl
import json
import os
import sys

import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.loop import training


@pytest.fixture
def fails(capsys):
    """Runs `oumi-deploy learn`, which is to end with 2, and returns the line that it says."""

    def run(folder, *words: str) -> str:
        assert main(["learn", "--loop", str(folder), *words]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        return told

    return run


WRONG = {"at": [5, "today"], "policy_version": [7], "champion": ["1", True], "version": ["2"]}
"""What a line of the history may not say."""


def damaged_lines() -> list[str]:
    """Returns lines that are no events: each lacks one thing, or says it in a wrong way."""
    at = "2026-11-25T03:00:00+00:00"
    event = {"at": at, "event": "kept", "champion": 1, "policy_version": "a", "reason": "no better"}
    lacking = [{k: v for k, v in event.items() if k != name} for name in event]
    wrong = [{**event, name: value} for name, values in WRONG.items() for value in values]
    return ["{not JSON", '"a word"', "{}", "[]", *map(json.dumps, [*lacking, *wrong])]


@pytest.mark.parametrize("line", damaged_lines())
def test_a_broken_history_is_named_with_its_line(loop, fails, line):
    history = loop.path / "history.jsonl"
    before = history.read_text() + line + "\n"
    history.write_text(before)
    for words in (["--history"], ["--back"]):
        assert "history.jsonl, line 2" in fails(loop.path, *words)
    assert history.read_text() == before


def test_a_folder_that_is_not_there_has_no_history(tmp_path, fails):
    assert "nowhere" in fails(tmp_path / "nowhere", "--history")


def test_a_loop_that_is_not_begun_has_no_history(not_begun, fails):
    assert "no champion yet" in fails(not_begun.path, "--history")
    assert fails(not_begun.path, "--history") == fails(not_begun.path, "--back")


def test_a_champion_that_is_none_is_named(loop, fails):
    (loop.path / "champion").unlink()
    (loop.path / "champion").symlink_to("versions/first")
    assert "champion" in fails(loop.path, "--back")
    (loop.path / "champion").unlink()
    (loop.path / "champion").symlink_to("versions/7")
    assert "about.json" in fails(loop.path, "--back")


def test_a_folder_that_cannot_be_written_to_is_named(loop, make_log, drifted_log, fails):
    (loop.path / "work").write_text("in the way")
    log = make_log(drifted_log())
    assert str(loop.path / "work") in fails(loop.path, "--log", log)
    assert loop.champion == 1


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_that_knows_no_locks_is_named(loop, monkeypatch, fails, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = fails(loop.path, "--back")
    assert str(loop.path) in told
    assert os.strerror(number) in told
    assert "disk" in told


TRAININGS = {
    "Error: data.train: state: the episodes have no column requests; they have": """
print("Model Parameters Summary:", flush=True)
print("Error: data.train: state: the episodes have no column requests; they have \\ncpu_usage")
sys.exit(1)
""",
    "ended with 3: out of memory": "print('out of   memory'); sys.exit(3)",
    "ended with -9: it said nothing": "os.kill(os.getpid(), 9)",
    "left no policy": "",
}


@pytest.mark.parametrize("told", TRAININGS)
def test_a_training_that_fails_is_told_by_what_it_said(
    loop, make_log, drifted_log, tmp_path, monkeypatch, fails, told
):
    oumi = tmp_path / "oumi"
    oumi.write_text(f"#!{sys.executable}\nimport os, sys\n{TRAININGS[told]}")
    oumi.chmod(0o755)
    monkeypatch.setattr(training, "_oumi", lambda: str(oumi))
    said = fails(loop.path, "--log", make_log(drifted_log()))
    assert told in said
    assert "train.yaml" in said
    assert loop.champion == 1
    assert [line["event"] for line in loop.history()] == ["begun"]
