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

"""Members of an ensemble learn as if each were alone."""

import copy

import numpy as np
import pytest
import torch

from oumi_deploy.learning.dqn import DQN, DQNRule
from oumi_deploy.learning.learners import LoggedNetwork
from oumi_deploy.learning.network import QNetwork
from oumi_deploy.learning.replay import Replay
from oumi_deploy.learning.transitions import make_transitions
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import Rewards

RULE = DQNRule(target_network="soft", target_tau=0.1)


@pytest.fixture
def replay(make_episodes) -> Replay:
    rows = [
        {"error_rate": [0.1 * i, 0.2, 0.3], "label": label, "canary_share": 0.5}
        for i in range(6)
        for label in ("good", "bad")
    ]
    episodes = make_episodes(*rows)
    encoder = fit_encoder(["error_rate", "error_rate.mean"], episodes)
    inputs = encoder.standardise(encode_episodes(encoder.state, episodes))
    transitions = make_transitions(episodes, Rewards(), "sequential", 1.0, 1)
    return Replay(inputs, transitions, batch_size=8, scale=200.0, seed=2)


def make_members(n: int) -> list[QNetwork]:
    torch.manual_seed(0)
    signs = np.array([1, 1, 0, 0])
    return [QNetwork(signs, [6], Bounds.of(Rewards(), 3), 200.0) for _ in range(n)]


def learner_of(networks: list[QNetwork], replay: Replay) -> LoggedNetwork:
    parameters = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    members = [DQN(network, RULE, optimizer.step) for network in networks]
    return LoggedNetwork(members, replay, optimizer.step)


def weights(network: QNetwork) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def test_the_first_member_learns_what_it_would_alone(replay):
    together = make_members(3)
    alone = copy.deepcopy(together[0])
    joint, single = learner_of(together, replay), learner_of([alone], replay)
    for step in range(20):
        joint.step(step, 0.01, 0.0)
        single.step(step, 0.01, 0.0)
    torch.testing.assert_close(weights(together[0]), weights(alone))
    # The others started elsewhere and saw the decisions in another order.
    assert not torch.allclose(weights(together[1]), weights(together[2]))


def test_an_ensemble_goes_on_where_it_was_stopped(replay):
    whole = make_members(2)
    learner = learner_of(whole, replay)
    for step in range(6):
        learner.step(step, 0.01, 0.0)
    targets = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    assert set(targets) == {"target_0", "target_1"}
    half = copy.deepcopy(whole)
    resumed = learner_of(half, replay)
    for name, tensor in resumed.tensors().items():
        tensor.copy_(targets[name])
    resumed.restore({}, 6)
    # With the optimiser's state left out on both sides the two go the same way.
    fresh = learner_of(whole, replay)
    for name, tensor in fresh.tensors().items():
        tensor.copy_(targets[name])
    fresh.restore({}, 6)
    for step in range(6, 12):
        resumed.step(step, 0.01, 0.0)
        fresh.step(step, 0.01, 0.0)
    for one, other in zip(half, whole, strict=True):
        torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)
