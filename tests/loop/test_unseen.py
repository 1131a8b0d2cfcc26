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
"""Nothing that a policy was trained or calibrated on judges it."""

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.episodes.packed import read_episodes
from oumi_deploy.episodes.table import read_frame, write_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.seen_groups import group_digests
from oumi_deploy.loop.night import learn
from oumi_deploy.policy.calibration import Calibration


def calibrated_on(**about) -> Calibration:
    return Calibration(0.0, 1.0, fitted_on=about)


@pytest.mark.parametrize("how", ["trained", "calibrated"])
@pytest.mark.parametrize("known_by", ["fingerprint", "groups"])
def test_a_champion_that_knows_the_trusted_groups_begins_nothing(
    tmp_path, not_begun, policy_on, capsys, how, known_by
):
    # One release that nobody labelled: a fingerprint is of the whole file.
    frame = read_frame(not_begun.path / "trusted.csv")
    frame.loc[frame["episode_id"] == "t0", "label"] = None
    write_frame(frame, not_begun.path / "trusted.csv", overwrite=True)
    trusted = read_episodes(not_begun.path / "trusted.csv")
    if known_by == "fingerprint":
        about, n_known = {"fingerprint": trusted.fingerprint(), "group_digests": None}, 30
    else:
        about, n_known = {"group_digests": group_digests(trusted.select(np.arange(7)))}, 7
    changes = (
        {"training_data": about} if how == "trained" else {"calibration": calibrated_on(**about)}
    )
    policy_on("error_rate", **changes).save(tmp_path / "knowing.json")
    begins = ["learn", "--loop", str(not_begun.path), "--init"]
    assert main([*begins, "--policy", str(tmp_path / "knowing.json")]) == 2
    told = capsys.readouterr().err
    assert f"{how} on {n_known} of the 30 releases" in told
    assert "knowing.json" in told
    assert "trusted.csv" in told
    assert told.count("\n") == 1
    assert not not_begun.is_begun


def test_nothing_that_was_trained_on_judges(loop, make_log, drifted_log, trains, policy_on):
    trusted = read_episodes(loop.path / "trusted.csv")
    taught = {"group_digests": group_digests(trusted), "fingerprint": ""}
    trains(policy_on("memory_usage", training_data=taught))
    with pytest.raises(DeployError, match="trained"):
        learn(loop, make_log(drifted_log()))
    assert loop.champion == 1


def held_out(report) -> int:
    return report["figures"]["new"]["n_releases"]


def test_new_groups_that_the_champion_was_calibrated_on_do_not_judge(
    loop, make_log, drifted_log, trains, policy_on, make_episodes
):
    """It was calibrated on an export of the same log before the loop began."""
    trains(policy_on("memory_usage"))
    log = make_log(drifted_log())
    before = learn(loop, log, dry_run=True)
    policy_file = loop.version(1) / "policy.json"
    known = group_digests(
        make_episodes(*({"error_rate": 0.1, "group": f"group-{n}"} for n in range(0, 80, 2)))
    )
    policy_on("error_rate", calibration=calibrated_on(group_digests=known)).save(policy_file)
    assert held_out(learn(loop, log, dry_run=True)) < held_out(before)


@pytest.mark.parametrize("who", ["champion", "challenger"])
@pytest.mark.parametrize(
    ("digests", "n_groups"),
    [(None, 20_001), ([], 30), (["0" * 12], 30)],
    ids=["too many", "none has a name", "one has a name"],
)
def test_new_groups_do_not_promote_where_the_groups_that_taught_are_not_listed(
    loop, make_log, drifted_log, trains, policy_on, who, digests, n_groups
):
    """Any new group may be among them."""
    untold = {"fingerprint": "of many", "n_groups": n_groups, "group_digests": digests}
    if who == "champion":
        policy_file = loop.version(1) / "policy.json"
        policy_on("error_rate", training_data=untold).save(policy_file)
    trains(policy_on("memory_usage", **{"training_data": untold} if who == "challenger" else {}))
    report = learn(loop, make_log(drifted_log()))
    assert report["outcome"] == "kept"
    assert (
        "version 1" in report["reason"] if who == "champion" else "challenger" in report["reason"]
    )
    assert "not list" in report["reason"]
    # They are reported, and what decides is the trusted file alone.
    assert report["figures"]["new"]["gain"]["lower_bound"] > 0
    assert report["figures"]["together"] == report["figures"]["trusted"]


def test_the_beginning_says_that_new_groups_will_not_count(tmp_path, not_begun, policy_on, capsys):
    old = replace(policy_on("error_rate"), calibration=calibrated_on(fingerprint="of others"))
    old.save(tmp_path / "old.json")
    begins = ["learn", "--loop", str(not_begun.path), "--init"]
    assert main([*begins, "--policy", str(tmp_path / "old.json")]) == 0
    assert "new releases will not count" in capsys.readouterr().out
