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

"""What a user of `oumi train` expects of any trainer works for this one."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.episodes.generator import generate_episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.table import write_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import evaluate
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.encoder import encode_episodes

DATASET = "deployment_episodes"
IN_ENVIRONMENT = {"experience": "environment"}
ABSENT = "take it out"
"""Stands in changes of a config for a name that it shall not have."""


def curve(run) -> list[dict]:
    return json.loads((run.folder / "learning_curve.json").read_text())


def policy(run) -> DeploymentPolicy:
    return DeploymentPolicy.load(run.folder / "deployment_policy_model.json")


def sample(count: int, seed: int, **more) -> dict:
    generate = {"generate": {"count": count, "seed": seed}}
    return {"dataset_name": DATASET, "dataset_kwargs": generate, **more}


def trained_on(run) -> dict:
    return dict(policy(run).training_data)


#
# Seeds, steps, schedules
#
def test_the_same_seed_gives_the_same_weights_and_another_others(train):
    for number, kwargs in enumerate([{}, {**IN_ENVIRONMENT, "replay_size": 50}]):
        runs = []
        for name, seeds in (
            ("one", {}),
            ("two", {"use_deterministic": True}),
            ("seed", {"seed": 7}),
            ("order", {"data_seed": 7}),
        ):
            training = {"max_steps": 6, "save_steps": 0, "trainer_kwargs": kwargs, **seeds}
            runs.append(train("network", {"training": training}, out=f"{name}{number}"))
        assert runs[0].same_as(runs[1])
        assert not runs[0].same_as(runs[2])
        assert not runs[0].same_as(runs[3])


def test_epochs_count_passes_over_the_experience(train):
    decisions = int(generate_sample(60, 1).canary_lengths.sum())
    training = {"max_steps": -1, "num_train_epochs": 2, "save_steps": 0, "logging_steps": 1}
    steps = {}
    for name, kind, kwargs in (
        ("table", "table", {}),
        ("network", "network", {}),
        ("sequential", "table", IN_ENVIRONMENT),
        ("single", "table", {**IN_ENVIRONMENT, "form": "single"}),
    ):
        run = train(kind, {"training": {**training, "trainer_kwargs": kwargs}}, out=name)
        points = curve(run)
        assert [point["global_step"] for point in points] == list(range(1, len(points) + 1))
        per_epoch = len(points) // 2
        assert [p["epoch"] for p in points] == [(i + 1) // per_epoch for i in range(len(points))]
        steps[name] = len(points)
    batches = -(-decisions // 32)
    assert steps == {
        "table": 2,
        "network": 2 * batches,
        "sequential": 120,
        "single": 2 * decisions,
    }


def test_the_schedule_reaches_the_learner(train):
    training = {"max_steps": 4, "logging_steps": 1, "learning_rate": 0.8, "save_steps": 0}
    linear = train("table", {"training": {**training, "lr_scheduler_type": "linear"}}, out="a")
    constant = train("table", {"training": {**training, "lr_scheduler_type": "constant"}}, out="b")
    rates = [point["learning_rate"] for point in curve(linear)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert [point["learning_rate"] for point in curve(constant)] == [0.8] * 4
    # ROLLBACK has a fixed target y: after a step of rate a, 1 - a of the way is left. The rates
    # leave 0.2 * 0.4 * 0.6 * 0.8 of it in one run and 0.2 ** 4 in the other.
    left = [1 - run.weights["table"][:, 1].numpy() for run in (linear, constant)]
    learnt = constant.weights["counts"][:, 1].numpy() > 0
    targets = (1 - left[1][learnt]) / (1 - 0.2**4)
    np.testing.assert_allclose(1 - left[0][learnt], targets * (1 - 0.0384), rtol=1e-4)


def test_the_schedule_reaches_the_optimiser(train):
    training = {"max_steps": 3, "logging_steps": 1, "save_steps": 0, "optimizer": "sgd"}
    warm = {**training, "warmup_steps": 3, "lr_scheduler_type": "constant", "learning_rate": 0.3}
    run = train("network", {"training": warm})
    assert [point["learning_rate"] for point in curve(run)] == pytest.approx([0.0, 0.1, 0.2])


def test_accumulated_batches_are_one_larger_batch(train):
    large = {"per_device_train_batch_size": 32}
    small = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    one, other = (
        train("network", {"training": training}, out=str(number))
        for number, training in enumerate([large, small])
    )
    assert one.same_as(other)


def test_epsilon_falls_and_rewards_are_logged_in_the_environment(train):
    kwargs = {**IN_ENVIRONMENT, "epsilon_start": 0.8, "epsilon_end": 0.2, "epsilon_decay": 0.5}
    training = {"max_steps": 8, "logging_steps": 1, "save_steps": 0, "trainer_kwargs": kwargs}
    points = curve(train("table", {"training": training}))
    epsilons = [point["train/epsilon"] for point in points]
    assert epsilons == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2, 0.2, 0.2, 0.2])
    assert all(-250 <= point["train/reward"] <= 100 for point in points)
    assert len({point["train/reward"] for point in points}) > 1


@pytest.mark.parametrize(
    "kwargs",
    [
        {"double": False, "target_network": "soft", "target_tau": 0.1},
        {"target_network": "none", "loss": "squared", "n_steps": 3},
        {"cql_weight": 0.5, "huber_delta": 0.2, "discount": 0.9},
    ],
    ids=str,
)
def test_every_setting_of_the_update_changes_what_is_learnt(train, kwargs):
    base = train("network", {"training": {"max_steps": 8, "save_steps": 0}}, out="base")
    if "target_network" in kwargs:
        kwargs = {**kwargs, "target_update_steps": ABSENT}
    training = {"max_steps": 8, "save_steps": 0, "trainer_kwargs": kwargs}
    other = train("network", {"training": training}, out="other")
    assert not base.same_as(other)
    assert np.isfinite([point["train/loss"] for point in curve(other)]).all()


#
# Data
#
def test_several_datasets_are_concatenated(train):
    data = {"train": {"datasets": [sample(30, 1), sample(20, 2)]}}
    about = trained_on(train("table", {"data": data}))
    both = [generate_sample(30, 1), generate_sample(20, 2)]
    assert about["n_episodes"] == 50
    assert about["n_decisions"] == sum(int(e.canary_lengths.sum()) for e in both)
    assert about["n_bad"] == sum(int((e.labels == 1).sum()) for e in both)


def test_a_mixture_interleaves_whole_episodes(train):
    data = {
        "train": {
            "datasets": [
                sample(40, 1, mixture_proportion=0.5),
                sample(40, 2, mixture_proportion=0.5),
            ],
            "mixture_strategy": "first_exhausted",
            "seed": 3,
        }
    }
    about = trained_on(train("table", {"data": data}))
    assert 40 <= about["n_episodes"] < 80
    lengths = {int(n) for seed in (1, 2) for n in generate_sample(40, seed).canary_lengths}
    mean = about["n_decisions"] / about["n_episodes"]
    assert min(lengths) <= mean <= max(lengths)


def test_sample_count_takes_whole_episodes(train):
    first = train("table", {"data": {"train": {"datasets": [sample(60, 1, sample_count=20)]}}})
    about = trained_on(first)
    assert about["n_episodes"] == 20
    assert about["n_decisions"] == generate_sample(60, 1).canary_lengths[:20].sum()
    # Oversampling repeats episodes; their decisions are those of three copies.
    thrice = {"train": {"datasets": [sample(20, 1, sample_count=60)]}}
    about = trained_on(train("table", {"data": thrice}, out="thrice"))
    assert about["n_episodes"] == 60
    assert about["n_decisions"] == 3 * generate_sample(20, 1).canary_lengths.sum()


def test_shuffling_changes_the_order_and_nothing_else(train):
    plain = train("table", out="plain")
    shuffled = {"train": {"datasets": [{**sample(60, 1), "shuffle": True, "seed": 5}]}}
    run = train("table", {"data": shuffled}, out="shuffled")
    one, other = trained_on(plain), trained_on(run)
    assert one.pop("fingerprint") != other.pop("fingerprint")
    assert one == other
    for name in ("table", "counts"):
        np.testing.assert_allclose(run.weights[name], plain.weights[name], rtol=1e-5)


def test_a_streamed_split_is_the_same_split(train):
    data = {"train": {"datasets": [sample(60, 1)], "stream": True}}
    assert train("network", {"data": data}, out="stream").same_as(train("network", out="plain"))


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_file_is_what_is_learnt_from(train, tmp_path, suffix):
    path = tmp_path / f"file.{suffix}"
    parquet = tmp_path / "generated.parquet"
    assert main(["generate", "--count", "60", "--seed", "1", "--out", str(parquet)]) == 0
    write_frame(pd.read_parquet(parquet), path)
    # The file goes before the sample that the config generates.
    dataset = {**sample(5, 9), "dataset_path": str(path)}
    run = train("table", {"data": {"train": {"datasets": [dataset]}}}, out="file")
    plain = train("table", out="plain")
    if suffix == "parquet":
        assert run.same_as(plain)
    for name in ("table", "counts"):
        np.testing.assert_allclose(run.weights[name], plain.weights[name], rtol=1e-5)


@pytest.mark.parametrize("stream", [False, True])
def test_files_with_other_columns_are_learnt_from_together(train, tmp_path, stream, warned):
    """Every metric is named once, in the state; what a file lacks is missing there."""
    frames = [generate_episodes(30, seed) for seed in (1, 2)]
    frames[0].drop(columns=["cpu_usage", "control_error_rate"]).to_csv(
        tmp_path / "a.csv", index=False
    )
    frames[1].assign(queue=7.0).to_csv(tmp_path / "b.csv", index=False)
    files = [{"dataset_name": DATASET, "dataset_path": str(tmp_path / f"{n}.csv")} for n in "ab"]
    state = ["error_rate", "cpu_usage", "queue", "error_rate.control"]
    changes = {
        "data": {"train": {"datasets": files, "stream": stream}},
        "training": {"trainer_kwargs": {"state": state}},
    }
    encoder = policy(train("table", changes)).encoder
    assert encoder.untaught == ()
    assert encoder.high[1] == frames[1].loc[frames[1]["phase"] == "canary", "cpu_usage"].max()
    assert encoder.low[2] == encoder.high[2] == 7.0
    assert not any("no value of" in line for line in warned)


def test_what_the_training_split_lacks_is_said_and_the_rest_is_learnt(train, tmp_path, warned):
    frame = generate_episodes(60, 1)
    least = [c for c in frame if not c.startswith("control_") and c not in ("latency", "phase")]
    frame.loc[frame["phase"] == "canary", least].to_csv(tmp_path / "least.csv", index=False)
    file = {"dataset_name": DATASET, "dataset_path": str(tmp_path / "least.csv")}
    state = ["error_rate", "error_rate.control", "cpu_usage.baseline", "latency", "latency.missing"]
    changes = {
        "data": {"train": {"datasets": [file]}},
        "training": {"trainer_kwargs": {"state": state}},
    }
    learnt = policy(train("network", changes))
    assert learnt.encoder.untaught == ("error_rate.control", "cpu_usage.baseline", "latency")
    (said,) = [line for line in warned if "no value of" in line]
    assert "error_rate.control, cpu_usage.baseline, latency: nothing is learnt from them" in said
    assert "memory_usage" in said
    # It is the error rate that it learnt from.
    rates = np.full((2, len(state)), np.nan)
    rates[:, 0], rates[:, -1] = [0.0, 0.5], 1.0
    q_values = learnt.q_values(rates)
    assert (q_values[1] - q_values[0])[1] > 0


def test_a_validation_split_that_lacks_columns_says_so(train, tmp_path, warned):
    generate_episodes(40, 2).drop(columns=["cpu_usage"]).to_csv(tmp_path / "less.csv", index=False)
    file = {"dataset_name": DATASET, "dataset_path": str(tmp_path / "less.csv")}
    train("table", {"data": {"validation": {"datasets": [file]}}})
    said = (
        "The validation split has no value of cpu_usage: its figures are of decisions without them"
    )
    assert said in warned


def test_only_the_named_metrics_are_handed_over(train):
    dataset = sample(60, 1)
    dataset["dataset_kwargs"]["metrics"] = ["requests"]
    changes = {
        "data": {"train": {"datasets": [dataset]}},
        "training": {"trainer_kwargs": {"state": ["requests", "steps", "planned_share"]}},
    }
    run = train("table", changes)
    assert policy(run).encoder.names == ("requests", "steps", "planned_share")


def test_a_validation_split_is_scored_every_eval_steps(train, generated):
    changes = {
        "data": {"validation": generated(40, 2)},
        "training": {"eval_steps": 4, "logging_steps": 0, "enable_tensorboard": True},
    }
    run = train("table", changes)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/f1")] == [4, 8, 12]
    preferred = replace(policy(run), calibration=None)
    judged = evaluate(preferred, generate_sample(40, 2))["metrics"]
    validation = policy(run).metrics["validation"]
    for name, figure in validation.items():
        assert figure == pytest.approx(judged[name]["value"]), name
    assert {"accuracy", "f1", "mean_reward_with_delay"} <= set(validation)


def test_a_validation_split_of_one_class_or_none_is_no_obstacle(train, generated):
    good = generated(20, 2)
    good["datasets"][0]["dataset_kwargs"]["generate"]["parameters"] = {"bad_share": 0.0}
    run = train("table", {"data": {"validation": good}})
    assert "recall" not in policy(run).metrics["validation"]


def test_an_unlabelled_validation_split_leaves_no_figures(train, tmp_path):
    path = tmp_path / "unlabelled.csv"
    path.write_text(
        "episode_id,step,error_rate,memory_usage,cpu_usage,health_score\n"
        "a,0,0.1,0.2,0.3,0.9\na,1,0.1,0.2,0.3,0.9\n"
    )
    dataset = {"dataset_name": DATASET, "dataset_path": str(path)}
    run = train("table", {"data": {"validation": {"datasets": [dataset]}}})
    assert policy(run).metrics["validation"] == {}


def test_the_last_figures_are_what_a_search_chooses_by(oumi, train, generated):
    changes = {"data": {"validation": generated(40, 2)}}
    run = train("table", changes, additional_tuning_kwargs={"any": True})
    assert run.metrics["mean_reward_with_delay"] == pytest.approx(
        policy(run).metrics["validation"]["mean_reward_with_delay"]
    )
    with pytest.raises(oumi.ConfigError, match=r"data\.validation: tuning needs a validation sp"):
        train("table", out="none", additional_tuning_kwargs={"any": True})


#
# Callbacks and folders
#
class Counter:
    def __init__(self):
        self.calls: dict[str, int] = {}
        self.logs: list[dict] = []

    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)

        def note(args, state, control, logs):
            self.calls[name] = self.calls.get(name, 0) + 1
            if name == "on_log":
                self.logs.append(dict(logs))
                logs["mine"] = 1.0

        return note


def test_callbacks_hear_of_every_step_and_log(train, monkeypatch):
    counter = Counter()
    monkeypatch.setattr("oumi.train.build_training_callbacks", lambda *a: [counter])
    training = {"max_steps": 12, "logging_steps": 5, "logging_first_step": True}
    run = train("table", {"training": training})
    assert counter.calls == {
        "on_step_begin": 12,
        "on_step_end": 12,
        "on_log": 4,
        "on_train_end": 1,
    }
    assert [log["global_step"] for log in counter.logs] == [1, 5, 10, 12]
    # What a callback adds to a log is in the curve.
    assert [point["mine"] for point in curve(run)] == [1.0] * 4


def test_an_output_folder_may_be_relative(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("table", {"training": {"output_dir": "here/and/there"}})
    folder = tmp_path / "here" / "and" / "there"
    assert (folder / "deployment_policy_model.json").is_file()
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-12",
        "checkpoint-5",
    ]


def test_checkpoints_can_be_made_each_epoch_and_the_end_left_out(train):
    training = {"max_steps": 3, "save_steps": 0, "save_epoch": True, "save_final_model": False}
    run = train("table", {"training": training})
    assert sorted(os.listdir(run.folder)) == [
        "checkpoint-1",
        "checkpoint-2",
        "checkpoint-3",
        "logs",
        "metrics_rank0000.jsonl",
        "telemetry",
    ]


def test_the_table_learnt_is_not_touched_by_what_is_filled_in_for_export(train):
    run = train("table")
    import torch

    saved = torch.load(run.folder / "checkpoint-12" / "state.pt", weights_only=True)["model"]
    exported = run.weights
    unvisited = saved["counts"] == 0
    assert unvisited.any()
    assert (saved["table"][unvisited] == 0).all()
    assert (exported["table"][unvisited] != 0).any()
    assert torch.equal(exported["counts"], saved["counts"])


#
# Going on from a model
#
def pretrained(run) -> dict:
    name = str(run.folder / "pretrained")
    return {"model_name": name, "load_pretrained_weights": True, "model_kwargs": ABSENT}


@pytest.mark.parametrize("kind", ["table", "network"])
def test_a_trained_model_is_learnt_on(train, kind):
    first = train(kind, {"training": {"max_steps": 40, "save_steps": 0}}, out="first")
    more = {
        "model": pretrained(first),
        "data": {"train": {"datasets": [sample(40, 8)]}},
        "training": {"max_steps": 1, "learning_rate": 1e-6, "save_steps": 0},
    }
    second = train(kind, more, out="second")
    before, after = policy(first).encoder, policy(second).encoder
    for name in ("center", "scale", "names"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert policy(second).training_data["n_episodes"] == 40
    features = encode_episodes(before.state, generate_sample(40, 8))
    np.testing.assert_array_equal(after.low, np.fmin(before.low, np.nanmin(features, axis=0)))
    np.testing.assert_array_equal(after.high, np.fmax(before.high, np.nanmax(features, axis=0)))
    # What lies outside the range of before is told apart only now.
    known = ~((features < before.low) | (features > before.high)).any(axis=1)
    old, new = (policy(run).q_values(features[known]) for run in (first, second))
    moved = np.abs(new - old).max(axis=1)
    # A table is put in order anew: where there were few decisions, new ones weigh.
    assert np.quantile(moved, 0.95 if kind == "table" else 1) < 0.2
    assert moved.max() > 0


def test_folds_go_on_from_a_trained_model_with_its_state(oumi, train, tmp_path):
    from oumi_deploy.plugin.runs import load_train_config, settings_of, train_policy

    state = ["error_rate.max", "inverse_steps"]
    first = train("network", {"training": {"trainer_kwargs": {"state": state}}}, out="first")
    changes = {"model": pretrained(first), "training": {"max_steps": 1, "save_steps": 0}}
    train("network", changes, out="second")
    config = load_train_config(tmp_path / "second.yaml")
    assert settings_of(config).state == tuple(state)
    learnt, _ = train_policy(config, generate_sample(40, 8))
    assert learnt.encoder.names == tuple(state)
    with pytest.raises(DeployError, match="model_name: there is no nowhere/saved; train it first"):
        load_train_config(tmp_path / "second.yaml", ["model.model_name=nowhere/saved"])


def test_what_a_table_knew_is_kept_where_new_data_say_nothing(train):
    first = train("table", out="first")
    one = {"datasets": [sample(200, 8, sample_count=8)]}
    second = train("table", {"model": pretrained(first), "data": {"train": one}}, out="second")
    import torch

    # As it was learnt, before it is put in order for export.
    path = second.folder / "checkpoint-12" / "state.pt"
    before, after = first.weights, torch.load(path, weights_only=True)["model"]
    untouched = (before["counts"] > 0) & (after["counts"] == before["counts"])
    assert untouched.any()
    assert after["table"][untouched].equal(before["table"][untouched])
    assert (after["counts"] >= before["counts"]).all()


def test_a_loaded_model_refuses_another_state_and_other_layers(oumi, train):
    first = train("table", out="first")
    other = {"trainer_kwargs": {"state": ["error_rate"]}}
    with pytest.raises(oumi.ConfigError, match="state differs from the loaded model's"):
        train("table", {"model": pretrained(first), "training": other}, out="b")
    bins = {**pretrained(first), "model_kwargs": {"bins": 7}}
    with pytest.raises(oumi.ConfigError, match=r"model\.model_kwargs has no effect on a model th"):
        train("table", {"model": bins}, out="c")
