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

import numpy as np
import pytest
import torch

from oumi_deploy.learning.hiding import Hiding, hide_from_releases, hiding_for
from oumi_deploy.learning.replay import Replay
from oumi_deploy.learning.transitions import make_transitions
from oumi_deploy.problem.encoder import StateEncoder, encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

STATE = [
    *("error_rate", "error_rate.missing", "error_rate.baseline_mean", "error_rate.control"),
    *("memory_usage", "memory_usage.slope", "canary_share", "steps", "planned_share"),
]


@pytest.fixture
def encoder() -> StateEncoder:
    n = len(STATE)
    return StateEncoder(parse_state(STATE), np.zeros(n), np.ones(n), np.zeros(n), np.ones(n))


def hidden_names(hiding: Hiding, pattern: int) -> frozenset[str]:
    kept = hiding.keep[pattern, : len(STATE)].numpy()
    return frozenset(name for name, keeps in zip(STATE, kept, strict=True) if not keeps)


def test_a_metric_goes_as_a_whole_and_one_always_stays(encoder):
    hiding = hiding_for(encoder, 0.5, 0.0, 0)
    seen = {hidden_names(hiding, pattern) for pattern in range(len(hiding.keep))}
    errors = {name for name in STATE if name.startswith("error_rate")}
    for names in seen:
        assert "steps" not in names
        assert not {"error_rate", "memory_usage"} <= names
        if "error_rate" in names:
            assert errors <= names
        if "memory_usage" in names:
            assert "memory_usage.slope" in names
    # All kinds of hiding come: of one metric, of what is compared with, of the plan.
    assert frozenset(errors) in seen
    assert frozenset({"error_rate.control"}) in seen
    assert frozenset({"error_rate.baseline_mean", "planned_share"}) in seen
    assert frozenset({"canary_share"}) in seen
    assert frozenset() in seen


def test_hidden_inputs_are_those_of_an_episode_without_the_metric(make_episodes):
    columns = {
        "error_rate": [0.1, 0.2, 0.3],
        "memory_usage": [0.5, 0.6, 0.8],
        "control_error_rate": 0.1,
        "control_memory_usage": 0.5,
        "canary_share": 0.2,
        "planned_steps": 3.0,
        "label": "bad",
        "phase": ["baseline", "canary", "canary"],
    }
    full = make_episodes(columns, {**columns, "label": "good"})
    without = make_episodes(
        *({**columns, "error_rate": [None] * 3, "label": label} for label in ("bad", "good"))
    )
    encoder = fit_encoder(STATE, full)
    expected = encoder.standardise(encode_episodes(encoder.state, without))
    inputs = torch.from_numpy(encoder.standardise(encode_episodes(encoder.state, full)))
    hiding = hiding_for(encoder, 1.0, 0.0, 0)
    errors = frozenset(name for name in STATE if name.startswith("error_rate"))
    [pattern, *_] = [i for i in range(len(hiding.keep)) if hidden_names(hiding, i) == errors]
    patterns = torch.full((len(inputs),), pattern)
    np.testing.assert_array_equal(hiding.apply(inputs, patterns).numpy(), expected)
    [nothing, *_] = [i for i in range(len(hiding.keep)) if not hidden_names(hiding, i)]
    untouched = hiding.apply(inputs, torch.full((len(inputs),), nothing))
    np.testing.assert_array_equal(untouched.numpy(), inputs.numpy())


def test_dropped_features_are_missing_each_by_itself(encoder):
    hiding = hiding_for(encoder, 0.0, 0.2, 0)
    hidden = 1 - hiding.keep[:, : len(STATE)]
    assert hidden.mean(0).tolist() == pytest.approx([0.2] * len(STATE), abs=0.03)
    assert torch.equal(hiding.fill[:, len(STATE) :], hidden)
    assert not hiding.fill[:, : len(STATE)].any()


def test_the_share_is_kept_and_a_resumed_run_hides_the_same(make_episodes, encoder):
    episodes = make_episodes(
        *(
            {"error_rate": [0.1 * i, 0.2], "memory_usage": 0.5, "label": label, "canary_share": 1}
            for i in range(5)
            for label in ("good", "bad")
        )
    )
    inputs = encoder.standardise(encode_episodes(encoder.state, episodes))
    transitions = make_transitions(episodes, Rewards(), "sequential", 1.0, 1)

    def batches(first: int, count: int) -> list[torch.Tensor]:
        hiding = hiding_for(encoder, 0.5, 0.0, 3)
        replay = Replay(inputs, transitions, batch_size=4, scale=1.0, seed=3, hiding=hiding)
        source = replay.batches(first)
        return [next(source).inputs for _ in range(count)]

    whole = batches(0, 12)
    for one, other in zip(whole[7:], batches(7, 5), strict=True):
        assert torch.equal(one, other)
    # A state and the one that follows are hidden alike: `planned_share` is missing in both or none.
    mark = len(STATE) + STATE.index("memory_usage")
    for batch in whole:
        n = len(batch) // 2
        assert torch.equal(batch[:n, mark], batch[n:, mark])
    hidden = (hiding_for(encoder, 0.3, 0.0, 0).keep == 0).any(1)
    # A pattern may hide nothing: one time in four of the metrics, one in 32 altogether.
    assert 0.2 < hidden.float().mean().item() < 0.32


def test_nothing_is_hidden_from_what_is_told_apart_by_comparison(make_episodes, encoder):
    rates = [0.11, 0.12, 0.13, 0.14]
    episodes = make_episodes(
        *({"error_rate": [rate] * 2, "memory_usage": 0.5, "label": "bad"} for rate in rates)
    )
    features = encode_episodes(encoder.state, episodes)
    is_whole = np.repeat([False, False, True, True], 2)
    left = hide_from_releases(encoder, features, episodes.canary_lengths, is_whole, 1.0, 3)
    np.testing.assert_array_equal(left[is_whole], features[is_whole])
    assert not np.array_equal(left[~is_whole], features[~is_whole], equal_nan=True)

    inputs = encoder.standardise(features)
    transitions = make_transitions(episodes, Rewards(), "single", 1.0, 1)
    hiding = hiding_for(encoder, 1.0, 0.0, 3)
    replay = Replay(inputs, transitions, 8, scale=1.0, seed=3, hiding=hiding, is_whole=is_whole)
    source, seen, n_hidden = replay.batches(0), set(), 0
    for _ in range(20):
        for row in next(source).inputs.numpy():
            known = [at for at, one in enumerate(inputs) if np.array_equal(row, one)]
            seen |= {at for at in known if is_whole[at]}
            n_hidden += not known
    # In each epoch they come as they are, and of the others some never do.
    assert seen == {4, 5, 6, 7}
    assert 40 < n_hidden <= 80
