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


"""The page that describes the policy file names all that the file holds."""

from pathlib import Path

import numpy as np
import pytest

import oumi_deploy.policy
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import NetworkQ, QFunction, TableQ, TreesQ
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state
from oumi_deploy.problem.trees import NODES, Trees

PAGE = Path(oumi_deploy.policy.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")

LEAF = {name: [0 if name != "feature" else -1] for name in NODES}


@pytest.mark.parametrize(
    "q_function",
    [
        TableQ([np.array([0.5])], np.zeros((3, 2)), np.zeros((3, 2))),
        NetworkQ([(np.zeros((2, 2)), np.zeros(2))], Bounds.of(Rewards(), 1)),
        TreesQ(Trees.from_lists([[LEAF], [LEAF]], 1), Bounds.of(Rewards(), 1)),
    ],
)
def test_the_page_names_every_key(q_function: QFunction) -> None:
    one = np.ones(1)
    state = parse_state(["error_rate"])
    encoder = StateEncoder(state, one, one, one, one, {"error_rate": "higher"})
    calibration = Calibration(0.0, 1.0)
    made = DeploymentPolicy(encoder, q_function, "single", Rewards(), 1.0, {}, {}, calibration)
    policy = made.as_dict()
    q = policy["q_function"]
    keys = {*policy, *policy["rewards"], *policy["encoder"], *q, *q.get("bounds", {})}
    if "trees" in q:
        keys |= {*q["trees"], *q["trees"]["lead"][0]}
    keys |= {*policy["calibration"], *policy["calibration"]["pauses"]}
    keys |= {str(reason.name).lower() for reason in Reason} - {"false_alarm_bound"}
    keys -= set(Rewards().as_dict()) - {"step_cost"}
    assert [key for key in sorted(keys) if key not in PAGE] == []
