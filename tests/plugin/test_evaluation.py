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

"""`oumi evaluate` on what `oumi train` left, called as Oumi calls it."""

import json
import shutil

import numpy as np
import pytest

from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.evaluation.evaluate import evaluate
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.encoder import encode_episodes

SAMPLE = {"count": 30, "seed": 4}


@pytest.fixture
def judge(oumi):
    from oumi_deploy.plugin.evaluation import deployment_policy

    def run(folder, *, num_samples=None, dataset_path=None, generate=SAMPLE, single=False):
        task = oumi.configs.EvaluationTaskParams(
            evaluation_backend="custom", task_name="deployment_policy", num_samples=num_samples
        )
        config = oumi.configs.EvaluationConfig(tasks=[task])
        config.model.model_name = str(folder)
        return deployment_policy(task, config, dataset_path, generate, single)

    return run


def saved(run) -> DeploymentPolicy:
    return DeploymentPolicy.load(run.folder / "deployment_policy_model.json")


@pytest.mark.parametrize(("kind", "dueling"), [("table", None), ("network", True)])
def test_both_exports_are_one_policy(train, judge, kind, dueling):
    changes = {} if dueling is None else {"model": {"model_kwargs": {"dueling": dueling}}}
    run = train(kind, changes)
    from oumi_deploy.plugin.evaluation import load_policy

    loaded = load_policy(run.folder / "pretrained")
    features = encode_episodes(saved(run).encoder.state, generate_sample(100, 9))
    features = np.concatenate([features, np.full((1, 4), np.nan)])
    expected = saved(run).q_values(features)
    np.testing.assert_allclose(loaded.q_values(features), expected, rtol=0, atol=1e-9)
    assert loaded.as_dict() == saved(run).as_dict()
    for single in (False, True):
        judged = evaluate(saved(run), generate_sample(30, 4), per_observation=single)["metrics"]
        figures = judge(run.folder / "pretrained", single=single)
        for name, metric in judged.items():
            assert figures.get(name) == (None if metric["value"] is None else metric["value"])


def test_num_samples_takes_the_first_episodes(train, judge):
    folder = train("table").folder / "pretrained"
    assert judge(folder, num_samples=12)["n_episodes"] == 12
    assert judge(folder, num_samples=100)["n_episodes"] == 30
    first = evaluate(saved_in(folder), generate_sample(30, 4).select(np.arange(12)))
    figures = judge(folder, num_samples=12)
    assert figures["accuracy"] == first["metrics"]["accuracy"]["value"]


def saved_in(folder) -> DeploymentPolicy:
    return DeploymentPolicy.load(folder.parent / "deployment_policy_model.json")


def test_a_folder_without_a_policy_is_refused_in_one_line(oumi, train, judge, tmp_path):
    whole = train("table").folder / "pretrained"
    folders = {name: tmp_path / name for name in ("weights", "config", "other", "gone", "half")}
    for name, folder in folders.items():
        if name != "gone":
            shutil.copytree(whole, folder)
    weights = (whole / "model.safetensors").read_bytes()
    (folders["weights"] / "model.safetensors").write_bytes(weights[:-10])
    (folders["config"] / "config.json").write_text("{")
    (folders["other"] / "config.json").write_text('{"model_type": "MLPEncoder"}')
    config = json.loads((whole / "config.json").read_text())
    del config["init_kwargs"]["built"]["encoder"]
    (folders["half"] / "config.json").write_text(json.dumps(config))
    for name, folder in folders.items():
        with pytest.raises(oumi.ConfigError) as refusal:
            judge(folder)
        message = str(refusal.value)
        assert "\n" not in message, name
        assert str(folder) in message or name == "half"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"generate": None}, "eval_kwargs: name an episode file as dataset_path"),
        ({"dataset_path": "nowhere.csv"}, "eval_kwargs: nowhere.csv"),
        ({"generate": {"count": 5}}, "eval_kwargs: generate.seed: None is not a whole number"),
        ({"generate": [5]}, "eval_kwargs: generate: expected names and values"),
    ],
    ids=str,
)
def test_episodes_that_cannot_be_had_are_refused_by_name(oumi, train, judge, source, says):
    folder = train("table", {"training": {"max_steps": 1}}).folder / "pretrained"
    with pytest.raises(oumi.ConfigError) as refusal:
        judge(folder, **source)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
