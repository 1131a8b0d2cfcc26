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

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state


def table_of(
    beliefs: Sequence[float],
    edges: Sequence[float],
    state: Sequence[str] = ("error_rate",),
    waiting: float = 0.0,
) -> DeploymentPolicy:
    """A table over the first feature whose cells believe in "bad" with these probabilities.

    The last cell is that of a missing value. Q-values are those of deciding at once, with what
    another look is worth (`waiting`) on CONTINUE; so the policy prefers ROLLBACK from a belief of
    1/4 + `waiting` / 400 on. The training split saw values from 0 to 0.5.
    """
    p = np.array(beliefs)
    q_values = np.stack([50 + waiting - 250 * p, 150 * p - 50], axis=1)
    n = len(state)
    features = parse_state(state)
    encoder = StateEncoder(
        features,
        center=np.full(n, 0.1),
        scale=np.full(n, 0.2),
        low=np.zeros(n),
        high=np.full(n, 0.5),
        directions=directions_of(features, {}),
    )
    rest: list[np.ndarray] = [np.array([])] * (n - 1)
    spread = np.repeat(q_values, 2 ** (n - 1), axis=0)
    return DeploymentPolicy(
        encoder,
        TableQ([np.array(edges), *rest], spread, np.ones_like(spread)),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={"fingerprint": "abc"},
        metrics={},
    )


def calibrated_as_is(policy: DeploymentPolicy, **pauses) -> DeploymentPolicy:
    """A policy whose risk is what its Q-values say."""
    return replace(policy, calibration=Calibration(0.0, 1.0, PauseRules(**pauses)))


@pytest.fixture(scope="session")
def make_table() -> Callable[..., DeploymentPolicy]:
    return table_of


@pytest.fixture(scope="session")
def calibrate_as_is() -> Callable[..., DeploymentPolicy]:
    return calibrated_as_is
