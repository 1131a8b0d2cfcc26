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

from itertools import islice

import numpy as np
import pytest
import torch

from oumi_deploy.learning import replay as replay_module
from oumi_deploy.learning.dqn import Batch
from oumi_deploy.learning.replay import Replay
from oumi_deploy.learning.transitions import make_transitions
from oumi_deploy.problem.rewards import Rewards

N_DECISIONS = 23


@pytest.fixture
def make_replay(make_episodes):
    """Makes a replay of 23 decisions, of which the last, 22, teaches nothing."""
    episodes = make_episodes(
        {"load": [0.0] * 11, "label": "bad", "action": ["CONTINUE"] * 10 + ["ROLLBACK"]},
        {"load": [0.0] * 9, "label": "good"},
        {"load": [0.0] * 3, "label": None},
    )
    transitions = make_transitions(episodes, Rewards(), "sequential", discount=0.5)

    def make(batch_size=4, seed=0) -> Replay:
        numbered = np.arange(N_DECISIONS, dtype=np.float32)[:, None]
        return Replay(numbered, transitions, batch_size, scale=100.0, seed=seed)

    return make


def decisions(batches: list[Batch]) -> list[int]:
    return [int(x) for b in batches for x in b.inputs[: len(b.discounts), 0]]


def epoch(replay: Replay, number: int = 0) -> list[int]:
    n = replay.batches_per_epoch
    return decisions(list(islice(replay.batches(number * n), n)))


@pytest.mark.parametrize("batch_size", [1, 4, 22, 100])
def test_every_decision_comes_exactly_once_an_epoch(make_replay, batch_size):
    replay = make_replay(batch_size)
    assert len(replay) == 22
    assert replay.batches_per_epoch == -(-22 // batch_size)
    batches = list(islice(replay.batches(0), 3 * replay.batches_per_epoch))
    sizes = [len(b.discounts) for b in batches]
    assert max(sizes) == min(batch_size, 22)
    assert sum(sizes) == 66
    seen = decisions(batches)
    for at in (0, 22, 44):
        assert sorted(seen[at : at + 22]) == list(range(22))
    assert seen[:22] != seen[22:44]


@pytest.mark.parametrize("gathered", [65_536, 8])
def test_starting_later_equals_skipping(make_replay, monkeypatch, gathered):
    from_the_start = list(islice(make_replay().batches(0), 20))
    monkeypatch.setattr(replay_module, "GATHERED", gathered)
    for first in (0, 1, 5, 6, 7, 13):
        later = islice(make_replay().batches(first), 20 - first)
        for one, other in zip(from_the_start[first:], later, strict=True):
            for name in vars(one):
                assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_the_order_depends_on_seed_and_epoch_alone(make_replay):
    assert epoch(make_replay(4)) == epoch(make_replay(4))
    # Neither on the batch size nor on what torch and numpy drew elsewhere.
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert epoch(make_replay(7)) == epoch(make_replay(4))
    orders = [epoch(make_replay(seed=seed), n) for seed in range(3) for n in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_a_batch_holds_the_outcomes_of_its_decisions(make_replay):
    replay = make_replay(batch_size=22)
    batch = next(replay.batches(0))
    at = {number: row for row, number in enumerate(decisions([batch]))}
    following = batch.inputs[22:, 0]

    def outcome(decision: int) -> tuple:
        row = at[decision]
        pays = [round(float(x), 6) for x in batch.rewards[row]]
        known = batch.learnt[row].tolist()
        return pays, float(batch.discounts[row]), int(following[row]), known

    # Bad, with another observation to follow: waiting costs 2; rewards are in hundreds.
    assert outcome(0) == ([-0.02, 1.0], 0.5, 1, [1, 1])
    # Where the log rolled back, nobody knows what CONTINUE would have led to.
    assert outcome(10)[1:] == (0.0, 10, [0, 1])
    assert outcome(11) == ([0.0, -0.5], 0.5, 12, [1, 1])
    assert outcome(19) == ([0.5, -0.5], 0.0, 19, [1, 1])
    # Unlabelled: half of the labelled are bad; ROLLBACK is unknown.
    assert (outcome(20)[0][0], *outcome(20)[1:]) == (-0.01, 0.5, 21, [1, 0])
    assert 22 not in at
    logged = [batch.logged[at[number]].tolist() for number in (9, 10, 19)]
    assert logged == [[1, 0], [0, 1], [1, 0]]
