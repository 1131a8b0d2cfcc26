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

"""The quick start as a newcomer runs it, and what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.bins import cells
from oumi_deploy.problem.encoder import encode_episodes
from oumi_deploy.problem.rewards import Rewards

METRICS = ("error_rate", "memory_usage", "cpu_usage", "health_score")


@pytest.fixture(scope="module")
def run(quickstart) -> Path:
    return quickstart.folder / "output" / "quickstart"


@pytest.fixture(scope="module")
def policy(run) -> DeploymentPolicy:
    return DeploymentPolicy.load(run / "deployment_policy_model.json")


@pytest.fixture(scope="module")
def sample():
    """What the quick start trains on."""
    return generate_sample(2000, 1)


def test_it_leaves_all_that_was_promised(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert names >= {
        "pretrained/config.json",
        "pretrained/model.safetensors",
        "deployment_policy_model.json",
        "learning_curve.json",
        "checkpoint-20",
        "checkpoint-20/trainer_state.json",
        "telemetry/training_config.yaml",
        "telemetry/telemetry_rank0000.json",
    }
    # Nothing half-written is left under a temporary name.
    assert not [name for name in names if name.split("/")[-1].startswith(".")]


def test_the_learning_curve_has_a_point_a_step(run):
    curve = json.loads((run / "learning_curve.json").read_text())
    assert [point["global_step"] for point in curve] == list(range(1, 21))
    assert {"train/loss", "learning_rate", "val/accuracy"} <= set(curve[-1])
    # Half of the way is gone at each step, so that the error halves.
    losses = [point["train/loss"] for point in curve]
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)
    assert curve[-1]["val/accuracy"] > 0.7


def test_tensorboard_can_read_the_figures(oumi, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("val/accuracy")]
    assert set(steps) == set(range(1, 21))


def test_both_exports_give_the_same_q_values(oumi, run, policy, sample):
    import torch

    from oumi_deploy.plugin.models import DeploymentQTable

    model = DeploymentQTable.from_pretrained(run / "pretrained")
    features = encode_episodes(policy.encoder.state, sample)
    features = np.concatenate([features, np.full((1, 4), np.nan)])
    with torch.no_grad():
        theirs = model(features=torch.from_numpy(features))["q_values"].numpy()
    np.testing.assert_allclose(policy.q_values(features), theirs, rtol=0, atol=1e-5)


def test_the_policy_says_what_it_was_trained_on(policy, sample):
    assert policy.form == "single"
    assert policy.encoder.names == METRICS
    # The validation split calibrated it, and none of its groups were trained on.
    assert policy.calibration.fitted_on["n_good"] + policy.calibration.fitted_on["n_bad"] == 500
    assert policy.calibration.fitted_on["n_left_out_as_trained_on"] == 0
    assert policy.training_data["n_episodes"] == 2000
    assert policy.training_data["n_good"] + policy.training_data["n_bad"] == 2000
    assert policy.training_data["n_decisions"] == sample.canary_lengths.sum()
    assert policy.metrics["steps"] == 20
    assert 0.7 < policy.metrics["validation"]["accuracy"] < 1


@pytest.mark.parametrize(
    ("values", "decision"),
    [
        ((0.02, 0.45, 0.30, 0.98), "CONTINUE"),
        ((0.15, 0.85, 0.75, 0.60), "ROLLBACK"),
        ((0.01, 0.50, 0.35, 0.99), "CONTINUE"),
        ((0.25, 0.92, 0.90, 0.40), "ROLLBACK"),
    ],
)
def test_clear_cases_are_decided_as_anyone_would(policy, values, decision):
    answer = policy.decide([dict(zip(METRICS, values, strict=True))])
    assert answer.decision == decision
    assert answer.confidence is not None
    assert answer.q_margin > 0


def test_every_well_filled_bin_learns_the_mean_rewards(oumi, run, policy, sample):
    import torch

    learnt = torch.load(run / "checkpoint-20" / "state.pt", weights_only=True)["model"]["table"]
    features = encode_episodes(policy.encoder.state, sample)
    of = np.repeat(np.arange(len(sample)), sample.canary_lengths)
    pays = Rewards().table()[sample.labels[of]]
    which = cells(policy.q_function.edges, features)
    filled = np.flatnonzero(np.bincount(which) >= 200)
    assert len(filled) > 10
    best = [int(pays[which == cell].mean(axis=0).argmax()) for cell in filled]
    assert set(best) == {0, 1}
    # The Q-values are those means, but for what 20 halvings leave.
    means = np.array([pays[which == cell].mean(axis=0) for cell in filled])
    np.testing.assert_allclose(learnt.numpy()[filled], means, atol=1e-3)
    # Put in order, bins that chance had out of order share their mean.
    exported = policy.q_function.table[filled]
    assert np.mean(exported.argmax(axis=1) == best) > 0.9
    assert np.median(np.abs(exported - means)) < 2


@pytest.fixture(scope="module")
def evaluated(quickstart, run, command) -> dict:
    config = "configs/quickstart/eval.yaml"
    done = command("oumi", "evaluate", "-c", config, cwd=quickstart.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (run / "evaluation").rglob("task_result.json")
    return json.loads(result.read_text())["results"]["deployment_policy"]


def test_oumi_evaluate_says_what_oumi_deploy_evaluate_says(evaluated, run, tmp_path, capsys):
    episodes = tmp_path / "releases.parquet"
    policy = run / "deployment_policy_model.json"
    assert main(["generate", "--count", "2000", "--seed", "3", "--out", str(episodes)]) == 0
    capsys.readouterr()
    judge = ["evaluate", "--policy", str(policy), "--episodes", str(episodes)]
    assert main([*judge, "--per-observation", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    for name, metric in judged["metrics"].items():
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            if metric[key] is None:
                assert name + suffix not in evaluated
            else:
                assert evaluated[name + suffix] == pytest.approx(metric[key], abs=1e-12), name
    assert evaluated["n_episodes"] == 2000
    assert evaluated["n_bad"] == judged["n_bad"]


def test_what_the_plugin_refuses_is_one_line(quickstart):
    done = quickstart.refused
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("Error:")]
    assert line.rstrip() == (
        "Error: training.trainer_kwargs: unknown setting fomr: did you mean form?"
    )
    # And it is the last thing said: the line was not broken in two.
    assert done.stdout.rstrip().endswith(line.rstrip())
