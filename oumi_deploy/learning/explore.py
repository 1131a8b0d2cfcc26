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

"""Learning in the environment: epsilon-greedy, one update a step, one episode at a time."""

from typing import Any, Protocol

import numpy as np
import torch

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.dqn import DQN, Batch
from oumi_deploy.learning.table import q_learning_update
from oumi_deploy.problem.environment import DeploymentEnvironment
from oumi_deploy.problem.rewards import Action


class Agent(Protocol):
    """Something that values actions and learns from a step."""

    def q_values(self, decision: int) -> np.ndarray:
        """Returns Q-values of shape (n_actions,) at a decision of the environment."""
        ...

    def learn(
        self, decision: int, action: int, reward: float, following: int | None, rate: float
    ) -> float:
        """Learns from one step and returns the size of its error."""
        ...


class TableAgent:
    """The textbook's agent: a table and one-step updates.

    Args:
        table: Q-values, shape (n_cells, n_actions), learnt in place.
        counts: Updates of each entry, same shape.
        cells: Cell of each decision of the environment.
        discount: Factor on what follows.
    """

    def __init__(self, table: np.ndarray, counts: np.ndarray, cells: np.ndarray, discount: float):
        self.table, self.counts, self.cells, self.discount = table, counts, cells, discount

    def q_values(self, decision: int) -> np.ndarray:
        """Looks the decision's cell up."""
        return self.table[self.cells[decision]]

    def learn(
        self, decision: int, action: int, reward: float, following: int | None, rate: float
    ) -> float:
        """Updates one entry."""
        next_cell = None if following is None else int(self.cells[following])
        cell = int(self.cells[decision])
        return abs(
            q_learning_update(
                self.table, self.counts, cell, action, reward, next_cell, rate, self.discount
            )
        )


class NetworkAgent:
    """A network that learns from a memory of its latest steps, one batch a step.

    Args:
        dqn: The network's update rule.
        inputs: Encoded states of the environment's decisions, shape (n, n_inputs).
        discount: Factor on what follows.
        scale: What rewards are divided by.
        batch_size: Steps drawn from the memory for an update.
        replay_size: Steps remembered.
    """

    def __init__(
        self,
        dqn: DQN,
        inputs: np.ndarray,
        discount: float,
        scale: float,
        batch_size: int,
        replay_size: int,
        random: np.random.Generator,
    ):
        self.dqn, self.discount, self.scale = dqn, discount, scale
        self.batch_size, self.random = batch_size, random
        self.inputs = torch.from_numpy(inputs).to(dqn.target.device)
        # decision, action, reward, following (-1 at the end)
        self.memory = np.zeros((replay_size, 4))
        self.n_steps = 0

    def q_values(self, decision: int) -> np.ndarray:
        """Runs one state through the network."""
        return self.dqn.q_values(self.inputs[decision : decision + 1])[0].cpu().numpy()

    def learn(
        self, decision: int, action: int, reward: float, following: int | None, rate: float
    ) -> float:
        """Remembers the step and learns from a batch of those remembered."""
        following = -1 if following is None else following
        self.memory[self.n_steps % len(self.memory)] = (decision, action, reward, following)
        self.n_steps += 1
        held = min(self.n_steps, len(self.memory))
        steps = self.memory[self.random.integers(held, size=min(self.batch_size, held))]
        return float(self.dqn.update(self._batch(steps)))

    def _batch(self, steps: np.ndarray) -> Batch:
        decisions, actions = steps[:, 0].astype(np.int64), steps[:, 1].astype(np.int64)
        following = steps[:, 3].astype(np.int64)
        ends = following < 0
        taken = np.eye(len(Action), dtype=np.float32)[actions]
        rows = np.concatenate([decisions, np.where(ends, decisions, following)])
        device = self.inputs.device
        return Batch(
            inputs=self.inputs[torch.from_numpy(rows).to(device)],
            rewards=_tensor(taken * (steps[:, 2:3] / self.scale), device),
            discounts=_tensor(np.where(ends, 0.0, self.discount), device),
            learnt=_tensor(taken, device),
            logged=_tensor(taken, device),
        )


def _tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


class Explorer:
    """Plays environment episodes and learns from every step.

    Args:
        environment: The environment.
        agent: What decides and learns.
        random: Source of the random actions.
    """

    def __init__(
        self, environment: DeploymentEnvironment, agent: Agent, random: np.random.Generator
    ):
        self.environment, self.agent, self.random = environment, agent, random

    def play(self, epsilon: float, rate: float) -> dict[str, float]:
        """Plays one episode.

        Args:
            epsilon: Share of random actions.
            rate: Learning rate.

        Returns:
            `loss`, mean size of the updates' errors, and `reward`, what the episode paid.
        """
        environment, total, errors = self.environment, 0.0, []
        environment.reset()
        ended = truncated = False
        while not (ended or truncated):
            decision = environment.decision
            if self.random.random() < epsilon:
                action = int(self.random.integers(len(Action)))
            else:
                action = int(np.argmax(self.agent.q_values(decision)))
            _, reward, ended, truncated, _ = environment.step(np.int64(action))
            if not truncated:
                following = None if ended else environment.decision
                errors.append(self.agent.learn(decision, action, reward, following, rate))
                total += reward
        return {"loss": float(np.mean(errors)) if errors else 0.0, "reward": total}

    def state(self) -> dict[str, Any]:
        """Returns all that is random about the next episode, as plain values."""
        return {
            "environment": self.environment.queue_state(),
            "actions": self.random.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        try:
            self.environment.restore_queue(state["environment"])
            self.random.bit_generator.state = state["actions"]
        except (KeyError, TypeError, ValueError) as error:
            raise DeployError(
                f"the checkpoint's environment cannot be restored: {error}"
            ) from error
