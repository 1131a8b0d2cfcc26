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

"""Batches of logged decisions, in an order that depends on seed and epoch alone."""

from collections.abc import Iterator

import numpy as np
import torch

from oumi_deploy.learning.dqn import Batch
from oumi_deploy.learning.transitions import Transitions

GATHERED = 65_536
"""Decisions gathered at a time; a batch is a slice of them."""


class Replay:
    """Logged decisions packed for gathering.

    Args:
        inputs: Encoded states, float32 of shape (n, n_inputs).
        transitions: Their outcomes, length n. Decisions of which nothing is known are left out.
        batch_size: Decisions in a batch; the last of an epoch may be smaller.
        scale: What rewards are divided by.
        seed: Seed of the order.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        transitions: Transitions,
        batch_size: int,
        scale: float,
        seed: int,
    ):
        useful = np.flatnonzero(transitions.learn_continue | transitions.learn_rollback)
        self.batch_size, self.seed = batch_size, seed
        self._useful = torch.from_numpy(useful)
        self._inputs = torch.from_numpy(inputs)
        self._next = torch.from_numpy(transitions.next_decision)
        packed = np.empty((len(transitions), 7), dtype=np.float32)
        packed[:, 0] = transitions.continue_reward / scale
        packed[:, 1] = transitions.rollback_reward / scale
        packed[:, 2] = transitions.continue_discount
        packed[:, 3] = transitions.learn_continue
        packed[:, 4] = transitions.learn_rollback
        packed[:, 5] = transitions.logged_action == 0
        packed[:, 6] = transitions.logged_action == 1
        self._outcomes = torch.from_numpy(packed)

    def to(self, device: str | torch.device) -> "Replay":
        """Moves the decisions to where the network is."""
        self._inputs, self._outcomes = self._inputs.to(device), self._outcomes.to(device)
        return self

    def __len__(self) -> int:
        """Returns the number of decisions."""
        return len(self._useful)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over the decisions."""
        return -(-len(self) // self.batch_size)

    def batches(self, first: int) -> Iterator[Batch]:
        """Yields batches for ever, from the one numbered `first` since the beginning on."""
        epoch, at = divmod(first, self.batches_per_epoch)
        while True:
            order = self._order(epoch)[at * self.batch_size :]
            at_once = max(1, GATHERED // self.batch_size) * self.batch_size
            for start in range(0, len(order), at_once):
                yield from self._gather(order[start : start + at_once])
            epoch, at = epoch + 1, 0

    def _order(self, epoch: int) -> torch.Tensor:
        mixed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(mixed >> 1)
        return self._useful[torch.randperm(len(self._useful), generator=generator)]

    def _gather(self, decisions: torch.Tensor) -> Iterator[Batch]:
        size = self.batch_size
        outcomes = self._outcomes[decisions.to(self._outcomes.device)]
        following = self._next[decisions]
        # State and next state of a batch stand together, so that one pass serves both.
        pairs = [
            rows[start : start + size]
            for start in range(0, len(decisions), size)
            for rows in (decisions, following)
        ]
        inputs = self._inputs[torch.cat(pairs).to(self._inputs.device)]
        for start in range(0, len(decisions), size):
            rows = outcomes[start : start + size]
            yield Batch(
                inputs=inputs[2 * start : 2 * start + 2 * len(rows)],
                rewards=rows[:, 0:2],
                discounts=rows[:, 2],
                learnt=rows[:, 3:5],
                logged=rows[:, 5:7],
            )
