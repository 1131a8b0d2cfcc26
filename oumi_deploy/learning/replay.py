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
from oumi_deploy.learning.hiding import N_PATTERNS, Hiding
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
        hiding: Ways of hiding part of the state, or None to hide nothing.
        is_whole: Decisions from which nothing is hidden, bool of shape (n_decisions,); none if
            None.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        transitions: Transitions,
        batch_size: int,
        scale: float,
        seed: int,
        hiding: Hiding | None = None,
        is_whole: np.ndarray | None = None,
    ):
        useful = np.flatnonzero(transitions.learn_continue | transitions.learn_rollback)
        self.batch_size, self.seed, self._hiding = batch_size, seed, hiding
        self._useful = torch.from_numpy(useful)
        self._is_whole = None if is_whole is None else torch.from_numpy(is_whole)
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
        self._hiding = None if self._hiding is None else self._hiding.to(device)
        self._outcomes = {name: values.to(device) for name, values in self._outcomes.items()}
        return self

    def __len__(self) -> int:
        """Returns the number of decisions."""
        return len(self._useful)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over the decisions."""
        return -(-len(self) // self.batch_size)

    def batches(self, first: int, stream: int = 0) -> Iterator[Batch]:
        """Yields batches for ever.

        Args:
            first: Number, since the beginning, of the batch to begin with.
            stream: Which of many orders of the same decisions.
        """
        epoch, at = divmod(first, self.batches_per_epoch)
        while True:
            order, patterns = (x[at * self.batch_size :] for x in self._order(epoch, stream))
            at_once = max(1, GATHERED // self.batch_size) * self.batch_size
            for start in range(0, len(order), at_once):
                part = slice(start, start + at_once)
                yield from self._gather(order[part], patterns[part])
            epoch, at = epoch + 1, 0

    def _order(self, epoch: int, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns an epoch's decisions, and how the state of each is hidden."""
        words = [self.seed, epoch, stream] if stream else [self.seed, epoch]
        mixed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(mixed >> 1)
        order = self._useful[torch.randperm(len(self._useful), generator=generator)]
        if self._hiding is None:
            return order, order
        patterns = self._hiding.draw(len(order), generator)
        if self._is_whole is not None:
            patterns[self._is_whole[order]] = N_PATTERNS
        return order, patterns

    def _gather(self, decisions: torch.Tensor, patterns: torch.Tensor) -> Iterator[Batch]:
        size = self.batch_size
        device = self._inputs.device
        rows, stride = decisions, size
        if self._looks_ahead:
            # State and next state of a batch stand together, so that one pass serves both.
            rows = _interleaved(decisions, self._next.index_select(0, decisions), size)
            patterns = _interleaved(patterns, patterns, size)
            stride = 2 * size
        # Selecting along a dimension copies rows; indexing, which can do more, is slower.
        inputs = self._inputs.index_select(0, rows.to(device))
        if self._hiding is not None:
            inputs = self._hiding.apply(inputs, patterns.to(device))
        inputs = inputs.split(stride)
        decisions = decisions.to(device)
        outcomes = {
            name: values.index_select(0, decisions).split(size)
            for name, values in self._outcomes.items()
        }
        for number, batch_inputs in enumerate(inputs):
            yield Batch(batch_inputs, **{n: parts[number] for n, parts in outcomes.items()})


def _interleaved(one: torch.Tensor, other: torch.Tensor, size: int) -> torch.Tensor:
    """Returns the two, batch after batch: a batch of the one, then that of the other."""
    batches = zip(one.split(size), other.split(size), strict=True)
    return torch.cat([half for pair in batches for half in pair])


def _pairs(of_continue: np.ndarray, of_rollback: np.ndarray) -> torch.Tensor:
    """Returns one value an action, float32 of shape (n, 2)."""
    return torch.from_numpy(np.stack([of_continue, of_rollback], axis=1).astype(np.float32))
