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

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.dqn import DQN, DQNRule
from oumi_deploy.learning.explore import Explorer, NetworkAgent, TableAgent
from oumi_deploy.learning.learners import explore_with_network, explore_with_table, play_environment
from oumi_deploy.learning.network import QNetwork
from oumi_deploy.learning.settings import AlgorithmSettings
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.environment import DeploymentEnvironment
from oumi_deploy.problem.rewards import Rewards

CONTINUE, ROLLBACK = 0, 1
SETTINGS = AlgorithmSettings(
    experience="environment", state=("load",), discount=0.9, replay_size=16, target_update_steps=3
)


def small_network(scale: float) -> QNetwork:
    return QNetwork(np.array([1, 0]), [4], Bounds.of(Rewards(), 2), scale)


def world(episodes, form="sequential") -> DeploymentEnvironment:
    settings = replace(SETTINGS, form=form)
    return play_environment(episodes, fit_encoder(["load"], episodes), settings, seed=1)


class Recorder(TableAgent):
    """Notes what was done at each decision, and learns nothing."""

    def __init__(self, n_cells: int, best: int = CONTINUE):
        table = np.zeros((n_cells, 2))
        table[:, best] = 1.0
        super().__init__(table, np.zeros((n_cells, 2)), np.arange(n_cells), 1.0)
        self.taken: list[tuple[int, int]] = []

    def learn(self, decision, action, reward, following, rate):
        self.taken.append((decision, action))
        return 0.0


def test_a_two_step_episode_worked_by_hand(make_episodes):
    bad = {"load": [0.0, 1.0], "label": "bad", "canary_share": [0.5, 1.0]}
    table, counts = np.array([[3.0, 2.0], [10.0, 4.0]]), np.zeros((2, 2))
    agent = TableAgent(table, counts, np.array([0, 1]), discount=0.9)
    explorer = Explorer(world(make_episodes(bad)), agent, np.random.default_rng(0))
    outcome = explorer.play(epsilon=0.0, rate=0.5)
    # Waiting costs 2 * 0.5: -1 + 0.9 * 10 - 3 = 5. At the end, missed: -200 - 10 = -210.
    assert table.tolist() == [[3 + 2.5, 2], [10 - 105, 4]]
    assert counts.tolist() == [[1, 0], [1, 0]]
    assert outcome == {"loss": (5 + 210) / 2, "reward": -201.0}
    # Now cell 1 rolls back: waiting -1 + 0.9 * 4 - 5.5 = -2.9; then 100 - 4 = 96.
    outcome = explorer.play(epsilon=0.0, rate=0.5)
    np.testing.assert_allclose(table, [[5.5 - 1.45, 2], [-95, 52]])
    assert outcome == {"loss": pytest.approx((2.9 + 96) / 2), "reward": 99.0}


def test_a_single_decision_has_no_future(make_episodes):
    good = {"load": [0.0, 1.0, 2.0], "label": "good"}
    table, counts = np.full((3, 2), 20.0), np.zeros((3, 2))
    agent = TableAgent(table, counts, np.arange(3), discount=0.9)
    environment = world(make_episodes(good), "single")
    assert environment.n_starts == 3
    explorer = Explorer(environment, agent, np.random.default_rng(0))
    rewards = [explorer.play(0.0, 0.1)["reward"] for _ in range(3)]
    assert rewards == [50.0] * 3
    # One pass visits each observation once: 20 + 0.1 * (50 - 20).
    assert table.tolist() == [[23, 20]] * 3
    assert counts.tolist() == [[1, 0]] * 3


def test_epsilon_0_is_greedy_and_epsilon_1_is_a_coin(make_episodes):
    environment = world(make_episodes({"load": [float(i) for i in range(8)], "label": "good"}))
    for best, length in ((CONTINUE, 8), (ROLLBACK, 1)):
        agent = Recorder(8, best)
        Explorer(environment, agent, np.random.default_rng(0)).play(0.0, 0.1)
        assert agent.taken == [(i, best) for i in range(length)]
    agents = [Recorder(8, CONTINUE), Recorder(8, ROLLBACK)]
    for agent in agents:
        explorer = Explorer(environment, agent, np.random.default_rng(0))
        for _ in range(300):
            explorer.play(1.0, 0.1)
    # What the agent prefers has no say, and half of the decisions roll back.
    assert agents[0].taken == agents[1].taken
    share = np.mean([action for _, action in agents[0].taken])
    assert share == pytest.approx(0.5, abs=0.08)


