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
"""A night from the log to the champion, with training replaced by a policy made ahead."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.episodes.table import read_frame, write_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.loop.champion import begin, go_back
from oumi_deploy.loop.night import learn
from oumi_deploy.loop.releases import gather
from oumi_deploy.loop.settings import LoopSettings, read_settings
from oumi_deploy.loop.split import group_of
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.serving.log.export import export_episodes
from oumi_deploy.serving.policies import PolicyFile


def watched(policy: DeploymentPolicy) -> str:
    return policy.encoder.metrics[0]


def test_a_better_challenger_is_promoted_and_a_running_service_takes_it_up(
    loop, make_log, drifted_log, trains, policy_on
):
    served = PolicyFile(loop.path / "policy.json")
    trains(policy_on("memory_usage"))
    report = learn(loop, make_log(drifted_log()))
    assert report["outcome"] == "promoted"
    assert (report["champion"], report["parent"]) == (2, 1)
    assert served.refresh()
    assert watched(served.current.policy) == "memory_usage"
    about = loop.about(2)
    assert about["policy_version"] == served.current.version
    assert about["data"]["train"]["n_bad"] > 0
    assert about["figures"]["together"]["gain"]["lower_bound"] > 0
    assert [line["event"] for line in loop.history()] == ["begun", "promoted"]


def test_a_challenger_that_forgets_is_kept_but_not_promoted(
    loop, make_log, drifted_log, trains, policy_on
):
    trains(policy_on("latency"))
    log = make_log(drifted_log())
    with pytest.raises(DeployError, match="latency"):
        learn(loop, log)
    blind = policy_on("error_rate")
    blind.q_function.table[1] = blind.q_function.table[0] + [0.0, 1.0]
    trains(blind)
    report = learn(loop, log)
    assert report["outcome"] == "kept"
    assert loop.champion == 1
    assert loop.about(2)["reason"] == report["reason"] == loop.history()[-1]["reason"]


def test_labels_of_a_source_that_is_not_listed_teach_nothing(
    loop, make_log, drifted_log, trains, policy_on
):
    trains(policy_on("memory_usage"))
    report = learn(loop, make_log(drifted_log("other", lie=True)))
    assert report["outcome"] == "skipped"
    assert report["exported"]["n_untold"] == report["exported"]["n_releases"]
    assert report["data"]["train"]["n_releases"] == 0
    assert loop.champion == 1


def test_what_others_say_takes_no_trusted_label_away(
    loop, make_log, drifted_log, trains, policy_on
):
    trains(policy_on("memory_usage"))
    true = drifted_log()
    lies = [replace(o, at=o.at + 60) for o in drifted_log("other", lie=True) if hasattr(o, "label")]
    report = learn(loop, make_log([*true, *lies]))
    assert report["outcome"] == "promoted"
    assert report["exported"]["labelled_by"] == {"pipeline": 240}


def test_rolled_back_releases_that_few_reviewed_do_not_promote(
    loop, make_log, make_release, side, trains, policy_on
):
    """Good releases with errors were rolled back; that they were good, only reviews can tell."""
    trains(policy_on("memory_usage"))

    def log(review_one_in: int) -> str:
        entries, n_judged = [], 0
        for number in range(240):
            bad, stops = number % 3 == 0, number % 3 == 1
            label = f"pipeline {'bad' if bad else 'good'}"
            if stops:
                n_judged += side(number) == "judge"
                label = "review good" if n_judged % review_one_in == 0 else ""
            entries += make_release(
                number, bad, errors=0.9 if stops else 0.01, stops=stops, label=label
            )
        return make_log(entries)

    few = learn(loop, log(8), dry_run=True)
    assert few["outcome"] == "kept"
    assert few["figures"]["new"]["gain"]["lower_bound"] > 0
    assert "do not count" in few["reason"]
    assert few["waiting_for_review"]["rolled_back"]
    assert learn(loop, log(2), dry_run=True)["outcome"] == "promoted"


def test_what_the_champion_let_pass_does_not_calibrate_alone(
    loop, make_log, make_release, trains, policy_on
):
    """Without the bad releases that were rolled back, the others would make the risk too low."""
    trains(policy_on("memory_usage"))
    entries = []
    for number in range(240):
        bad, stops = number % 3 == 0, number % 6 == 0
        label = "" if stops else f"pipeline {'bad' if bad else 'good'}"
        entries += make_release(
            number, bad, errors=0.9 if stops else 0.01, stops=stops, label=label
        )
    log = make_log(entries)
    report = learn(loop, log)
    assert report["outcome"] == "skipped"
    assert "reviewed" in report["reason"]
    write_frame(
        read_frame(loop.path / "trusted.csv").assign(
            group=lambda rows: "fixed " + rows["group"].astype(str)
        ),
        loop.path / "fixed.csv",
    )
    settings = loop.path / "loop.toml"
    settings.write_text(settings.read_text() + 'calibration_episodes = "fixed.csv"\n')
    report = learn(loop, log, dry_run=True)
    assert report["data"]["calibrate"]["n_releases"] == 30


@pytest.mark.parametrize("has_groups", [True, False])
def test_nothing_that_is_calibrated_on_judges(loop, make_log, drifted_log, tmp_path, has_groups):
    """The fixed file to calibrate on may hold what the log holds too, by group or by id alone."""
    settings_file = loop.path / "loop.toml"
    plain, log = read_settings(loop.path), make_log(drifted_log())
    whole = tmp_path / "whole.csv"
    export_episodes(log, whole, group=lambda rollout: group_of(rollout, plain))
    rows = read_frame(whole)
    some = sorted(rows["group"].unique())[::2]
    fixed = rows.loc[rows["group"].isin(some)].reset_index(drop=True)
    fixed = fixed if has_groups else fixed.drop(columns="group")
    write_frame(fixed, loop.path / "fixed.csv")
    settings_file.write_text(settings_file.read_text() + 'calibration_episodes = "fixed.csv"\n')
    (tmp_path / "work").mkdir()
    dealt = gather(read_settings(loop.path), log, 0.0, tmp_path / "work")
    calibrated = set(dealt.calibrate.ids)
    assert calibrated >= set(fixed["episode_id"])
    for others in (dealt.judge, dealt.train):
        assert len(others)
        assert not calibrated & set(others.ids)
        assert not set(some) & set(others.groups)


@pytest.mark.parametrize("has_groups", [True, False])
def test_what_judges_may_not_calibrate(loop, make_log, drifted_log, tmp_path, has_groups):
    frame = read_frame(loop.path / "trusted.csv")
    fixed = frame if has_groups else frame.drop(columns="group")
    write_frame(fixed, loop.path / "fixed.csv")
    write_frame(fixed, loop.path / "trusted.csv", overwrite=True)
    settings_file = loop.path / "loop.toml"
    settings_file.write_text(settings_file.read_text() + 'calibration_episodes = "fixed.csv"\n')
    with pytest.raises(DeployError, match=r"share 30 groups or ids, t.* among them"):
        gather(read_settings(loop.path), make_log(drifted_log()), 0.0, tmp_path)


def test_an_empty_night_changes_nothing(loop, make_log):
    report = learn(loop, make_log([]))
    assert report["outcome"] == "skipped"
    assert loop.history()[-1]["event"] == "skipped"


def test_groups_may_not_change_sides(loop, make_log, drifted_log):
    settings = loop.path / "loop.toml"
    settings.write_text(settings.read_text() + "seed = 1\n")
    with pytest.raises(DeployError, match="seed"):
        learn(loop, make_log(drifted_log()))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("trusted_sources = ['reviews']", "review"),
        ("judge_share = 0.9", "judge_share"),
        ("recal_margin = 0.1", "recall_margin"),
        ("pauses = {pause_limits = 1}", "pause_limit"),
        ("least_reviewed = 0", "least_reviewed"),
        ("incident_sources = ['review']", "incident_sources"),
        ("incident_sources = ['incidents']", "incident"),
        ("window_days = true", "window_days"),
    ],
)
def test_a_wrong_setting_is_named(loop, capsys, line, told):
    settings = loop.path / "loop.toml"
    lines = [at for at in settings.read_text().splitlines() if line.split()[0] not in at]
    settings.write_text("\n".join([*lines, line]))
    assert main(["learn", "--loop", str(loop.path), "--log", "sqlite:///none.db"]) == 2
    assert told in capsys.readouterr().err


def test_the_settings_of_the_recipe_are_settings(tmp_path):
    recipe = Path(__file__).parents[2] / "recipes" / "loop"
    for name in ("loop.toml", "train.yaml"):
        (tmp_path / name).write_bytes((recipe / name).read_bytes())
    for name in ("trusted.parquet", "calibration.parquet"):
        (tmp_path / name).touch()
    settings = read_settings(tmp_path)
    defaults = LoopSettings(Path(), Path(), ("review",))
    # A pipeline may say `good` of whatever the policy let pass: who copies this has not said yet
    # that theirs waits.
    assert set(settings.trusted_sources) == {"review", "incident"}
    # What the recipe spells out are the defaults.
    for name in (
        "incident_sources",
        "group_by",
        "window_days",
        "recall_margin",
        "least_reviewed",
        "judge_share",
    ):
        assert getattr(settings, name) == getattr(defaults, name)


def test_an_uncalibrated_policy_begins_nothing(tmp_path, not_begun, policy_on):
    policy_on("error_rate", calibration=None).save(tmp_path / "bare.json")
    with pytest.raises(DeployError, match="not calibrated"):
        begin(not_begun, tmp_path / "bare.json", None)
    assert not not_begun.is_begun


def test_two_runs_are_kept_apart(loop, capsys):
    with loop.locked():
        command = [sys.executable, "-m", "oumi_deploy.cli.main", "learn", "--loop", str(loop.path)]
        done = subprocess.run([*command, "--back"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "another" in done.stderr
    with pytest.raises(DeployError, match="first"):
        go_back(loop)


def test_the_report_and_the_history_can_be_read(
    loop, make_log, drifted_log, trains, policy_on, capsys
):
    trains(policy_on("memory_usage"))
    learning = ["learn", "--loop", str(loop.path), "--log", make_log(drifted_log())]
    assert main(learning) == 0
    shown = capsys.readouterr().out
    assert "promoted" in shown
    assert "version 2 is champion" in shown
    assert main(["learn", "--loop", str(loop.path), "--history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["champion"] == 2


@pytest.mark.parametrize("how", ["variable", "option"])
def test_the_log_may_be_named_where_no_list_of_processes_shows_it(
    loop, make_log, drifted_log, tmp_path, monkeypatch, capsys, how
):
    """Its URL may hold a password; what the command line says comes first."""
    log, words = make_log(drifted_log()), []
    if how == "option":
        log, words = make_log([]), ["--log", log]
    monkeypatch.setenv("OUMI_DEPLOY_LOG", log)
    assert main(["export-log", "--out", str(tmp_path / "logged.csv"), *words]) == 0
    assert "240 rollouts" in capsys.readouterr().out
    # Nothing that counts is said in it: it is read and nothing is trained.
    settings = loop.path / "loop.toml"
    settings.write_text(settings.read_text().replace('"review", "pipeline"', '"review"'))
    assert main(["learn", "--loop", str(loop.path), "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["exported"]["n_releases"] == 240


def test_a_first_night_says_what_is_there_and_what_to_have_reviewed(
    loop, make_log, make_release, capsys
):
    """Incidents tell of bad releases; with the sources of the recipe nobody tells of good ones."""
    settings = loop.path / "loop.toml"
    settings.write_text(settings.read_text().replace('"review", "pipeline"', '"incident"'))
    entries = []
    for number in range(240):
        bad = number % 3 == 0
        label = "incident bad" if bad else "pipeline good"
        entries += make_release(number, bad, label=label)
    words = ["learn", "--loop", str(loop.path), "--log", make_log(entries), "--dry-run"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "have some that went on reviewed" in report["reason"]
    assert "rolled back" not in report["reason"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for side, name in (("train", "to train on"), ("judge", "held out"), ("trusted", "trusted")):
        part = report["data"][side]
        counted = f"{part['n_releases']} releases in {part['n_groups']} groups"
        assert any(name in said and counted in said for said in shown.split("; "))
    assert "trained on" not in shown
    assert "calibrated on" not in shown
