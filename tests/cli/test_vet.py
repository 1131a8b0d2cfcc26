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

"""`oumi-deploy vet` and who else tells what it says."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.cli.main import main
from oumi_deploy.policy.qfunctions import TableQ


def early(policy: DeploymentPolicy) -> DeploymentPolicy:
    """Returns a policy that rolls back from an error rate of 0.04 on, where another does later."""
    assert isinstance(policy.q_function, TableQ)
    q_function = replace(policy.q_function, edges=[np.array([0.04])])
    return replace(policy, q_function=q_function)


@pytest.fixture
def passing(error_policy, tmp_path) -> Path:
    early(error_policy).save(tmp_path / "passing.json")
    return tmp_path / "passing.json"


@pytest.fixture
def failing(error_policy, tmp_path) -> Path:
    error_policy.save(tmp_path / "failing.json")
    return tmp_path / "failing.json"


@pytest.fixture
def releases(tmp_path) -> Path:
    path = tmp_path / "releases.csv"
    lines = ["episode_id,step,group,error_rate,label"]
    for number in range(30):
        bad = number % 3 == 0
        rates = (0.5, 0.6) if bad else (0.01, 0.02)
        label = "bad" if bad else "good"
        lines += [f"e{number},{step},g{number},{rate},{label}" for step, rate in enumerate(rates)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_exit_status_tells_whether_a_case_fails(passing, failing, tmp_path, capsys):
    assert main(["vet", "--policy", str(passing)]) == 0
    assert "FAILS" not in capsys.readouterr().out
    assert main(["vet", "--policy", str(failing)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^tenfold errors that stay +FAILS", said, re.MULTILINE)
    assert "no ROLLBACK by look 3 of errors at 0.05" in said
    assert main(["vet", "--policy", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_is_one_object_with_the_likeness_where_it_was_asked_for(failing, releases, capsys):
    assert main(["vet", "--policy", str(failing), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["passes"] is False
    assert "likeness" not in told
    assert main(["vet", "--policy", str(failing), "--json", "--episodes", str(releases)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["likeness"]["n"] == 30
    assert told["likeness"]["verdict"]


def test_how_like_releases_are_does_not_change_the_status(passing, releases, tmp_path, capsys):
    assert main(["vet", "--policy", str(passing), "--episodes", str(releases)]) == 0
    assert "like its training data?" in capsys.readouterr().out
    other = tmp_path / "other.csv"
    other.write_text("episode_id,step,queue\na,0,3\n")
    assert main(["vet", "--policy", str(passing), "--episodes", str(other)]) == 2
    assert "error_rate" in capsys.readouterr().err


def test_calibrate_tells_the_vet_and_keeps_it(passing, failing, releases, tmp_path, capsys):
    for policy, passes in ((passing, True), (failing, False)):
        out = tmp_path / f"calibrated {passes}.json"
        command = ["calibrate", "--policy", str(policy), "--episodes", str(releases)]
        assert main([*command, "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert ("the policy passes its vet" in said) == passes
        assert ("fails its vet: tenfold errors that stay" in said) == (not passes)
        calibration = DeploymentPolicy.load(out).calibration
        assert calibration is not None
        assert calibration.fitted_on["vet"]["passes"] == passes


def test_an_old_file_is_said_to_be_old_beside_the_answer(
    error_policy, tmp_path, capsys, monkeypatch
):
    replace(error_policy, version=1).save(tmp_path / "old.json")
    error_policy.save(tmp_path / "new.json")
    for name, is_old in (("old.json", True), ("new.json", False)):
        monkeypatch.setattr("sys.stdin", io.StringIO('[{"error_rate": 0.01}]'))
        assert main(["decide", "--policy", str(tmp_path / name)]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["decision"] == "CONTINUE"
        assert said.err.count("oumi-deploy calibrate") == is_old
