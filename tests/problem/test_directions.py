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

"""Which values are worse, and what follows for features, their range and their Q-values."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.directions import (
    default_direction,
    directions_of,
    is_counted,
    signs_of,
)
from oumi_deploy.problem.encoder import StateEncoder, encode_memory
from oumi_deploy.problem.history import Memory
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import BEFORE, CLOCK, HISTORY, SHARES, parse_state

NAN = float("nan")
KINDS = ("queue", *(f"queue.{kind}" for kind in HISTORY), *CLOCK)


@pytest.mark.parametrize(
    ("metric", "direction", "counted"),
    [
        ("error_rate", "higher", True),
        ("error_rate_5xx", "higher", True),
        ("latency_p99", "higher", True),
        ("memory_usage", "higher", False),
        ("cpu_usage", "higher", False),
        ("health_score", "lower", False),
        # Named otherwise, of the old version, of the traffic: nothing is known.
        ("latencies", "either", False),
        ("queue_depth", "either", False),
        ("control_error_rate", "either", False),
        ("requests", "either", False),
    ],
)
def test_a_metric_has_the_direction_of_the_standard_one_that_it_is_named_after(
    metric, direction, counted
):
    assert default_direction(metric) == direction
    assert is_counted(metric) == counted


def test_a_direction_that_is_given_goes_before_the_default():
    state = parse_state(["error_rate.max", "queue", "steps"])
    assert directions_of(state, {}) == {"error_rate": "higher", "queue": "either"}
    given_ones = {"queue": "lower", "error_rate": "either"}
    assert directions_of(state, given_ones) == {"error_rate": "either", "queue": "lower"}
    with pytest.raises(DeployError, match="the state has no metric queue_depth: "):
        directions_of(state, {"queue_depth": "higher"})
    with pytest.raises(DeployError, match=r"directions\.queue: 'up' is not one of higher, lower"):
        directions_of(state, {"queue": "up"})


def test_signs_follow_the_metric_and_spare_what_has_no_order():
    state = parse_state(
        ["queue", "queue.missing", "queue.change", "disk.slope", "load.max", "steps"]
    )
    directions = {"queue": "higher", "disk": "lower", "load": "either"}
    assert signs_of(state, directions).tolist() == [1, 0, 1, -1, 0, 0]


values = st.floats(-50, 50)


@given(
    st.lists(st.tuples(st.none() | values, st.none() | values), max_size=5),
    st.lists(values, max_size=2),
    values,
    st.floats(0, 1e9),
    st.none() | values,
    st.booleans(),
)
def test_features_move_as_their_sign_says_when_the_newest_value_does(
    earlier, baseline, newest, more, control, timed
):
    memory = Memory.empty(1, 1)

    def column(x: float | None) -> np.ndarray:
        return np.array([[NAN if x is None else x]])

    for value in baseline:
        memory = memory.observe_baseline(column(value))

    def look(memory: Memory, at: int, value: float | None, old: float | None) -> Memory:
        return memory.observe(
            column(value), column(old), column(2.0 * at if timed else None), column(9)
        )

    for at, (value, old) in enumerate(earlier):
        memory = look(memory, at, value, old)
    well, worse = (look(memory, len(earlier), x, control) for x in (newest, newest + more))
    state = parse_state(KINDS)
    signs = dict(zip(KINDS, signs_of(state, {"queue": "higher"}), strict=True))
    one, other = (
        dict(zip(KINDS, encode_memory(state, ["queue"], m)[0], strict=True)) for m in (well, worse)
    )
    for name, sign in signs.items():
        if sign == 0:
            np.testing.assert_equal(other[name], one[name])
        else:
            # A slope over large values is known to fewer digits.
            assert np.isnan(one[name]) == np.isnan(other[name])
            assert not other[name] < one[name] - 1e-9 * (1 + abs(one[name]) + more), name
    still = {name.removeprefix("queue.") for name, sign in signs.items() if not sign}
    assert still == {*BEFORE, *SHARES, *CLOCK}


def encoder_of(names: list[str], **directions: str) -> StateEncoder:
    """Training saw 1 to 3 of each feature, 2 as a rule."""
    state, n = parse_state(names), len(names)
    statistics = (np.full(n, x) for x in (2.0, 0.5, 1.0, 3.0))
    return StateEncoder(state, *statistics, directions=directions_of(state, directions))


STATE = ["queue", "disk", "load", "steps", "queue.missing"]
ORDERED = {"queue": "higher", "disk": "lower", "load": "either"}


def test_a_better_value_counts_as_the_best_that_was_seen_and_a_worse_one_as_itself():
    encoder = encoder_of(STATE, **ORDERED)
    low, high = encoder.clip(np.array([[-9.0] * 5, [9.0] * 5])).tolist()
    assert low == [1, -9, 1, 1, 1]
    assert high == [9, 3, 3, 3, 3]
    assert np.isnan(encoder.clip(np.full((1, 5), NAN))).all()
    # Nothing was learnt of what training never had.
    untaught = replace(encoder, low=np.full(5, NAN), high=np.full(5, NAN))
    assert np.isnan(untaught.clip(np.full((1, 5), 2.0))).all()
    assert untaught.standardise(np.full((1, 5), 2.0)).tolist() == [[0.0] * 5 + [1.0] * 5]


def test_only_the_worse_side_of_an_order_has_a_range():
    low, high = encoder_of(STATE, **ORDERED).range_of_values(0.25)
    # The range is 2 wide: a margin of 0.25 is 0.5 on either side.
    assert low.tolist() == [-np.inf, 0.5, 0.5, -np.inf, -np.inf]
    assert high.tolist() == [3.5, np.inf, 3.5, np.inf, np.inf]
    traffic = encoder_of(["queue", "requests", "canary_share.mean", "n_pods"])
    assert traffic.range_of_values(0.0)[1].tolist() == [3, np.inf, np.inf, np.inf]


def test_what_is_taken_over_requests_is_at_most_as_bad_as_usual():
    names = [
        "error_rate",
        "latency_p50.max",
        "error_rate.change",
        "error_rate.missing",
        "queue",
    ]
    encoder = encoder_of(names)
    assert encoder.typical(np.full((1, 5), 2.9)).tolist() == [[2, 2, 2, 2.9, 2.9]]
    assert encoder.typical(np.full((1, 5), 1.1)).tolist() == [[1.1] * 5]
    assert np.isnan(encoder.typical(np.full((1, 5), NAN))).all()
    # Where lower is worse it is at least as high as usual; without an order it is usual.
    other = encoder_of(names, error_rate="lower", latency_p50="either")
    assert other.typical(np.full((1, 5), 1.1)).tolist() == [[2, 2, 2, 1.1, 1.1]]
    assert other.typical(np.full((1, 5), 2.9)).tolist() == [[2.9, 2, 2.9, 2.9, 2.9]]


def test_bounds_follow_from_the_rewards():
    # The least of CONTINUE is a missed rollback after 7 steps under full traffic.
    assert Bounds.of(Rewards(), 7) == Bounds(rollback=(-50, 100), going_on=(-214, 100))
    rewards = Rewards(10, 70, -20, -90, step_cost=0)
    assert Bounds.of(rewards, 7) == Bounds(rollback=(-90, 10), going_on=(-90, 70))


def test_outputs_become_q_values_worked_by_hand():
    bounds = Bounds.of(Rewards(), 7)
    # Log odds of log 3 are a belief of 0.75: -50 + 150 * 0.75 = 62.5.
    outputs = [[0.0, 10.0], [np.log(3), -20.0], [np.log(3), -99.0], [0.0, 999.0]]
    expected = [[15, 25], [82.5, 62.5], [100, 62.5], [-214, 25]]
    np.testing.assert_allclose(bounds.q_values(np.array(outputs)), expected)


@given(
    st.lists(st.floats(-40, 40), min_size=2, max_size=2).map(sorted),
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2).map(sorted),
)
def test_the_lead_never_falls_though_it_is_cut(log_odds, leads):
    bounds = Bounds.of(Rewards(), 7)
    q = bounds.q_values(np.stack([log_odds, leads], axis=1))
    assert q[1, 1] >= q[0, 1]
    assert q[1, 1] - q[1, 0] >= q[0, 1] - q[0, 0] - 1e-9


def test_bounds_survive_the_file():
    bounds = Bounds.of(Rewards(), 7)
    assert Bounds.from_dict(bounds.as_dict()) == bounds


@given(st.floats(0, 1))
def test_a_rollback_pays_what_the_risk_says(risk):
    rewards = Rewards()
    assert rewards.of_rollback(risk) == pytest.approx(100 * risk - 50 * (1 - risk))
    # Above break-even, and only there, it pays more than going on to the end.
    going_on = -200 * risk + 50 * (1 - risk)
    assert (rewards.of_rollback(risk) > going_on + 1e-9) <= (risk > rewards.break_even())
    assert (rewards.of_rollback(risk) < going_on - 1e-9) <= (risk < rewards.break_even())
