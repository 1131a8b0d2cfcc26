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

"""The four ways to learn, each a `step` that the trainer calls until it has had enough."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import torch

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.learning.dqn import DQN, Batch, DQNRule
from oumi_deploy.learning.explore import Explorer, NetworkAgent, TableAgent
from oumi_deploy.learning.replay import Replay
from oumi_deploy.learning.settings import AlgorithmSettings
from oumi_deploy.learning.table import ReplayedTable
from oumi_deploy.learning.transitions import Transitions, make_transitions
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.environment import DeploymentEnvironment


class Learner(Protocol):
    """Something that learns step by step and can be stopped and resumed between steps."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the experience."""
        ...

    def step(self, number: int, rate: float, epsilon: float) -> dict[str, Any]:
        """Does step `number`, counted from 0, and returns its `loss` and what else it knows."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns what a checkpoint must hold beside model and optimiser, as tensors to fill."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns the same as plain values."""
        ...

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Takes `state` back, after `tensors` were filled, to go on at `step`."""
        ...


class LoggedTable:
    """A table over logged episodes; a step is a pass over all decisions."""

    steps_per_epoch = 1

    def __init__(self, table: ReplayedTable):
        self._table = table

    def step(self, number: int, rate: float, epsilon: float) -> dict[str, Any]:
        """Does one sweep."""
        return {"loss": self._table.sweep(rate)}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns nothing: the table itself is the model."""
        return {}

    def state(self) -> dict[str, Any]:
        """Returns nothing: a sweep depends on the table alone."""
        return {}

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Has nothing to take back."""


class LoggedNetwork:
    """Networks over logged episodes; a step is a gradient step of each on a batch of its own.

    Args:
        members: The update rule of each member of an ensemble, or of the one network.
        replay: The decisions.
        optimizer_step: Applies the gradients of all.
    """

    def __init__(
        self, members: Sequence[DQN], replay: Replay, optimizer_step: Callable[[], object]
    ):
        self._members, self._replay, self._optimizer_step = members, replay, optimizer_step
        self._batches = self._batches_from(0)

    def _batches_from(self, step: int) -> list[Iterator[Batch]]:
        return [self._replay.batches(step, stream) for stream in range(len(self._members))]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the decisions."""
        return self._replay.batches_per_epoch

    def step(self, number: int, rate: float, epsilon: float) -> dict[str, Any]:
        """Does one gradient step; the optimiser holds the learning rate."""
        pairs = zip(self._members, self._batches, strict=True)
        losses = [member.find_gradient(next(batches)) for member, batches in pairs]
        self._optimizer_step()
        for member in self._members:
            member.follow()
        return {"loss": torch.stack(losses).mean() if len(losses) > 1 else losses[0]}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the target networks."""
        return {f"target_{i}": member.target for i, member in enumerate(self._members)}

    def state(self) -> dict[str, Any]:
        """Returns nothing: the order of the batches follows from the step."""
        return {}

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Goes to the batches of that step."""
        for member in self._members:
            member.n_updates = step
        self._batches = self._batches_from(step)


class Explored:
    """A table or a network in the environment; a step is one episode of the environment."""

    def __init__(self, explorer: Explorer):
        self._explorer = explorer

    @property
    def steps_per_epoch(self) -> int:
        """Environment episodes in one pass over the releases."""
        return self._explorer.environment.n_starts

    def step(self, number: int, rate: float, epsilon: float) -> dict[str, Any]:
        """Plays one episode of the environment."""
        return {**self._explorer.play(epsilon, rate), "epsilon": epsilon}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns a network's target and its memory of steps."""
        agent = self._explorer.agent
        if not isinstance(agent, NetworkAgent):
            return {}
        return {"target": agent.dqn.target, "memory": torch.from_numpy(agent.memory)}

    def state(self) -> dict[str, Any]:
        """Returns the sources of randomness and how far the memory is filled."""
        state = self._explorer.state()
        agent = self._explorer.agent
        if isinstance(agent, NetworkAgent):
            state |= {"n_steps": agent.n_steps, "n_updates": agent.dqn.n_updates}
            state |= {"memory": agent.random.bit_generator.state}
        return state

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Goes on where `state` was taken."""
        self._explorer.restore(state)
        agent = self._explorer.agent
        if isinstance(agent, NetworkAgent):
            agent.n_steps, agent.dqn.n_updates = state["n_steps"], state["n_updates"]
            agent.random.bit_generator.state = state["memory"]


def play_environment(
    episodes: Episodes, encoder: StateEncoder, settings: AlgorithmSettings, seed: int
) -> DeploymentEnvironment:
    """Returns the environment that the settings ask for, at the start of a pass."""
    environment = DeploymentEnvironment(episodes, encoder, settings.form, settings.rewards)
    environment.reset(seed=seed)
    environment.restart()
    return environment


def transitions_of(episodes: Episodes, settings: AlgorithmSettings) -> Transitions:
    """Returns the transitions that the settings ask for."""
    s = settings
    return make_transitions(episodes, s.rewards, s.form, s.discount, s.n_steps)


def rule_of(settings: AlgorithmSettings, max_grad_norm: float) -> DQNRule:
    """Returns the terms of a network's update that the settings ask for."""
    names = {f.name for f in fields(DQNRule)} - {"max_grad_norm"}
    return DQNRule(max_grad_norm=max_grad_norm, **{n: getattr(settings, n) for n in names})


def explore_with_table(
    environment: DeploymentEnvironment,
    settings: AlgorithmSettings,
    table: np.ndarray,
    counts: np.ndarray,
    cells: np.ndarray,
    seed: int,
) -> Explored:
    """Returns a learner that plays with a table; `cells` are those of the environment."""
    agent = TableAgent(table, counts, cells, settings.discount)
    return Explored(Explorer(environment, agent, np.random.default_rng([seed, 1])))


def explore_with_network(
    environment: DeploymentEnvironment,
    settings: AlgorithmSettings,
    dqn: DQN,
    scale: float,
    batch_size: int,
    seed: int,
) -> Explored:
    """Returns a learner that plays with a network."""
    agent = NetworkAgent(
        dqn,
        environment.inputs,
        discount=settings.discount,
        scale=scale,
        batch_size=batch_size,
        replay_size=settings.replay_size,
        random=np.random.default_rng([seed, 2]),
    )
    return Explored(Explorer(environment, agent, np.random.default_rng([seed, 1])))
