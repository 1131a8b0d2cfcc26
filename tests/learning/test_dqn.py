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

from dataclasses import replace
from itertools import product
from math import log

import numpy as np
import pytest
import torch

from oumi_deploy.learning.dqn import DQN, Batch, DQNRule
from oumi_deploy.learning.network import QNetwork
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.rewards import Rewards

SQUARED = DQNRule(loss="squared", max_grad_norm=0.0)
FREE = np.zeros(1, dtype=int)


def two_weights(rule: DQNRule, step=lambda: None) -> DQN:
    """Log odds x log 3 and lead x, ROLLBACK worth -1 to 1: (0, 0) at x = 0, (-0.5, 0.5) at 1.

    The target network has log odds -x log 3 and lead -2 x: (1.5, -0.5) at x = 1.
    """
    network = QNetwork(FREE, [], Bounds(rollback=(-1, 1), going_on=(-10, 10)))
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.tensor([[log(3)], [1.0]]))  # pyright: ignore
        network.layers[0].bias.zero_()  # pyright: ignore
    dqn = DQN(network, rule, step)
    dqn.target.copy_(torch.tensor([-log(3), -2.0, 0.0, 0.0]))
    return dqn


def one_decision(discount=0.8, learnt=(1.0, 1.0)) -> Batch:
    """At x = 0; CONTINUE leads to x = 1, and ROLLBACK pays what a belief of 0.375 does."""
    return Batch(
        inputs=torch.tensor([[0.0], [1.0]]),
        rewards=torch.tensor([[0.5, -0.25]]),
        discounts=torch.tensor([discount]),
        learnt=torch.tensor([learnt]),
        logged=torch.tensor([[1.0, 0.0]]),
    )


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        # The learnt network prefers ROLLBACK at x = 1, which the target values at -0.5.
        (replace(SQUARED, double=True), 0.5 - 0.8 * 0.5),
        # The target network prefers CONTINUE, at 1.5.
        (replace(SQUARED, double=False), 0.5 + 0.8 * 1.5),
        # The learnt network alone says 0.5.
        (replace(SQUARED, target_network="none"), 0.5 + 0.8 * 0.5),
        (replace(SQUARED, target_network="none", double=False), 0.5 + 0.8 * 0.5),
    ],
)
def test_the_target_worked_by_hand(rule, target):
    dqn = two_weights(rule)
    loss = dqn.update(one_decision())
    # At x = 0 weights have no gradient. The belief of 0.5 is 0.125 too high; Q(CONTINUE) is 0, and
    # falls as the lead rises.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, 0.125, target]))
    # The cross entropy of a belief of 0.5 is log 2, whatever is true.
    assert float(loss) == pytest.approx(target**2 / 2 + log(2))


def test_what_follows_counts_within_its_bounds():
    dqn = two_weights(replace(SQUARED, double=False))
    dqn._going_on = [-10.0, 1.0]
    dqn.update(one_decision())
    # The target network's 1.5 is more than the rewards allow.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, 0.125, 0.5 + 0.8]))


def test_nothing_follows_the_end():
    dqn = two_weights(SQUARED)
    dqn.update(one_decision(discount=0.0))
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, 0.125, 0.5]))


