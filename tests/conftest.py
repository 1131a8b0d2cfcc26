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
"""Builders that many tests share."""

import os
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes, episodes_of_frame
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

# No test judges times: a busy machine must not fail one.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

Episode = Mapping[str, Any]
"""Columns of one episode: a list has one value a row, anything else stands in every row."""


def frame_of(*episodes: Episode) -> pd.DataFrame:
    """Builds a long table; names default to e0, e1, ... and steps to 0, 1, ..."""
    rows = []
    for number, columns in enumerate(episodes):
        length = max((len(v) for v in columns.values() if isinstance(v, list)), default=1)
        filled = {"episode_id": f"e{number}", "step": list(range(length)), **columns}
        for at in range(length):
            rows.append({k: v[at] if isinstance(v, list) else v for k, v in filled.items()})
    return pd.DataFrame(rows)


def episodes_of(*episodes: Episode) -> Episodes:
    """Builds a validated set of episodes, see `frame_of`."""
    return episodes_of_frame(frame_of(*episodes))


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., pd.DataFrame]:
    return frame_of


@pytest.fixture(scope="session")
def make_episodes() -> Callable[..., Episodes]:
    return episodes_of


@pytest.fixture(scope="session")
def error_policy() -> DeploymentPolicy:
    """Rolls back from an error rate of 0.4 on; nothing known is worth going on."""
    one = np.ones(1)
    return DeploymentPolicy(
        StateEncoder(parse_state(["error_rate"]), 0 * one, one, 0 * one, one),
        TableQ(
            [np.array([0.4])],
            np.array([[20.0, -30.0], [-150.0, 80.0], [20.0, -30.0]]),
            np.ones((3, 2)),
        ),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
        calibration=Calibration(0.0, 1.0),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where real systems are required, a test of one that is missing fails."""
    report = yield
    if report.skipped and item.get_closest_marker("real") and os.environ.get("REQUIRE_REAL"):
        report.outcome = "failed"
    return report
