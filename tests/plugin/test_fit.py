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

"""A policy is trained on all releases and calibrated on folds of them, as `crossval` judges it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from oumi_deploy.cli.main import main
from oumi_deploy.episodes.generator import generate_episodes
from oumi_deploy.episodes.packed import Episodes, read_episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.table import write_frame
from oumi_deploy.evaluation.calibrate import cross_fit
from oumi_deploy.evaluation.evaluate import policy_answers
from oumi_deploy.evaluation.folds import assign_folds
from oumi_deploy.evaluation.seen_groups import group_digests
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.policy import DeploymentPolicy

CONFIG = {
    "model": {
        "model_name": "deployment:table",
        "load_pretrained_weights": False,
        "torch_dtype_str": "float32",
        "model_kwargs": {"bins": 3},
    },
    "data": {
        "train": {
            "datasets": [
                {
                    "dataset_name": "deployment_episodes",
                    "dataset_kwargs": {"generate": {"count": 80, "seed": 3}},
                }
            ]
        }
    },
    "training": {
        "trainer_type": "OUMI",
        "trainer_kwargs": {
            "trainer": "deployment",
            "state": ["error_rate.max", "memory_usage"],
            "calibration": {"range_margin": 0.5, "folds": 3},
        },
        "max_steps": 6,
        "learning_rate": 0.5,
        "save_steps": 0,
        "enable_tensorboard": False,
    },
}


def releases() -> Episodes:
    return generate_sample(80, 3)


@pytest.fixture
def config(oumi, tmp_path):
    """Reads the config, changed by overrides as on Oumi's command line."""
    from oumi_deploy.plugin.runs import load_train_config

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")

    def read(*overrides: str):
        folder = f"training.output_dir={tmp_path / 'run'}"
        return load_train_config(tmp_path / "config.yaml", [folder, *overrides])

    return read


def test_it_is_the_policy_of_all_and_the_calibration_of_folds_that_it_never_saw(config):
    from oumi_deploy.plugin.fit import fit
    from oumi_deploy.plugin.runs import train_policy

    episodes, seed = releases(), 4
    fitted = fit(config(), episodes, seed=seed)
    whole, _ = train_policy(config(), episodes)
    assert replace(fitted, calibration=None).as_dict() == whole.as_dict()
    folds = assign_folds(episodes.group_codes(), 3, seed)
    parts = [train_policy(config(), episodes.select(folds != fold))[0] for fold in range(3)]
    by_hand = cross_fit(parts, episodes, folds, PauseRules(range_margin=0.5), seed=seed)
    assert fitted.calibration.as_dict() == by_hand.as_dict()
    about = fitted.calibration.fitted_on
    assert (about["how"], about["n_folds"]) == ("cross-fitted", 3)
    assert about["n_good"] + about["n_bad"] == 80
    assert about["group_digests"] == group_digests(episodes)
    assert 0 <= about["brier"]["low"] <= about["brier"]["value"] <= about["brier"]["high"] <= 1
    # The config says three folds, and the command what it says goes first.
    assert fit(config(), episodes, 2, seed=seed).calibration.fitted_on["n_folds"] == 2


def test_crossval_judges_just_this_policy(config):
    from oumi_deploy.plugin.crossval import held_out_answers
    from oumi_deploy.plugin.fit import fit

    episodes = releases()
    folds = assign_folds(episodes.group_codes(), 2, 0)
    said = held_out_answers(config(), episodes, folds, seed=5, n_inner=3)
    rows = np.repeat(folds, episodes.canary_lengths)
    for fold in (0, 1):
        policy = fit(config(), episodes.select(folds != fold), 3, seed=5)
        expected = policy_answers(policy, episodes.select(folds == fold))
        for name in ("decision", "risk", "reasons"):
            np.testing.assert_array_equal(
                getattr(said, name)[rows == fold], getattr(expected, name), err_msg=name
            )