@pytest.mark.parametrize("learnt", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_an_unknown_outcome_teaches_nothing(learnt):
    dqn = two_weights(SQUARED)
    loss = dqn.update(one_decision(learnt=learnt))
    expected = torch.tensor([0.0, 0.0, 0.125 * learnt[1], 0.1 * learnt[0]])
    torch.testing.assert_close(dqn.flat.grads, expected)
    assert float(loss) == pytest.approx(learnt[0] * 0.1**2 / 2 + learnt[1] * log(2))


def test_the_huber_loss_is_linear_beyond_delta():
    dqn = two_weights(replace(SQUARED, loss="huber", huber_delta=0.5, double=False))
    loss = dqn.update(one_decision())
    # The error of 1.7 counts 0.5 * (1.7 - 0.25) with a slope of 0.5.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, 0.125, 0.5]))
    assert float(loss) == pytest.approx(0.725 + log(2))


def test_the_conservative_term_pulls_towards_the_logged_action():
    dqn = two_weights(replace(SQUARED, cql_weight=3.0))
    loss = dqn.update(one_decision(learnt=(0.0, 0.0)))
    # softmax(0, 0) - logged = -0.5 for CONTINUE, three times, against the lead; it is not part of
    # the loss returned, and has no say in the belief.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, 0.0, 1.5]))
    assert float(loss) == 0.0


def test_the_gradient_is_bounded_by_its_norm():
    dqn = two_weights(replace(SQUARED, max_grad_norm=0.05))
    dqn.update(one_decision())
    assert float(dqn.flat.grads.norm()) == pytest.approx(0.05, rel=1e-4)
    assert float(dqn.flat.grads[2] / dqn.flat.grads[3]) == pytest.approx(0.125 / 0.1)
    generous = two_weights(replace(SQUARED, max_grad_norm=100.0))
    generous.update(one_decision())
    torch.testing.assert_close(generous.flat.grads, torch.tensor([0.0, 0.0, 0.125, 0.1]))


@pytest.mark.parametrize(
    ("loss", "cql_weight", "scale", "double"),
    list(product(["squared", "huber"], [0.0, 0.7], [1.0, 200.0], [False, True])),
)
def test_the_update_follows_the_gradient_of_its_documented_loss(loss, cql_weight, scale, double):
    torch.manual_seed(1)
    # Wide enough that no bound on CONTINUE cuts what is learnt from.
    bounds = Bounds(rollback=(-50, 100), going_on=(-1e5, 1e5))
    signs = np.array([1, -1, 0])
    network, twin, frozen = (QNetwork(signs, [8, 5], bounds, scale).double() for _ in range(3))
    twin.load_state_dict(network.state_dict())
    is_bad = torch.rand(12).double()
    paid_by_continue = 2 * torch.randn(12).double()
    batch = Batch(
        inputs=torch.randn(24, 3).double(),
        rewards=torch.stack([paid_by_continue, (150 * is_bad - 50) / scale], dim=1),
        discounts=torch.rand(12).double() * (torch.arange(12) % 3 > 0),
        learnt=torch.randint(2, (12, 2)).double(),
        logged=torch.eye(2).double()[torch.randint(2, (12,))],
    )
    rule = DQNRule(
        double=double, loss=loss, huber_delta=0.6, cql_weight=cql_weight, max_grad_norm=0.0
    )
    dqn = DQN(network, rule, lambda: None)
    dqn.target.copy_(torch.cat([p.detach().reshape(-1) for p in frozen.parameters()]))
    returned = dqn.update(batch)

    log_odds, lead = twin.outputs(batch.inputs[:12]).T
    q_rollback = (150 * torch.sigmoid(log_odds) - 50).detach()
    q = torch.stack([q_rollback - lead, q_rollback], dim=1) / scale
    following = batch.inputs[12:]
    best = (twin if double else frozen)(following).argmax(1, keepdim=True)
    value = frozen(following).gather(1, best)[:, 0].detach() / scale
    target = batch.rewards[:, 0] + batch.discounts * value
    size = (q[:, 0] - target) ** 2 / 2
    if loss == "huber":
        size = torch.nn.functional.huber_loss(q[:, 0], target, reduction="none", delta=0.6)
    entropy = -is_bad * torch.nn.functional.logsigmoid(log_odds)
    entropy -= (1 - is_bad) * torch.nn.functional.logsigmoid(-log_odds)
    known_continue, known_rollback = batch.learnt.T
    learnt = (size * known_continue + entropy * known_rollback).sum() / 12
    conservative = (torch.logsumexp(q, 1) - (q * batch.logged).sum(1)).mean()
    (learnt + cql_weight * conservative).backward()
    assert returned.item() == pytest.approx(learnt.item(), rel=1e-9)
    grads = torch.cat([p.grad.reshape(-1) for p in twin.parameters() if p.grad is not None])
    torch.testing.assert_close(dqn.flat.grads, grads, rtol=1e-9, atol=1e-12)


def test_every_weight_keeps_its_sign_whatever_is_learnt():
    torch.manual_seed(2)
    signs, bounds = np.array([1, -1, 0, 0]), Bounds.of(Rewards(), 5)
    network = QNetwork(signs, [6, 4], bounds, scale=200.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=5.0)
    dqn = DQN(network, DQNRule(max_grad_norm=0.0), optimizer.step)
    before = torch.randn(64, 4)
    for _ in range(30):
        # What is learnt says the opposite: good where the first is high and the second low.
        inputs = torch.randn(64, 4)
        is_bad = torch.sigmoid(4 * inputs[:, 1] - 4 * inputs[:, 0])
        rewards = torch.stack([50 - 250 * is_bad, 150 * is_bad - 50], dim=1) / 200
        none, both = torch.zeros(64), torch.ones(64, 2)
        dqn.update(Batch(inputs, rewards, none, both, both))
        for layer, sign in zip(network.linear_layers(), network.signs, strict=True):
            assert (layer.weight.detach() * sign >= 0).all()
        q = network(before)
        worse = network(before + torch.tensor([0.7, -0.3, 0.0, 0.0]))
        assert (worse[:, 1] >= q[:, 1]).all()
        assert (worse[:, 1] - worse[:, 0] >= q[:, 1] - q[:, 0] - 1e-9).all()
    # The inputs without a sign are free: both signs are among their weights.
    free = network.linear_layers()[0].weight[:, 2:]
    assert (free > 0).any()
    assert (free < 0).any()


def test_weights_of_members_that_share_an_optimiser_keep_their_signs_too():
    network = QNetwork(np.array([1]), [], Bounds.of(Rewards(), 5))
    dqn = DQN(network, DQNRule(), lambda: None)
    dqn.flat.values.copy_(torch.tensor([-2.0, 3.0, -1.0, 1.0]))
    dqn.follow()
    # A weight of the wrong sign goes to the nearest that is allowed; biases are free.
    assert dqn.flat.values.tolist() == [0.0, 3.0, -1.0, 1.0]


def moving(rule: DQNRule) -> DQN:
    """Every update adds 1 to all weights."""
    dqn = two_weights(rule, lambda: dqn.flat.values.add_(1.0))
    return dqn


def test_a_hard_target_is_copied_every_so_many_steps():
    dqn = moving(replace(SQUARED, target_update_steps=2))
    targets = []
    for _ in range(4):
        dqn.update(one_decision())
        targets.append(dqn.target.tolist())
    start = [-log(3), -2.0, 0.0, 0.0]
    # From (log 3, 1, 0, 0), two and four steps of 1.
    two, four = ([log(3) + n, 1.0 + n, n, n] for n in (2.0, 4.0))
    np.testing.assert_allclose(targets, [start, two, two, four], rtol=1e-6)


def test_a_soft_target_moves_a_share_of_the_way():
    dqn = moving(replace(SQUARED, target_network="soft", target_tau=0.25))
    dqn.update(one_decision())
    # From (-log 3, -2, 0, 0) a quarter of the way to (log 3 + 1, 2, 1, 1).
    once = torch.tensor([-0.75 * log(3) + 0.25 * (log(3) + 1), -1.0, 0.25, 0.25])
    torch.testing.assert_close(dqn.target, once)
    dqn.update(one_decision())
    then = torch.tensor([log(3) + 2, 3.0, 2.0, 2.0])
    torch.testing.assert_close(dqn.target, 0.75 * once + 0.25 * then)
