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
"""The way back: what a person undid stays undone until a person says otherwise."""

import json
import os

import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.loop.champion import go_back
from oumi_deploy.loop.night import learn
from oumi_deploy.serving.policies import PolicyFile


@pytest.fixture
def promoted(loop, make_log, drifted_log, trains, policy_on):
    """A loop whose second version is champion, and the log that made it so."""
    trains(policy_on("memory_usage"))
    log = make_log(drifted_log())
    assert learn(loop, log)["outcome"] == "promoted"
    return loop, log


def says(loop, *words: str) -> int:
    return main(["learn", "--loop", str(loop.path), *words])


def test_one_command_goes_back(promoted, capsys):
    loop, _ = promoted
    served = PolicyFile(loop.path / "policy.json")
    assert says(loop, "--back") == 0
    assert "--resume" in capsys.readouterr().out
    assert served.refresh()
    assert served.current.policy.encoder.metrics[0] == "error_rate"
    assert loop.history()[-1]["event"] == "back"
    assert loop.history()[-1]["champion"] == 1
    assert says(loop, "--back") == 2
    assert "first" in capsys.readouterr().err


def test_what_was_undone_is_not_promoted_again_until_a_person_says_so(promoted, capsys):
    loop, log = promoted
    says(loop, "--back")
    dry = learn(loop, log, dry_run=True)
    assert (dry["outcome"], dry["champion"]) == ("kept", 1)
    assert "--resume" in dry["reason"]
    held = learn(loop, log)
    assert (held["outcome"], loop.champion) == ("kept", 1)
    # What it would have come to is told all the same.
    assert held["figures"]["together"]["gain"]["lower_bound"] > 0
    assert "above 0" in held["reason"]
    assert says(loop, "--resume") == 0
    assert loop.history()[-1]["event"] == "resumed"
    assert loop.champion == 1
    assert learn(loop, log)["outcome"] == "promoted"
    capsys.readouterr()
    assert says(loop, "--resume") == 2
    assert "not held" in capsys.readouterr().err


def test_the_hold_is_part_of_the_history(promoted, capsys):
    loop, _ = promoted
    says(loop, "--back")
    says(loop, "--resume")
    capsys.readouterr()
    assert says(loop, "--history", "--json") == 0
    events = [line["event"] for line in json.loads(capsys.readouterr().out)]
    assert events == ["begun", "promoted", "back", "resumed"]


def test_whoever_is_interrupted_on_the_way_back_promotes_nothing(promoted, monkeypatch):
    """Killed at any change to the folder: once another is champion, promotions are held."""
    loop, log = promoted
    replace, n_done, kill_at = os.replace, 0, 0

    def killed(*args, **kwargs):
        nonlocal n_done
        if n_done == kill_at:
            raise KeyboardInterrupt
        n_done += 1
        return replace(*args, **kwargs)

    interrupted = True
    while interrupted:
        n_done = 0
        monkeypatch.setattr(os, "replace", killed)
        try:
            go_back(loop)
            interrupted = False
        except KeyboardInterrupt:
            assert loop.champion == 2 or loop.is_held
        finally:
            monkeypatch.setattr(os, "replace", replace)
        kill_at += 1
    assert kill_at > 2
    assert loop.champion == 1
    assert learn(loop, log)["outcome"] == "kept"
