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

import pytest
import torch

from oumi_deploy.learning.dqn import DQN, Batch, DQNRule
from oumi_deploy.learning.network import QNetwork

SQUARED = DQNRule(loss="squared", max_grad_norm=0.0)


def two_weights(rule: DQNRule, step=lambda: None) -> DQN:
    """Q(x) = (x, 2 x); the target network says (10 x, 5 x)."""
    network = QNetwork(1, [])
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.tensor([[1.0], [2.0]]))  # pyright: ignore
        network.layers[0].bias.zero_()  # pyright: ignore
    dqn = DQN(network, rule, step)
    dqn.target.copy_(torch.tensor([10.0, 5.0, 0.0, 0.0]))
    return dqn


def one_decision(discount=0.8, learnt=(1.0, 1.0)) -> Batch:
    """At x = 0, where both Q-values are 0; CONTINUE leads to x = 1."""
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
        # The learnt network prefers ROLLBACK at x = 1 (2 to 1), which the target values at 5.
        (replace(SQUARED, double=True), 0.5 + 0.8 * 5),
        # The target network prefers CONTINUE, at 10.
        (replace(SQUARED, double=False), 0.5 + 0.8 * 10),
        # The learnt network alone says 2.
        (replace(SQUARED, target_network="none"), 0.5 + 0.8 * 2),
        (replace(SQUARED, target_network="none", double=False), 0.5 + 0.8 * 2),
    ],
)
def test_the_target_worked_by_hand(rule, target):
    dqn = two_weights(rule)
    loss = dqn.update(one_decision())
    # At x = 0 the gradient of a bias is its error, Q - y, and that of a weight is 0.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, -target, 0.25]))
    assert float(loss) == pytest.approx((target**2 + 0.25**2) / 2)


def test_nothing_follows_the_end():
    dqn = two_weights(SQUARED)
    dqn.update(one_decision(discount=0.0))
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, -0.5, 0.25]))


@pytest.mark.parametrize("learnt", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_an_unknown_outcome_teaches_nothing(learnt):
    dqn = two_weights(SQUARED)
    loss = dqn.update(one_decision(learnt=learnt))
    expected = torch.tensor([0.0, 0.0, -4.5 * learnt[0], 0.25 * learnt[1]])
    torch.testing.assert_close(dqn.flat.grads, expected)
    assert float(loss) == pytest.approx((learnt[0] * 4.5**2 + learnt[1] * 0.25**2) / 2)


def test_the_huber_loss_is_linear_beyond_delta():
    dqn = two_weights(replace(SQUARED, loss="huber", huber_delta=2.0))
    loss = dqn.update(one_decision())
    # The error of 4.5 counts 2 * (4.5 - 1) with a slope of 2, that of 0.25 as a square.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, -2.0, 0.25]))
    assert float(loss) == pytest.approx(7.0 + 0.25**2 / 2)


def test_the_conservative_term_pulls_towards_the_logged_action():
    dqn = two_weights(replace(SQUARED, cql_weight=3.0))
    loss = dqn.update(one_decision(learnt=(0.0, 0.0)))
    # softmax(0, 0) - logged = (-0.5, 0.5), three times; it is not part of the loss returned.
    torch.testing.assert_close(dqn.flat.grads, torch.tensor([0.0, 0.0, -1.5, 1.5]))
    assert float(loss) == 0.0


def test_the_gradient_is_bounded_by_its_norm():
    dqn = two_weights(replace(SQUARED, max_grad_norm=0.5))
    dqn.update(one_decision())
    assert float(dqn.flat.grads.norm()) == pytest.approx(0.5, rel=1e-5)
    assert dqn.flat.grads[2] / dqn.flat.grads[3] == pytest.approx(-4.5 / 0.25)
    generous = two_weights(replace(SQUARED, max_grad_norm=100.0))
    generous.update(one_decision())
    torch.testing.assert_close(generous.flat.grads, torch.tensor([0.0, 0.0, -4.5, 0.25]))


@pytest.mark.parametrize(
    ("loss", "cql_weight", "dueling", "double"),
    list(product(["squared", "huber"], [0.0, 0.7], [False, True], [False, True])),
)
def test_the_update_follows_the_gradient_of_its_documented_loss(loss, cql_weight, dueling, double):
    torch.manual_seed(1)
    network = QNetwork(3, [8, 5], dueling=dueling).double()
    twin, frozen = (QNetwork(3, [8, 5], dueling=dueling).double() for _ in range(2))
    twin.load_state_dict(network.state_dict())
    batch = Batch(
        inputs=torch.randn(24, 3).double(),
        rewards=2 * torch.randn(12, 2).double(),
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

    q, following = twin(batch.inputs[:12]), batch.inputs[12:]
    best = (twin if double else frozen)(following).argmax(1, keepdim=True)
    value = frozen(following).gather(1, best)[:, 0].detach()
    target = batch.rewards + torch.stack([batch.discounts * value, torch.zeros(12)], dim=1)
    size = (q - target) ** 2 / 2
    if loss == "huber":
        size = torch.nn.functional.huber_loss(q, target, reduction="none", delta=0.6)
    difference = (size * batch.learnt).sum() / 12
    conservative = (torch.logsumexp(q, 1) - (q * batch.logged).sum(1)).mean()
    (difference + cql_weight * conservative).backward()
    assert returned.item() == pytest.approx(difference.item(), abs=1e-12)
    grads = torch.cat([p.grad.reshape(-1) for p in twin.parameters() if p.grad is not None])
    torch.testing.assert_close(dqn.flat.grads, grads, rtol=0, atol=1e-12)


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
    assert targets == [[10, 5, 0, 0], [3, 4, 2, 2], [3, 4, 2, 2], [5, 6, 4, 4]]


def test_a_soft_target_moves_a_share_of_the_way():
    dqn = moving(replace(SQUARED, target_network="soft", target_tau=0.25))
    dqn.update(one_decision())
    # From (10, 5, 0, 0) a quarter of the way to (2, 3, 1, 1).
    torch.testing.assert_close(dqn.target, torch.tensor([8.0, 4.5, 0.25, 0.25]))
    dqn.update(one_decision())
    torch.testing.assert_close(dqn.target, torch.tensor([6.75, 4.375, 0.6875, 0.6875]))