def test_an_end_nobody_knows_teaches_nothing(make_episodes):
    logged = {"load": [0.0, 1.0], "label": "bad", "action": ["CONTINUE", "ROLLBACK"]}
    table, counts = np.array([[3.0, 2.0], [10.0, 4.0]]), np.zeros((2, 2))
    agent = TableAgent(table, counts, np.array([0, 1]), discount=1.0)
    explorer = Explorer(world(make_episodes(logged)), agent, np.random.default_rng(0))
    outcome = explorer.play(epsilon=0.0, rate=0.5)
    # The first step learns -2 + 10 - 3 = 5; CONTINUE at the censored end is thrown away.
    assert table.tolist() == [[5.5, 2], [10, 4]]
    assert counts.tolist() == [[1, 0], [0, 0]]
    assert outcome == {"loss": 5.0, "reward": -2.0}


def test_an_episode_that_is_nothing_but_an_unknown_end_is_played_through(make_episodes):
    logged = {"load": [0.0], "label": "bad", "action": ["ROLLBACK"]}
    explorer = Explorer(world(make_episodes(logged)), Recorder(1), np.random.default_rng(0))
    assert explorer.play(epsilon=0.0, rate=0.5) == {"loss": 0.0, "reward": 0.0}


def many(make_episodes):
    return make_episodes(
        *({"load": [float(i), 9.0 - i], "label": ["good", "bad"][i % 2]} for i in range(10))
    )


def with_table(episodes):
    table, counts = np.zeros((20, 2), np.float32), np.zeros((20, 2), np.float32)
    learner = explore_with_table(world(episodes), SETTINGS, table, counts, np.arange(20), seed=5)
    return learner, [torch.from_numpy(table), torch.from_numpy(counts)]


def with_network(episodes):
    torch.manual_seed(0)
    network = small_network(200.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    dqn = DQN(network, DQNRule(target_update_steps=3), optimizer.step)
    learner = explore_with_network(world(episodes), SETTINGS, dqn, 200.0, 4, seed=5)
    return learner, [dqn.flat.values]


@pytest.mark.parametrize("make", [with_table, with_network])
def test_a_restored_explorer_goes_on_as_if_it_had_never_stopped(make, make_episodes):
    learner, weights = make(many(make_episodes))
    for number in range(13):
        learner.step(number, 0.3, 0.5)
    state = json.loads(json.dumps(learner.state()))
    tensors = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    halfway = [tensor.clone() for tensor in weights]
    played = [learner.step(number, 0.3, 0.5) for number in range(13, 40)]

    resumed, resumed_weights = make(many(make_episodes))
    for mine, saved in zip(resumed_weights, halfway, strict=True):
        mine.copy_(saved)
    for name, tensor in resumed.tensors().items():
        tensor.copy_(tensors[name])
    resumed.restore(state, 13)
    assert [resumed.step(number, 0.3, 0.5) for number in range(13, 40)] == played
    for mine, theirs in zip(resumed_weights, weights, strict=True):
        assert torch.equal(mine, theirs)


def test_a_checkpoint_of_something_else_cannot_be_restored(make_episodes):
    learner, _ = with_table(many(make_episodes))
    with pytest.raises(DeployError, match="the checkpoint's environment cannot be restored"):
        learner.restore({}, 0)


def test_a_network_learns_from_its_latest_steps_alone(make_episodes):
    episodes = many(make_episodes)
    environment = world(episodes)
    dqn = DQN(small_network(100.0), DQNRule(), lambda: None)
    agent = NetworkAgent(
        dqn, environment.inputs, 0.9, 100.0, 8, replay_size=3, random=np.random.default_rng(0)
    )
    for decision in range(5):
        agent.learn(decision, decision % 2, 10.0 * decision, None, rate=0.1)
    assert sorted(agent.memory[:, 0].tolist()) == [2, 3, 4]
    agent.learn(5, CONTINUE, -2.0, 6, rate=0.1)
    batch = agent._batch(agent.memory[[5 % 3, 4 % 3]])
    # Decision 5 went on to 6; decision 4, CONTINUE as well, ended with a reward of 40.
    expected = torch.from_numpy(environment.inputs[[5, 4, 6, 4]])
    torch.testing.assert_close(batch.inputs, expected)
    torch.testing.assert_close(batch.rewards, torch.tensor([[-0.02, 0.0], [0.4, 0.0]]))
    torch.testing.assert_close(batch.discounts, torch.tensor([0.9, 0.0]))
    assert batch.learnt.tolist() == [[1, 0], [1, 0]]
