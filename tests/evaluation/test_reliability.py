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
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.evaluation.reliability import EndRisk, reliability
from oumi_deploy.evaluation.scoring import end_of_rollouts


def of(risk, bad, groups=None):
    groups = np.arange(len(risk)) if groups is None else np.array(groups)
    return reliability(EndRisk(np.array(risk, float), np.array(bad, bool), groups))


def test_the_error_is_worked_by_hand_over_ten_bins_of_equal_filling():
    # Twenty releases, two a bin. Risk 0.05, 0.15 ... of both; one bad in each pair from the fifth.
    risk = np.repeat(np.arange(0.05, 1, 0.1), 2)
    bad = [0, 0] * 4 + [1, 0] * 6
    held = of(risk, bad)
    # |risk - share|: 0.05, 0.15, 0.25, 0.35, then 0.05, 0.05, 0.15, 0.25, 0.35, 0.45.
    assert held["calibration_error"]["value"] == pytest.approx(0.21)
    squares = [2 * r**2 for r in (0.05, 0.15, 0.25, 0.35)]
    squares += [(1 - r) ** 2 + r**2 for r in (0.45, 0.55, 0.65, 0.75, 0.85, 0.95)]
    assert held["brier"]["value"] == pytest.approx(sum(squares) / 20)
    assert [b["n"] for b in held["bins"]] == [2] * 10
    assert [b["bad"] for b in held["bins"]] == [0] * 4 + [0.5] * 6


def test_order_of_the_releases_does_not_matter():
    random = np.random.default_rng(0)
    risk = random.permutation(np.linspace(0, 1, 50))
    bad = random.random(50) < risk
    shuffled = random.permutation(50)
    one, other = of(risk, bad), of(risk[shuffled], bad[shuffled], shuffled)
    assert one["calibration_error"]["value"] == other["calibration_error"]["value"]
    assert [b["risk"] for b in one["bins"]] == [b["risk"] for b in other["bins"]]


def test_honest_risks_have_a_small_error_and_boasting_ones_a_large():
    random = np.random.default_rng(1)
    risk = random.random(4_000)
    bad = random.random(4_000) < risk
    honest = of(risk, bad)["calibration_error"]
    assert honest["value"] < 0.04
    boasting = of(np.where(risk > 0.5, 0.99, 0.01), bad)["calibration_error"]
    # A quarter of each half is wrong: about 0.25 - 0.01.
    assert boasting["value"] == pytest.approx(0.24, abs=0.03)
    assert boasting["low"] < boasting["value"] < boasting["high"]


def test_groups_are_drawn_whole():
    # All that differs is between groups: with two of them the interval is as wide as can be.
    held = of([0.5] * 40, [1] * 20 + [0] * 20, [0] * 20 + [1] * 20)["brier"]
    assert held["value"] == held["low"] == held["high"] == 0.25
    halves = of([0.2] * 40, [1] * 20 + [0] * 20, [0] * 20 + [1] * 20)["brier"]
    assert (halves["low"], halves["high"]) == pytest.approx((0.04, 0.64))


def test_one_group_has_no_interval():
    held = of([0.1, 0.9], [0, 1], [4, 4])
    assert held["calibration_error"]["low"] is None
    assert "one group only" in held["calibration_error"]["note"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_the_error_lies_between_overall_bias_and_one(pairs):
    risk, bad = (np.array(x, float) for x in zip(*pairs, strict=True))
    error = of(risk, bad)["calibration_error"]["value"]
    assert abs(risk.mean() - bad.mean()) - 1e-12 <= error <= 1


def test_the_end_is_the_first_rollback_else_the_last_decision(make_episodes):
    episodes = make_episodes({"step": [0, 1, 2]}, {"step": [0, 1]}, {"step": [0]})
    assert end_of_rollouts(np.array([0, 1, 1, 0, 0, 1]), episodes).tolist() == [1, 4, 5]
