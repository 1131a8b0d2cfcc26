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
"""A loop begins with a policy and the model that it was made of, and with no other model.

Training goes on from the model: were it another's, nobody would know what it was taught.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

import oumi_deploy.plugin.register  # noqa: F401  # first, as Oumi itself reads what it names
from oumi_deploy.cli.main import main
from oumi_deploy.plugin.models import DeploymentQNetwork, DeploymentQTable
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

ONE = np.ones(1)
NETWORKS = {
    "network": {"hidden_sizes": [3]},
    "dueling": {"hidden_sizes": [3, 2], "dueling": True},
    "ensemble": {"hidden_sizes": [3], "members": 11},
}


def trained(kind, *, seed=0, scale=1.0, fingerprint="ours"):
    """Returns a model as training leaves it."""
    state, worse = parse_state(["error_rate"]), {"error_rate": "higher"}
    encoder = StateEncoder(state, 0 * ONE, scale * ONE, 0 * ONE, ONE, worse)
    bounds = Bounds.of(Rewards(), 5)
    if kind == "table":
        model = DeploymentQTable(bins=2, edges={"error_rate": [0.5]})
        model.build(encoder, np.array([[0.1], [0.9]]), bounds)
        model.table.data[:] = seed
    else:
        model = DeploymentQNetwork(**NETWORKS[kind])
        model.build(encoder, bounds, 100.0, seed)
    model.describe(
        form="sequential",
        rewards=Rewards().as_dict(),
        discount=1.0,
        training_data={"fingerprint": fingerprint, "group_digests": ["0" * 12]},
        metrics={},
        calibration=None,
    )
    return model


@pytest.fixture
def begins(tmp_path, not_begun):
    """Begins the loop with the policy of one model and the folder of another."""

    def run(of_policy, of_folder) -> int:
        calibration = Calibration(0.0, 1.0, fitted_on={"group_digests": ["0" * 12]})
        policy = replace(of_policy.policy(), calibration=calibration)
        policy.save(tmp_path / "policy.json")
        of_folder.save_pretrained(tmp_path / "pretrained")
        words = ["--policy", str(tmp_path / "policy.json")]
        words += ["--pretrained", str(tmp_path / "pretrained")]
        return main(["learn", "--loop", str(not_begun.path), "--init", *words])

    return run


@pytest.mark.parametrize("kind", [*NETWORKS, "table"])
def test_a_policy_begins_with_its_own_model(begins, not_begun, kind):
    assert begins(trained(kind), trained(kind)) == 0
    assert (not_begun.version(1) / "pretrained" / "model.safetensors").is_file()


@pytest.mark.parametrize("kind", [*NETWORKS, "table"])
@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"fingerprint": "theirs"}, "different releases"),
        ({"scale": 2.0}, "states"),
        ({"seed": 1}, "weights"),
    ],
)
def test_it_does_not_begin_with_the_model_of_another_training(
    begins, not_begun, capsys, kind, other, told
):
    assert begins(trained(kind), trained(kind, **other)) == 2
    said = capsys.readouterr().err
    assert "policy.json" in said
    assert "pretrained" in said
    assert told in said
    assert said.count("\n") == 1
    assert not not_begun.is_begun


def test_nor_with_one_of_another_kind(begins, not_begun, capsys):
    assert begins(trained("table"), trained("network")) == 2
    assert "weights" in capsys.readouterr().err
    assert not not_begun.is_begun


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damaged", [None, b"{broken", json.dumps({"init_kwargs": 1}).encode()])
def test_what_is_no_saved_model_is_named(
    tmp_path, begins, not_begun, monkeypatch, capsys, name, damaged
):
    model = trained("network")
    save = model.save_pretrained

    def save_damaged(folder):
        save(folder)
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)

    monkeypatch.setattr(model, "save_pretrained", save_damaged)
    assert begins(model, model) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "pretrained") in said
    assert name in said
    assert said.count("\n") == 1
    assert not not_begun.is_begun
