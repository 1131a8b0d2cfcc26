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

"""What the ChangeRCA converter says about a clone it cannot read."""

import json
from pathlib import Path

import pytest

from oumi_deploy.episodes.changerca import convert_changerca
from oumi_deploy.errors import DeployError

START = 1_935_558_480
POD_HEADER = "Time,Timestamp,SuccessRate,Latency,CPU,Memory,NodeCpu,NodeMemory"
EXPERIMENT = "2031-05-06_1"
POD_FILE = "shop-v1-aa-p1_web_shop.csv"


def _good_plan() -> dict:
    step = {
        "v1": 0,
        "v2": 1,
        "delete_pod": ["shop-v1-aa-p1"],
        "release_complete_timestamp": START + 130,
    }
    return {
        "plan": {"shop": {"release_time": START + 70, "process": {"1": step}}},
        "fault": None,
        "fault_release_service": None,
        "normal_service_list": ["shop"],
    }


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The root of a made-up clone: one release of one pod, which reported once."""
    folder = _folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / f"{EXPERIMENT}.json").write_text(json.dumps(_good_plan()))
    (folder / POD_FILE).write_text(f"{POD_HEADER}\nsome date,{START},100,1,2,3,4,5\n")
    return tmp_path


def _folder(clone: Path) -> Path:
    return clone / "data" / "2031-05-06" / EXPERIMENT


def test_the_clone_itself_is_good(clone: Path) -> None:
    assert convert_changerca(clone)["label"].tolist() == ["good"]


def test_folder_without_experiment(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"no experiment here.*give the root of a clone"):
        convert_changerca(tmp_path)


def test_experiment_without_pod_files(clone: Path) -> None:
    for path in _folder(clone).glob("*-v*"):
        path.unlink()
    with pytest.raises(DeployError, match=f"{EXPERIMENT}: no pod has reported anything"):
        convert_changerca(clone)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"some date,{START},100,1,2,3,4", "7 columns, expected 8"),
        (f"some date,{START},100,1,2,3,4,5,6", "9 columns, expected 8"),
        (f"some date,{START},100,much,2,3,4,5", "'much' is no number"),
        ("some date,noon,100,1,2,3,4,5", "'noon' is no time in Unix seconds"),
    ],
)
def test_malformed_pod_file(clone: Path, line: str, message: str) -> None:
    path = _folder(clone) / POD_FILE
    path.write_text(f"{POD_HEADER}\nsome date,{START},100,1,2,3,4,5\n{line}\n")
    with pytest.raises(DeployError, match=f"{POD_FILE}, line 3: {message}"):
        convert_changerca(clone)


def test_malformed_service_file(clone: Path) -> None:
    (_folder(clone) / "destination_success.csv").write_text(
        f"time,timestamp,web_shop\nsome date,{START},1,2\n"
    )
    with pytest.raises(
        DeployError, match=r"destination_success\.csv, line 2: 4 columns, expected 3"
    ):
        convert_changerca(clone)


def test_binary_file(clone: Path) -> None:
    (_folder(clone) / POD_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeployError, match=f"{POD_FILE}: cannot be read"):
        convert_changerca(clone)


def test_broken_json(clone: Path) -> None:
    (_folder(clone) / f"{EXPERIMENT}.json").write_text('{\n"plan": oops\n}')
    with pytest.raises(DeployError, match=f"{EXPERIMENT}.json, line 2: broken JSON"):
        convert_changerca(clone)


def _edit(plan: dict, place: str, value: object) -> None:
    *holders, last = place.split(".")
    for key in holders:
        plan = plan[key]
    if value is None:
        del plan[last]
    else:
        plan[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("plan", None, "plan is missing"),
        ("plan", {}, "plan is empty"),
        ("plan.shop", [], "plan.shop is .*, expected dict"),
        ("plan.shop.release_time", "noon", "plan.shop.release_time is 'noon', expected int"),
        ("plan.shop.process", {}, "plan.shop.process has no step"),
        ("plan.shop.process.1.v2", None, "plan.shop.process.1.v2 is missing"),
        ("plan.shop.process.1.v2", 0, "plan.shop.process.1 has 0 v1 and 0 v2 pods"),
        ("normal_service_list", [], "shop is in plan, but neither"),
        ("fault", 7, "fault is 7, expected str"),
    ],
)
def test_malformed_plan(clone: Path, place: str, value: object, message: str) -> None:
    plan = _good_plan()
    _edit(plan, place, value)
    (_folder(clone) / f"{EXPERIMENT}.json").write_text(json.dumps(plan))
    with pytest.raises(DeployError, match=f"{EXPERIMENT}.json: {message}"):
        convert_changerca(clone)
