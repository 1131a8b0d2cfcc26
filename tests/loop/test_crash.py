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

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.loop.champion import begin
from oumi_deploy.loop.night import learn
from oumi_deploy.serving.policies import PolicyFile

SCRIPT = Path(__file__).with_name("killed_nights.py")


def test_a_crash_at_any_step_leaves_one_whole_champion(
    loop, make_log, drifted_log, policy_on, tmp_path, trains
):
    challenger = policy_on("memory_usage")
    challenger.save(tmp_path / "challenger.json")
    log, nights = make_log(drifted_log()), tmp_path / "nights"
    nights.mkdir()
    command = [sys.executable, SCRIPT, loop.path, log, tmp_path / "challenger.json", nights]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]

    steps = [line["step"] for line in told]
    assert {"gather", "train_challenger", "calibrate", "judge", "symlink"} <= set(steps)
    champions = [line["champion"] for line in told]
    # The first champion, up to one moment, and the second from then on.
    assert champions == sorted(champions)
    swap = champions.index(2) - 1
    assert steps[swap] == "replace"
    assert steps[swap - 1] == "symlink" or steps[swap - 1] == "replace"
    assert champions[-1] == 2
    assert all(line["history"] == line["champion"] for line in told)

    # What a killed night left is in nobody's way.
    trains(challenger)
    for number in (steps.index("judge"), swap):
        again = type(loop)(nights / str(number))
        assert learn(again, log)["outcome"] == "promoted"
        assert not list((again.path / "work").glob("*"))


def test_an_interrupted_beginning_is_begun_again_or_was_one(
    not_begun, tmp_path, monkeypatch, policy_on
):
    policy_on("error_rate").save(tmp_path / "first.json")
    change, n_left = os.replace, 0

    def interrupted(*args, **kwargs):
        nonlocal n_left
        if not n_left:
            raise KeyboardInterrupt
        n_left -= 1
        return change(*args, **kwargs)

    # Before the version is kept, before the service's link, before the champion's (the service's
    # is there from then on), and before the note.
    for kill_at in (0, 1, 2, 2):
        assert not not_begun.is_begun
        n_left = kill_at
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                begin(not_begun, tmp_path / "first.json", None)
    assert PolicyFile(not_begun.path / "policy.json").current.policy
    with pytest.raises(DeployError, match="champion already"):
        begin(not_begun, tmp_path / "first.json", None)
    assert not not_begun.history()
    not_begun.settle()
    assert not_begun.history()[-1]["champion"] == not_begun.champion
