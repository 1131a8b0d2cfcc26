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
"""A loop whose champion knows failures by errors, and a log in which they come by memory."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.table import write_frame
from oumi_deploy.loop import night
from oumi_deploy.loop.champion import begin
from oumi_deploy.loop.folder import LoopFolder
from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.loop.split import side_of
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state
from oumi_deploy.serving.log.entries import Entry, RolloutName


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


learning_loop = _load(Path(__file__).parents[1] / "benchmarks" / "learning_loop.py")

SETTINGS = """
training_config = "train.yaml"
trusted_episodes = "trusted.csv"
trusted_sources = ["review", "pipeline"]
group_by = ["version"]
"""
N_GROUPS = 80
ELSEWHERE = {"n_groups": 1, "group_digests": ["0" * 12]}
"""What a policy file says of having been taught by a group that is nowhere here."""


def watches(metric: str, **changes: Any) -> DeploymentPolicy:
    """Returns a policy that rolls back from a value of 0.6 of one metric on."""
    zero, one = np.zeros(1), np.ones(1)
    policy = DeploymentPolicy(
        StateEncoder(parse_state([metric]), zero, one, zero, one),
        TableQ(
            [np.array([0.6])],
            np.array([[45.0, -40.0], [-150.0, 80.0], [45.0, -40.0]]),
            np.ones((3, 2)),
        ),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data=ELSEWHERE,
        metrics={},
        calibration=Calibration(0.0, 1.0, fitted_on=ELSEWHERE),
    )
    return replace(policy, **changes)


def release(
    number: int, bad: bool, *, errors: float = 0.01, stops: bool = False, label: str = ""
) -> list[Entry]:
    """Returns what the log hears of a release whose memory tells that it is bad."""
    name = RolloutName("pay", "production", f"group-{number // 3}", str(number))
    at = time.time() - 3600
    row = {"error_rate": errors, "memory_usage": 0.9 if bad else 0.3}
    observations = [{"timestamp": at + 60 * minute, **row} for minute in range(2)]
    decision = "ROLLBACK" if stops else "CONTINUE"
    entries = [learning_loop.decided(name, at, decision, observations)]
    if label:
        source, _, word = label.rpartition(" ")
        entries.append(learning_loop.outcome(name, at, source, word))
    return entries


def drifted(source: str = "pipeline", lie: bool = False) -> list[Entry]:
    """Returns a log in which every third release is bad, went on, and is labelled by a source."""
    entries: list[Entry] = []
    for number in range(3 * N_GROUPS):
        bad = number % 3 == 0
        entries += release(number, bad, label=f"{source} {'bad' if bad != lie else 'good'}")
    return entries


def write_log(path: Path, entries: Iterable[Entry]) -> str:
    """Writes a decision log and returns its URL."""
    url = f"sqlite:///{path}"
    learning_loop.write(url, entries)
    return url


def trusted_frame(error_rate_of_bad: float = 0.9) -> pd.DataFrame:
    """Returns releases on which errors and memory tell the same."""
    rows = []
    for number in range(30):
        bad = number % 3 == 0
        rates = {"error_rate": error_rate_of_bad if bad else 0.01}
        values = {**rates, "memory_usage": 0.9 if bad else 0.3, "label": "bad" if bad else "good"}
        for step in range(2):
            name = {"episode_id": f"t{number}", "step": step, "group": f"trusted-{number}"}
            rows.append({**name, **values})
    return pd.DataFrame(rows)


@pytest.fixture
def trains(monkeypatch) -> Callable[[DeploymentPolicy], None]:
    """Puts a given challenger in the place of training: `trains(policy)`."""

    def use(challenger: DeploymentPolicy) -> None:
        def train(config: Path, champion: Path, episodes: Path, draft: Path) -> None:
            assert (champion / "policy.json").is_file()
            assert episodes.is_file()
            challenger.save(draft / "policy.json")

        monkeypatch.setattr(night, "train_challenger", train)

    return use


@pytest.fixture
def loop(tmp_path) -> LoopFolder:
    """A loop whose champion watches errors."""
    folder = tmp_path / "loop"
    folder.mkdir()
    (folder / "loop.toml").write_text(SETTINGS)
    (folder / "train.yaml").write_text("")
    write_frame(trusted_frame(), folder / "trusted.csv")
    watches("error_rate").save(tmp_path / "first.json")
    begun = LoopFolder(folder)
    begin(begun, tmp_path / "first.json", None)
    return begun


@pytest.fixture
def not_begun(tmp_path, loop) -> LoopFolder:
    """The same, with no champion yet."""
    folder = tmp_path / "not begun"
    folder.mkdir()
    for name in ("loop.toml", "train.yaml", "trusted.csv"):
        (folder / name).write_bytes((loop.path / name).read_bytes())
    return LoopFolder(folder)


@pytest.fixture
def make_log(tmp_path) -> Callable[[Iterable[Entry]], str]:
    return lambda entries: write_log(tmp_path / f"{uuid4().hex}.db", entries)


@pytest.fixture(scope="session")
def benchmark() -> ModuleType:
    return learning_loop


@pytest.fixture(scope="session")
def policy_on() -> Callable[..., DeploymentPolicy]:
    return watches


@pytest.fixture(scope="session")
def drifted_log() -> Callable[..., list[Entry]]:
    return drifted


@pytest.fixture(scope="session")
def make_release() -> Callable[..., list[Entry]]:
    return release


@pytest.fixture(scope="session")
def side() -> Callable[[int], str]:
    """The side that a release's number is on."""
    settings = LoopSettings(Path(), Path(), ("review",), group_by=("version",))
    return lambda number: side_of(f"group-{number // 3}", settings)