def test_oumi_train_calibrates_on_folds_where_the_config_says_so(oumi, config, tmp_path):
    from oumi_deploy.plugin.evaluation import load_policy
    from oumi_deploy.plugin.fit import fit

    asked = config("training.data_seed=5")
    asked.finalize_and_validate()
    oumi.set_random_seeds(asked.training.seed, asked.training.use_deterministic)
    oumi.train(asked)
    trained = DeploymentPolicy.load(tmp_path / "run" / "deployment_policy_model.json")
    expected = fit(asked, releases(), seed=5)
    assert trained.calibration is not None
    vetted = dict(trained.calibration.fitted_on)
    assert vetted.pop("vet")
    calibration = replace(trained.calibration, fitted_on=vetted)
    assert calibration.as_dict() == expected.calibration.as_dict()
    trained = replace(trained, calibration=calibration)
    assert replace(trained, metrics={}).as_dict() == replace(expected, metrics={}).as_dict()
    assert load_policy(tmp_path / "run" / "pretrained").as_dict() == trained.as_dict()


def test_a_validation_split_and_folds_are_not_both_meant(oumi, config, generated):
    from oumi.core.configs import DatasetParams

    asked = config()
    asked.data.validation.datasets = [DatasetParams(**generated(30, 2)["datasets"][0])]
    with pytest.raises(oumi.ConfigError, match=r"calibration\.folds has no effect where data\.val"):
        oumi.train(asked)


def test_what_folds_cannot_calibrate_is_left_uncalibrated_and_said(
    oumi, config, tmp_path, warned, monkeypatch
):
    from oumi_deploy.errors import DeployError

    def refuse(*_):
        raise DeployError("these releases are no worse where the policy expects more of ROLLBACK")

    monkeypatch.setattr("oumi_deploy.evaluation.calibrate.fit_map", refuse)
    oumi.train(config())
    assert any("stays uncalibrated: these releases are no worse" in line for line in warned)
    trained = DeploymentPolicy.load(tmp_path / "run" / "deployment_policy_model.json")
    assert trained.calibration is None


@pytest.fixture
def command(config, tmp_path):
    """The words of a `fit` that can be run in this process."""
    config()
    write_frame(generate_episodes(80, 3), tmp_path / "f.csv")
    words = ["fit", "-c", str(tmp_path / "config.yaml"), "--episodes", str(tmp_path / "f.csv")]
    return [*words, "--out", str(tmp_path / "policy.json")]


def test_the_command_writes_a_policy_that_decides(capsys, command, tmp_path):
    capsys.readouterr()
    assert main([*command, "--folds", "2", "training.max_steps=3"]) == 0
    said = capsys.readouterr().out
    assert "calibrated on 2 folds" in said
    assert "brier: 0." in said
    assert "outage" in said
    policy = DeploymentPolicy.load(tmp_path / "policy.json")
    answer = policy.decide([{"error_rate": 0.001, "memory_usage": 0.5, "requests": 500}])
    assert answer.calibrated
    # All of them are releases that it was trained on, and the report says so.
    report = ["report", "--policy", str(tmp_path / "policy.json"), "--no-baselines"]
    report += ["--episodes", str(tmp_path / "f.csv"), "--out", str(tmp_path / "report.html")]
    assert main(report) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "All 80 episodes are of groups that this policy was trained on" in page
    assert "each judged by policies like it that never saw the group" in page


