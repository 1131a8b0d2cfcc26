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

"""Every config under configs/ is one that its Oumi command takes."""

from pathlib import Path

import pytest

from oumi_deploy.learning.settings import read_settings
from oumi_deploy.plugin.calibration import algorithm_kwargs, read_calibration_settings
from oumi_deploy.problem.rewards import Rewards

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = [str(path.relative_to(ROOT)) for path in CONFIGS]


def test_there_is_one_to_judge_each_training():
    folders = {path.parent.name for path in CONFIGS if path.name == "train.yaml"}
    assert folders >= {"quickstart", "tabular", "neural", "releases"}
    assert folders == {path.parent.name for path in CONFIGS if path.name == "eval.yaml"}
    assert {path.stem for path in CONFIGS} <= {"pretrain", "finetune", "train", "eval", "tune"}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_what_it_needs_and_how_it_is_run(name):
    lines = (ROOT / name).read_text().splitlines()
    header = "\n".join(lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])
    verb = {"eval": "evaluate", "tune": "tune"}.get(Path(name).stem, "train")
    assert f"#   oumi {verb} -c {name}" in header
    assert "#   export OUMI_EXTRA_DEPS_FILE=$(oumi-deploy plugin-file)" in header
    for title in ("# Requirements:", "# Usage:", "# See Also:"):
        assert title in header
    # What it points to is there.
    for line in header.splitlines():
        for word in line.replace(",", " ").split():
            if word.startswith("configs/") and word.endswith(".yaml"):
                assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_config_of_its_command(oumi, name):
    kind = {"eval": oumi.configs.EvaluationConfig, "tune": oumi.configs.TuningConfig}.get(
        Path(name).stem, oumi.configs.TrainingConfig
    )
    config = kind.from_yaml(str(ROOT / name))
    if Path(name).stem == "eval":
        (task,) = config.tasks
        assert task.task_name == "deployment_policy"
        assert set(task.eval_kwargs) == {"dataset_path", "generate", "per_observation"}
        train = oumi.configs.TrainingConfig.from_yaml(str((ROOT / name).with_name("train.yaml")))
        # It judges what the other trained, on releases that one never saw.
        assert config.model.model_name == f"{train.training.output_dir}/pretrained"
        seen = [
            dataset.dataset_kwargs.get("generate", {}).get("seed")
            for split in (train.data.train, train.data.validation)
            for dataset in split.datasets
        ]
        if task.eval_kwargs["generate"]:
            assert task.eval_kwargs["generate"]["seed"] not in seen
        return
    if Path(name).stem != "tune":
        config.finalize_and_validate()
        kwargs, folder = config.training.trainer_kwargs, config.training.output_dir
    else:
        kwargs = config.tuning.fixed_training_params["trainer_kwargs"]
        folder = config.tuning.output_dir
    assert str(folder).startswith("output/")
    # Every metric is named once, in the state.
    for dataset in config.data.train.datasets:
        assert "metrics" not in dataset.dataset_kwargs
    plain = dict(kwargs)
    assert plain.pop("trainer") == "deployment"
    read_calibration_settings(plain)
    plain.pop("calibration", None)
    settings = read_settings(plain, network=config.model.model_name != "deployment:table")
    assert settings.rewards == Rewards(100, 50, -200, -50, 2)
    assert 0.8 < settings.discount <= 1


def test_what_is_finetuned_is_what_was_pretrained(oumi):
    def config(name):
        return oumi.configs.TrainingConfig.from_yaml(str(ROOT / f"configs/releases/{name}.yaml"))

    first, then, alone = config("pretrain"), config("finetune"), config("train")
    assert then.model.model_name == f"{first.training.output_dir}/pretrained"
    assert then.training.output_dir == alone.training.output_dir
    # A small learning rate takes more outages to the same end.
    own = {"state", "calibration", "outage_share"}
    shared = [
        {k: v for k, v in c.training.trainer_kwargs.items() if k not in own}
        for c in (first, then, alone)
    ]
    assert shared[0] == shared[1] == shared[2]
    assert first.training.trainer_kwargs["state"] == alone.training.trainer_kwargs["state"]


def test_the_configs_are_the_forms_that_were_promised(oumi):
    def settings(name):
        config = oumi.configs.TrainingConfig.from_yaml(str(ROOT / f"configs/{name}/train.yaml"))
        plain = algorithm_kwargs(config.training.trainer_kwargs)
        network = config.model.model_name == "deployment:network"
        return network, read_settings(plain, network=network)

    network, quick = settings("quickstart")
    assert (network, quick.form, quick.experience) == (False, "single", "logged")
    assert quick.state == ("error_rate", "memory_usage", "cpu_usage", "health_score")
    for name, is_network in (("tabular", False), ("neural", True)):
        network, chosen = settings(name)
        assert (network, chosen.form) == (is_network, "sequential")
        assert any("." in feature for feature in chosen.state)


def test_a_search_over_trials_chooses_the_best(oumi, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    import pandas as pd
    from oumi.tune import tune

    monkeypatch.chdir(tmp_path)
    changes = [
        "tuning.n_trials=2",
        "tuning.fixed_training_params.max_steps=30",
        "data.train.datasets[0].dataset_kwargs.generate.count=80",
        "data.validation.datasets[0].dataset_kwargs.generate.count=40",
    ]
    path = str(ROOT / "configs" / "neural" / "tune.yaml")
    config = oumi.configs.TuningConfig.from_yaml_and_arg_list(path, changes)
    config.finalize_and_validate()
    oumi.set_random_seeds(42)
    tune(config)
    trials = pd.read_csv(tmp_path / "output" / "tune" / "trials_results.csv")
    assert len(trials) == 2
    assert (trials["state"] == "COMPLETE").all()
    assert trials["value"].between(-200, 100).all()
    assert trials["params_learning_rate"].between(1e-4, 1e-2).all()
    for number in (0, 1):
        left = tmp_path / "output" / "tune" / f"trial_{number}"
        assert (left / "deployment_policy_model.json").is_file()
