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
        self._next = torch.from_numpy(transitions.next_decision)
        # Where nothing follows any decision, nobody needs to look at the following states.
        self._looks_ahead = bool((transitions.continue_discount[useful] > 0).any())
        t = transitions
        self._inputs = torch.from_numpy(inputs)
        self._outcomes = {
            "rewards": _pairs(t.continue_reward / scale, t.rollback_reward / scale),
            "discounts": torch.from_numpy(t.continue_discount.astype(np.float32)),
            "learnt": _pairs(t.learn_continue, t.learn_rollback),
            "logged": _pairs(t.logged_action == 0, t.logged_action == 1),
        }

    def to(self, device: str | torch.device) -> "Replay":
        """Moves the decisions to where the network is."""
        self._inputs = self._inputs.to(device)
        self._outcomes = {name: values.to(device) for name, values in self._outcomes.items()}
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
        device = self._inputs.device
        rows, stride = decisions, size
        if self._looks_ahead:
            # State and next state of a batch stand together, so that one pass serves both.
            batches = decisions.split(size), self._next.index_select(0, decisions).split(size)
            rows = torch.cat([half for pair in zip(*batches, strict=True) for half in pair])
            stride = 2 * size
        # Selecting along a dimension copies rows; indexing, which can do more, is slower.
        inputs = self._inputs.index_select(0, rows.to(device)).split(stride)
        decisions = decisions.to(device)
        outcomes = {
            name: values.index_select(0, decisions).split(size)
            for name, values in self._outcomes.items()
        }
        for number, batch_inputs in enumerate(inputs):
            yield Batch(batch_inputs, **{n: parts[number] for n, parts in outcomes.items()})


def _pairs(of_continue: np.ndarray, of_rollback: np.ndarray) -> torch.Tensor:
    """Returns one value an action, float32 of shape (n, 2)."""
    return torch.from_numpy(np.stack([of_continue, of_rollback], axis=1).astype(np.float32))