def test_without_groups_each_release_is_known_again(capsys, command, tmp_path):
    file = tmp_path / "f.csv"
    pd.read_csv(file).drop(columns="group").to_csv(file, index=False)
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["fitted_on"]["n_groups"] == 80
    assert "vet" in told["fitted_on"]
    some = read_episodes(file).select(np.arange(7))
    policy = DeploymentPolicy.load(tmp_path / "policy.json")
    assert set(group_digests(some) or ()) <= set(policy.training_data["group_digests"])
    # Nor can what it was trained on calibrate it.
    again = ["calibrate", "--policy", str(tmp_path / "policy.json"), "--episodes", str(file)]
    assert main([*again, "--out", str(tmp_path / "again.json")]) == 2
    assert "80 are of groups that it was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--folds", "1"], "--folds 1: "),
        (["--folds", "900"], "--folds 900: "),
        (["training.trainer_kwargs.calibration={alpha: 0.1}"], "calibration.alpha: a bound on fal"),
        (["training.trainer_kwargs.fomr=single"], "unknown setting fomr"),
        (["--guardrails", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_it_is_trained(
    capsys, monkeypatch, command, tmp_path, more, says
):
    trained = []
    if "fomr" not in says:
        monkeypatch.setattr("oumi_deploy.plugin.runs.train_policy", trained.append)
    capsys.readouterr()
    assert main([*command, *more]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("oumi-deploy fit: ")
    assert says in said
    assert not trained
    assert not (tmp_path / "policy.json").exists()


def test_one_bad_group_cannot_be_left_out(capsys, command, tmp_path):
    file = tmp_path / "f.csv"
    frame = pd.read_csv(file)
    bad = frame["label"] == "bad"
    frame.loc[bad, "label"] = "good"
    frame.loc[frame["group"] == frame.loc[bad, "group"].iloc[0], "label"] = "bad"
    frame.to_csv(file, index=False)
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "calibration.folds 3: without one of the folds, training needs good and bad" in said


def test_guardrails_are_kept_in_the_policy_and_counted_on_all_folds(capsys, command, tmp_path):
    guardrails = tmp_path / "limits.yaml"
    guardrails.write_text(
        "limits:\n  - {metric: error_rate, above: 0.2, answer: ROLLBACK}\n", encoding="utf-8"
    )
    assert main([*command, "--guardrails", str(guardrails), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    episodes = read_episodes(tmp_path / "f.csv")
    fired = sum(
        map(sum, (told["fitted_on"]["guardrails"][f"fired_on_{k}"] for k in ("good", "bad")))
    )
    assert 0 < fired <= len(episodes)
    policy = DeploymentPolicy.load(tmp_path / "policy.json")
    worst = {"error_rate": 0.9, "memory_usage": 0.5, "requests": 500}
    assert policy.decide([worst]).decision == "ROLLBACK"
    assert [rail.metric for rail in policy.guardrails.rails] == ["error_rate"]


def test_a_configs_guardrails_are_kept_and_what_no_release_reports_is_left_out(
    oumi, config, generated, caplog, tmp_path
):
    from oumi.core.configs import DatasetParams

    from oumi_deploy.plugin.fit import fit
    from oumi_deploy.policy.guardrails import read_guardrails

    limits = [{"metric": name, "above": 0.5, "answer": "PAUSE"} for name in ("error_rate", "queue")]
    rails = {"limits": limits}
    asked = config()
    asked.training.trainer_kwargs["calibration"]["guardrails"] = rails
    fitted = fit(asked, releases())
    assert fitted.guardrails.names == ("error_rate above 0.5",)
    assert fitted.calibration.fitted_on["guardrails"]["fired_on_good"] is not None
    said = "calibration.guardrails: queue above 0.5: left out, for no release here reports queue"
    assert said in caplog.text
    # Those of a file stand in their place.
    own = read_guardrails({"present": [{"metric": "memory_usage"}]})
    assert fit(asked, releases(), guardrails=own).guardrails == own
    # `oumi train` keeps them too, with folds or a validation split.
    oumi.train(asked)
    assert policy_of(tmp_path).guardrails == fitted.guardrails
    del asked.training.trainer_kwargs["calibration"]["folds"]
    asked.data.validation.datasets = [DatasetParams(**generated(60, 9)["datasets"][0])]
    asked.training.output_dir = str(tmp_path / "other")
    oumi.train(asked)
    assert policy_of(tmp_path, "other").guardrails == fitted.guardrails


def policy_of(folder, run="run") -> DeploymentPolicy:
    return DeploymentPolicy.load(folder / run / "deployment_policy_model.json")


def test_nothing_is_overwritten_unasked(capsys, command, tmp_path):
    (tmp_path / "policy.json").write_text("mine", encoding="utf-8")
    assert main(command) == 2
    assert "policy.json" in capsys.readouterr().err
    assert (tmp_path / "policy.json").read_text(encoding="utf-8") == "mine"
