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

"""A run that is interrupted and resumed ends with exactly the weights of one that is not."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

IN_ENVIRONMENT = {"trainer_kwargs": {"experience": "environment", "epsilon_end": 0.3}}
WAYS = {
    "a table on logged episodes": ("table", {}),
    "a network on logged episodes": ("network", {"lr_scheduler_type": "cosine"}),
    "a table in the environment": ("table", IN_ENVIRONMENT),
    "a network in the environment": (
        "network",
        {"trainer_kwargs": {**IN_ENVIRONMENT["trainer_kwargs"], "replay_size": 30}},
    ),
}
LAST = {"try_resume_from_last_checkpoint": True}


def rewind(whole: Path, to: Path, step: int) -> None:
    """Copies a run's folder as it was after the checkpoint of a step."""
    shutil.copytree(whole, to)
    for name in ("pretrained", "deployment_policy_model.json", "learning_curve.json"):
        path = to / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in to.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > step:
            shutil.rmtree(path)


@pytest.mark.parametrize(("kind", "training"), list(WAYS.values()), ids=list(WAYS))
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(train, generated, kind, training):
    changes = {"training": training, "data": {"validation": generated(20, 3)}}
    whole = train(kind, changes, out="whole")
    rewind(whole.folder, whole.folder.parent / "resumed", step=5)
    changes["training"] = {**training, **LAST}
    resumed = train(kind, changes, out="resumed")
    assert resumed.same_as(whole)
    for name in ("learning_curve.json", "deployment_policy_model.json"):
        assert (resumed.folder / name).read_text() == (whole.folder / name).read_text(), name
    # It did go on from step 5, and did not begin again.
    log = (resumed.folder / "logs" / "rank_0000.log").read_text()
    assert f"Resumed from {resumed.folder / 'checkpoint-5'} at step 5." in log
    # Without resuming the same steps from another start end elsewhere.
    assert not train(kind, {"training": {**training, "max_steps": 7}}, out="short").same_as(whole)


def test_a_run_that_is_killed_is_resumed_exactly(train, environment, tmp_path):
    training = {"max_steps": 3000, "save_steps": 50, "logging_steps": 500}
    whole = train("network", {"training": {**training, "save_steps": 0}}, out="whole")
    # The same run in a process of its own, which is killed while it trains.
    text = (tmp_path / "whole.yaml").read_text()
    text = text.replace(str(whole.folder), str(tmp_path / "killed"))
    text = text.replace("save_steps: 0", "save_steps: 50")
    (tmp_path / "other.yaml").write_text(text)
    oumi = Path(sys.executable).parent / "oumi"
    with subprocess.Popen(
        [oumi, "train", "-c", tmp_path / "other.yaml"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 300
        while not (tmp_path / "killed" / "checkpoint-150").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = tmp_path / "killed"
    saved = [int(path.name.split("-")[1]) for path in killed.glob("checkpoint-*")]
    assert 150 <= max(saved) < 3000
    assert not (killed / "pretrained").exists()
    # Whatever stands under a final name is whole.
    for path in killed.glob("checkpoint-*"):
        json.loads((path / "trainer_state.json").read_text())
    resumed = train("network", {"training": {**training, **LAST}}, out="killed")
    assert resumed.same_as(whole)


@pytest.fixture
def checkpoints(train):
    """A network's run with checkpoints, for others to resume from."""
    return train("network", out="first").folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "other"}, "made with another training data"),
        (
            {"training": {"trainer_kwargs": {"target_update_steps": 4}}},
            r"made with another setting in trainer_kwargs \(target_update_steps\)",
        ),
        (
            {"training": {"learning_rate": 0.02}},
            r"made with another training parameter \(learning_rate\)",
        ),
        ({"training": {"per_device_train_batch_size": 16}}, "made with another batch size"),
        ({"training": {"seed": 1}}, "made with another seed"),
        ({"training": {"data_seed": 1}}, "made with another seed"),
        ({"model": {"model_kwargs": {"hidden_sizes": [9]}}}, r"made with another model \(hidden"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(oumi, train, checkpoints, generated, changes, says):
    changes = dict(changes)
    if changes.get("data") == "other":
        changes["data"] = {"train": generated(61, 1)}
    changes["training"] = {**changes.get("training", {}), **LAST}
    with pytest.raises(oumi.ConfigError, match=says) as refusal:
        train("network", changes, out="first")
    assert str(checkpoints / "checkpoint-12") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_damaged_checkpoint_is_refused_by_name(oumi, train, checkpoints):
    last = checkpoints / "checkpoint-12"
    whole = (last / "state.pt").read_bytes()
    for content in (b"", b"not a tensor", whole[: len(whole) // 2]):
        (last / "state.pt").write_bytes(content)
        with pytest.raises(oumi.ConfigError, match="not a checkpoint that can be res") as refusal:
            train("network", {"training": LAST}, out="first")
        assert str(last) in str(refusal.value)
        assert "\n" not in str(refusal.value)
    for content in ("{", "{}", "[]", '{"epoch": 1, "global_step": 12}'):
        (last / "state.pt").write_bytes(whole)
        (last / "trainer_state.json").write_text(content)
        with pytest.raises(oumi.ConfigError, match="not a checkpoint that can be resumed"):
            train("network", {"training": LAST}, out="first")
    named = {"training": {"resume_from_checkpoint": "nowhere"}}
    with pytest.raises(oumi.ConfigError, match="nowhere: not a checkpoint that can be resumed"):
        train("network", named, out="other")


def test_a_finished_run_can_be_continued_for_longer(train, checkpoints):
    constant = {"lr_scheduler_type": "constant"}
    train("network", {"training": constant}, out="short")
    longer = {"training": {**constant, **LAST, "max_steps": 20}}
    resumed = train("network", longer, out="short")
    whole = train("network", {"training": {**constant, "max_steps": 20}}, out="whole")
    assert resumed.same_as(whole)
    # A run that has nothing left to do ends as it was.
    assert train("network", longer, out="short").same_as(whole)
