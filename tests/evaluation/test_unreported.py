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

"""What a policy was taught and a file never reports is said, wherever the file is judged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.episodes.generator import generate_episodes
from oumi_deploy.episodes.packed import episodes_of_frame
from oumi_deploy.episodes.table import write_frame
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards

STATE = ("error_rate", "error_rate.control", "cpu_usage.baseline")
ABSENT = "error_rate.control, cpu_usage.baseline"


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    return generate_episodes(60, 1)


@pytest.fixture
def policy_file(whole, tmp_path) -> Path:
    """Rolls back from an error rate of 0.1 on, and does without the rest."""
    bins = [np.array([0.1]), np.array([0.0]), np.array([0.0])]
    table = np.repeat([[50.0, -50.0], [-150.0, 100.0], [20.0, -30.0]], 9, axis=0)
    policy = DeploymentPolicy(
        fit_encoder(STATE, episodes_of_frame(whole)),
        TableQ(bins, table, np.ones((27, 2))),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={"fingerprint": "of others", "n_groups": 7, "group_digests": []},
        metrics={},
        calibration=Calibration(0.0, 1.0),
    )
    policy.save(tmp_path / "policy.json")
    return tmp_path / "policy.json"


@pytest.fixture
def least(whole, tmp_path) -> Path:
    """The least that is useful: no baseline, and nothing of the old version."""
    frame = whole.loc[whole["phase"] == "canary", ["episode_id", "step", "label", "error_rate"]]
    write_frame(frame.assign(cpu_usage=whole["cpu_usage"]), tmp_path / "least.csv")
    return tmp_path / "least.csv"


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate"],
        ["calibrate", "--out", "{}/out.json"],
        ["report", "--no-baselines", "--out", "{}/report.html"],
        ["report", "--folds", "2", "--out", "{}/report.html"],
    ],
    ids=" ".join,
)
def test_each_command_judges_by_what_there_is_and_names_the_rest(
    command, policy_file, least, whole, tmp_path, caplog
):
    files = ["--policy", str(policy_file), "--episodes"]
    words = [command[0], *(word.format(tmp_path) for word in command[1:])]
    assert main([*words, *files, str(least)]) == 0
    page = tmp_path / "report.html"
    at = "never report what it was taught: " if page.exists() else "no value of "
    said = page.read_text(encoding="utf-8") if page.exists() else caplog.text
    assert at + ABSENT in said
    write_frame(whole, tmp_path / "whole.csv")
    caplog.clear()
    assert main([*words, *files, str(tmp_path / "whole.csv"), "--overwrite"]) == 0
    said = page.read_text(encoding="utf-8") if page.exists() else caplog.text
    assert at not in said


def test_a_file_with_nothing_to_decide_by_is_refused(policy_file, tmp_path, capsys):
    nothing = tmp_path / "nothing.csv"
    nothing.write_text("episode_id,step,label,requests,control_error_rate\na,0,bad,9,0.1\n")
    judge = ["evaluate", "--policy", str(policy_file), "--episodes", str(nothing)]
    assert main(judge) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no column error_rate or cpu_usage; they have control_error_rate, requests, step" in line
