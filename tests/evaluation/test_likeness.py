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

"""Releases are held against those that a policy was trained on, and it says where they differ."""

import json
from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.vet.likeness import MADE_FOR, TRAIN_FIRST, describe_likeness, likeness
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards

N, LENGTH = 40, 6


@pytest.fixture(scope="module")
def make_releases(make_episodes):
    """Good releases but every fifth, whose errors are high; memory lies around `memory`."""

    def make(seed: int, *, n: int = N, memory: float = 0.5, **columns) -> Episodes:
        random = np.random.default_rng(seed)
        return make_episodes(
            *(
                {
                    "error_rate": (0.6 * (i % 5 == 0) + 0.02 * random.random(LENGTH)).tolist(),
                    "memory_usage": (memory + 0.05 * random.random(LENGTH)).tolist(),
                    "label": "bad" if i % 5 == 0 else "good",
                    **columns,
                }
                for i in range(n)
            )
        )

    return make


@pytest.fixture(scope="module")
def policy(make_releases) -> DeploymentPolicy:
    """Rolls back from an error rate of 0.3 on."""
    encoder = fit_encoder(["error_rate", "memory_usage"], make_releases(1))
    table = np.array([[40.0, -45.0], [-150.0, 80.0], [40.0, -45.0]])
    return DeploymentPolicy(
        encoder,
        TableQ([np.array([0.3]), np.array([])], table.repeat(2, axis=0), np.ones((6, 2))),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
        calibration=Calibration(0.0, 1.0),
    )


def test_releases_of_the_same_kind_are_what_it_was_made_for(policy, make_releases):
    found = likeness(policy, make_releases(2))
    assert found.verdict == MADE_FOR
    assert found.n == N
    assert found.missing == ()
    assert found.share_held == found.share_fell_back == 0.0
    assert found.share_rolled_back == 0.2
    assert (found.caught, found.let_go_on) == (1.0, 1.0)
    assert [level.feature for level in found.levels] == ["error_rate", "memory_usage"]
    json.dumps(found.as_dict(), allow_nan=False)
    assert MADE_FOR in describe_likeness(found)


def test_labels_are_not_needed(policy, make_releases):
    found = likeness(policy, make_releases(2, label=None))
    assert found.verdict == MADE_FOR
    assert found.share_rolled_back == 0.2
    assert (found.caught, found.let_go_on) == (None, None)


@pytest.mark.parametrize("memory", [0.0, 0.75])
def test_another_level_is_named_with_both_values(policy, make_releases, memory):
    within = replace(policy, encoder=replace(policy.encoder, low=np.zeros(2), high=np.full(2, 2.0)))
    found = likeness(within, make_releases(2, memory=memory))
    assert found.verdict == TRAIN_FIRST
    (reason,) = found.reasons
    level = found.levels[1]
    assert level.here == pytest.approx(memory + 0.025, abs=0.01)
    assert level.trained == pytest.approx(0.525, abs=0.01)
    assert reason.startswith(f"memory_usage is usually {level.here:.3g} here")
    assert (level.apart > 0) == (memory > 0.5)


def test_values_worse_than_all_of_training_count_by_release(policy, make_releases):
    found = likeness(policy, make_releases(2, memory=0.6))
    assert found.verdict == TRAIN_FIRST
    assert found.outside["memory_usage"] == 1.0
    assert found.share_outside == 1.0
    assert any("worse than all of its training, memory_usage" in r for r in found.reasons)
    # On the better side nothing is worse.
    assert likeness(policy, make_releases(2, memory=0.4)).share_outside < 0.2


def test_errors_that_are_hardly_ever_reported_are_missed(policy, make_releases):
    rare = [None] * (LENGTH - 1) + [0.01]
    found = likeness(policy, make_releases(2, error_rate=rare))
    assert found.missing == ("error_rate",)
    assert found.verdict == TRAIN_FIRST
    assert "error_rate hardly ever reported" in found.reasons[0]
    # Of two metrics that are no errors one may be missing.
    found = likeness(policy, make_releases(2, memory_usage=None))
    assert found.missing == ("memory_usage",)
    assert found.verdict == MADE_FOR


def test_what_would_end_held_is_counted_as_it_is_scored(policy, make_releases):
    few = make_releases(2, requests=1.0)
    found = likeness(policy, few)
    assert found.share_held == 1.0
    assert found.share_rolled_back == 0.0
    assert any(r.startswith("100% of them would end held") for r in found.reasons)
    rules = PauseRules(pause_fallback="CONTINUE")
    falls_back = replace(policy, calibration=Calibration(0.0, 1.0, rules))
    found = likeness(falls_back, few)
    # Errors of 0.6 on few requests are above break-even neither alone nor promoted.
    assert found.share_held + found.share_fell_back == 1.0
    assert found.verdict == TRAIN_FIRST


def test_labels_tell_that_it_catches_nothing(policy, make_releases):
    quiet = make_releases(2, error_rate=[0.01] * LENGTH)
    found = likeness(policy, quiet)
    assert found.caught == 0.0
    assert "it would catch 0% of those labelled bad" in found.reasons


def test_of_few_releases_nothing_is_said(policy, make_releases):
    found = likeness(policy, make_releases(2, n=9))
    assert found.verdict == ""
    assert "too few" in found.line
    assert describe_likeness(found).count("\n") == 0


def test_episodes_without_any_column_of_the_state_are_refused(policy, make_episodes):
    with pytest.raises(DeployError, match="error_rate or memory_usage"):
        likeness(policy, make_episodes(*({"queue": [1.0]} for _ in range(20))))
