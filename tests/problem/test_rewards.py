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
"""What decisions pay."""

import numpy as np
import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.rewards import ACTIONS, Action, Rewards, step_costs


def test_the_default_rewards_are_those_promised():
    table = Rewards().table()
    good, bad = 0, 1
    assert table[bad, Action.ROLLBACK] == 100
    assert table[good, Action.CONTINUE] == 50
    assert table[bad, Action.CONTINUE] == -200
    assert table[good, Action.ROLLBACK] == -50
    assert Rewards().step_cost == 2
    assert ACTIONS == ("CONTINUE", "ROLLBACK")


def test_every_reward_can_be_set():
    rewards = Rewards(1, 2, -3, -4, 5)
    assert rewards.table().tolist() == [[2, -4], [-3, 1]]
    assert rewards.as_dict() == {
        "correct_rollback": 1,
        "correct_continue": 2,
        "missed_rollback": -3,
        "unnecessary_rollback": -4,
        "step_cost": 5,
        "held": -10,
    }
    assert Rewards(**rewards.as_dict()) == rewards


def test_waiting_costs_follow_the_share_and_count_an_unknown_one_as_whole():
    costs = step_costs(Rewards(step_cost=4), np.array([0.0, 0.25, 1.0, np.nan]))
    assert costs.tolist() == [0.0, 1.0, 4.0, 4.0]
    assert step_costs(Rewards(step_cost=0), np.array([0.5, np.nan])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"step_cost": -1}, r"rewards\.step_cost: -1 must be 0 or more"),
        ({"correct_rollback": "100"}, r"rewards\.correct_rollback: '100' is not a finite number"),
        ({"missed_rollback": float("-inf")}, r"rewards\.missed_rollback: -inf is not a finite"),
        ({"step_cost": float("nan")}, r"rewards\.step_cost: nan is not a finite number"),
        ({"correct_continue": True}, r"rewards\.correct_continue: True is not a finite number"),
        ({"correct_rollback": -200}, r"correct_rollback must be above rewards\.missed_rollback"),
        ({"unnecessary_rollback": 60}, r"correct_continue must be above rewards\.unnecessary"),
    ],
)
def test_impossible_rewards_are_refused_by_name(changes, says):
    with pytest.raises(DeployError, match=says):
        Rewards(**changes)
