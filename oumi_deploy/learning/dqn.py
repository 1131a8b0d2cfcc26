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

"""Deep Q-learning over replayed transitions: plain or double, with a target network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from oumi_deploy.learning.network import FlatNetwork, QNetwork


@dataclass(frozen=True)
class DQNRule:
    """The terms of the update.

    Attributes:
        double: Whether the learnt network picks the next action and the target network values it
            (van Hasselt et al., 2016), or the target network does both (Mnih et al., 2015).
        target_network: `hard` copies the network every `target_update_steps`, `soft` moves the
            target by `target_tau` after each step, `none` uses the learnt network itself.
        target_update_steps: Gradient steps between hard copies.
        target_tau: Share of the way of a soft update.
        loss: `huber` (linear beyond `huber_delta`) or `squared`.
        huber_delta: In units of scaled rewards.
        cql_weight: Weight of the conservative term (Kumar et al., 2020).
        max_grad_norm: Bound on the gradient's norm, 0 for none.
    """

    double: bool = True
    target_network: Literal["hard", "soft", "none"] = "hard"
    target_update_steps: int = 100
    target_tau: float = 0.005
    loss: Literal["huber", "squared"] = "huber"
    huber_delta: float = 1.0
    cql_weight: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True, eq=False)
class Batch:
    """Decisions to learn from, n of them; rewards are divided by the network's scale.

    Attributes:
        inputs: Encoded states, then the states that follow CONTINUE, shape (2 n, n_inputs); the
            latter may be left out, shape (n, n_inputs), where every discount is 0.
        rewards: Of CONTINUE and of ROLLBACK, shape (n, 2).
        discounts: Of what follows CONTINUE, shape (n,).
        learnt: 1 where an action's outcome is known, else 0, shape (n, 2).
        logged: 1 at the action of the log, shape (n, 2).
    """

    inputs: torch.Tensor
    rewards: torch.Tensor
    discounts: torch.Tensor
    learnt: torch.Tensor
    logged: torch.Tensor


class DQN:
    """Learns a Q-network from batches of decisions.

        y(CONTINUE) = r + discount * Q_target(s', argmax_a Q(s', a))     (double)
        y(ROLLBACK) = r
        L = mean over the batch, of the known actions, of
              loss(Q(s, CONTINUE) - y(CONTINUE))
            + cross entropy of the belief s(u) with (y(ROLLBACK) - least) / (most - least)
            + cql_weight * (log sum_a exp Q(s, a) - Q(s, logged action))

    Q(ROLLBACK), from least to most, follows from the belief, see `problem.bounds`; the cross
    entropy is least where it is the mean of y(ROLLBACK), as a squared error would be, and does not
    go flat where the belief is far off. Q(CONTINUE) = Q(ROLLBACK) - d moves d alone: what going on
    is worth has no say in what is believed. After each step every weight is back within the sign
    that it must have.

    Args:
        network: The network, changed in place.
        rule: The terms of the update.
        optimizer_step: Applies the gradients that stand in the parameters.
    """

    def __init__(self, network: QNetwork, rule: DQNRule, optimizer_step: Callable[[], object]):
        self.rule = rule
        (least, most), scale = network.bounds.rollback, network.scale
        self._least, self._span = least / scale, (most - least) / scale
        self._going_on = [bound / scale for bound in network.bounds.going_on]
        self.flat = FlatNetwork(network)
        self.target = self.flat.values.clone()
        self._target_layers = self.flat.split(self.target)
        self._optimizer_step = optimizer_step
        self.n_updates = 0
        self._online_room, self._room = self.flat.room(0), self.flat.room(0)

    def update(self, batch: Batch) -> torch.Tensor:
        """Does one gradient step.

        Returns:
            The loss without the conservative term, a tensor of no dimensions.
        """
        loss = self.find_gradient(batch)
        self._optimizer_step()
        self.follow()
        return loss

    @torch.no_grad()
    def find_gradient(self, batch: Batch) -> torch.Tensor:
        """Leaves the gradient in the parameters, for an optimiser shared with others to apply.

        Returns:
            The loss, see `update`.
        """
        n = len(batch.discounts)
        looks_ahead = len(batch.inputs) > n
        inputs = batch.inputs if looks_ahead and self._online_next else batch.inputs[:n]
        self._make_room(len(inputs), n)
        outputs, seen = self.flat.forward(inputs, room=self._online_room)
        belief = torch.sigmoid(outputs[:n, 0])
        error = self._least + self._span * belief - outputs[:n, 1] - batch.rewards[:, 0]
        if looks_ahead:
            following = self._next_value(batch.inputs[n:], outputs[n:])
            error.addcmul_(batch.discounts, following, value=-1)
        error.mul_(batch.learnt[:, 0])
        slope = error
        if self.rule.loss == "huber":
            slope = error.clamp(-self.rule.huber_delta, self.rule.huber_delta)
        # Half the square inside delta, linear outside: slope * (error - slope / 2) is both.
        loss = torch.dot(slope, torch.sub(error, slope, alpha=0.5)) / n
        is_bad = (batch.rewards[:, 1] - self._least) / self._span
        known = batch.learnt[:, 1]
        loss += torch.nn.functional.binary_cross_entropy_with_logits(
            outputs[:n, 0], is_bad, weight=known
        )
        if self.rule.cql_weight:
            q_values = self._q_values(outputs[:n])
            away = torch.softmax(q_values, 1)[:, 0] - batch.logged[:, 0]
            slope = slope + self.rule.cql_weight * away
        gradient = torch.stack([(belief - is_bad) * known, -slope], dim=1)
        self.flat.backward(gradient / n, [x[:n] for x in seen], self._room)
        self._clip_gradient()
        return loss

    @torch.no_grad()
    def follow(self) -> None:
        """Counts a step that was taken, restores the weights' signs, has the target follow."""
        self.flat.keep_signs()
        self.n_updates += 1
        self._move_target()

    def _make_room(self, n_online: int, n: int) -> None:
        """Keeps the memory of the last update where the batch is as large.

        Fresh memory comes in pages that the system must clear, which takes as long as the
        arithmetic on them.
        """
        if len(self._online_room[0]) != n_online:
            self._online_room = self.flat.room(n_online)
        if len(self._room[0]) != n:
            self._room = self.flat.room(n)

    @property
    def _online_next(self) -> bool:
        return self.rule.double or self.rule.target_network == "none"

    def _next_value(self, following: torch.Tensor, online: torch.Tensor) -> torch.Tensor:
        if self.rule.target_network == "none":
            return self._q_values(online).amax(1)
        outputs, _ = self.flat.forward(following, self._target_layers, self._room)
        target_q = self._q_values(outputs)
        if not self.rule.double:
            return target_q.amax(1)
        chosen = self._q_values(online).argmax(1, keepdim=True)
        return target_q.gather(1, chosen).squeeze(1)

    def _q_values(self, outputs: torch.Tensor) -> torch.Tensor:
        """Returns scaled Q-values (n, n_actions) from log odds and scaled leads."""
        q_rollback = self._least + self._span * torch.sigmoid(outputs[:, 0])
        q_continue = (q_rollback - outputs[:, 1]).clamp(*self._going_on)
        return torch.stack([q_continue, q_rollback], dim=1)

    @torch.no_grad()
    def q_values(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns scaled Q-values (n, n_actions) of encoded states, shape (n, n_inputs)."""
        return self._q_values(self.flat.forward(inputs)[0])

    def _clip_gradient(self) -> None:
        if self.rule.max_grad_norm:
            norm = torch.linalg.vector_norm(self.flat.grads).item()
            if norm > self.rule.max_grad_norm:
                self.flat.grads.mul_(self.rule.max_grad_norm / (norm + 1e-6))

    def _move_target(self) -> None:
        if self.rule.target_network == "soft":
            self.target.lerp_(self.flat.values, self.rule.target_tau)
        elif self.rule.target_network == "hard" and (
            self.n_updates % self.rule.target_update_steps == 0
        ):
            self.target.copy_(self.flat.values)
