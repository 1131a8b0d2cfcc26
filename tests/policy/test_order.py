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

"""A newest value that is worse never lowers the risk, and never makes an answer milder.

It holds for any weights, any table and any trees in order, since it is their form: networks of
chance as they are exported, tables of chance put in order, and trees of chance. Answers agree with
the risk that they state.
"""

import copy
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.schema import CONTROL
from oumi_deploy.learning.network import QEnsemble, QNetwork
from oumi_deploy.learning.table import keep_order
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import FALLBACKS, PauseRules
from oumi_deploy.policy.qfunctions import NetworkQ, QFunction, TableQ, TreesQ
from oumi_deploy.policy.rollout import Decision, Rollout
from oumi_deploy.problem.bins import table_shape
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.directions import HIGHER, default_direction, directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import BEFORE, CLOCK, HISTORY, SHARES, parse_state
from oumi_deploy.problem.trees import NODES, Trees

REWARDS = Rewards()
BOUNDS = Bounds.of(REWARDS, 6)
DIRECTIONS = {"queue_depth": "higher", "free_disk": "lower", "load": "either"}
METRICS = ("error_rate", "latency_p99", "memory_usage", "health_score", *DIRECTIONS)
SEVERITY = {"CONTINUE": 0, "PAUSE": 1, "ROLLBACK": 2}
ENDS = [{"last": last, "asks_again": again} for last in (False, True) for again in (False, True)]
N_POLICIES = 9


def encoder_of(random: np.random.Generator, names: list[str]) -> StateEncoder:
    state, n = parse_state(names), len(names)
    low = random.uniform(-0.2, 0.2, n)
    encoder = StateEncoder(
        state,
        center=low + random.uniform(0, 0.3, n),
        scale=random.uniform(0.02, 0.5, n),
        low=low,
        high=low + random.uniform(0.1, 0.6, n),
        directions=directions_of(
            state, {m: d for m, d in DIRECTIONS.items() if any(m == f.metric for f in state)}
        ),
    )
    # Training may never have had a value of a feature.
    untaught = random.random(n) < 0.1
    return replace(
        encoder,
        low=np.where(untaught, np.nan, encoder.low),
        high=np.where(untaught, np.nan, encoder.high),
    )


def network_of(random: np.random.Generator, encoder: StateEncoder) -> NetworkQ:
    """One or three networks, with weights as large as training could ever make them."""
    signs = np.concatenate([encoder.signs, np.zeros_like(encoder.signs)])
    sizes, scale = [[8], [8, 6], [6, 4, 4]][random.integers(3)], float(random.uniform(10, 200))
    torch.manual_seed(int(random.integers(1000)))
    members = [QNetwork(signs, sizes, BOUNDS, scale) for _ in range(random.choice([1, 3]))]
    with torch.no_grad():
        for member in members:
            for layer in member.linear_layers():
                layer.weight *= float(random.uniform(0.5, 4))
                layer.bias.copy_(torch.randn_like(layer.bias))
    whole = members[0] if len(members) == 1 else QEnsemble(members)
    return NetworkQ(whole.plain_layers(), whole.bounds)


def table_of(random: np.random.Generator, encoder: StateEncoder) -> TableQ:
    edges = [np.sort(random.uniform(-0.2, 0.8, random.integers(0, 4))) for _ in encoder.state]
    shape = table_shape(edges)
    table = random.uniform(-250, 150, (int(np.prod(shape)), 2)).astype(np.float32)
    counts = random.integers(0, 30, table.shape).astype(np.float32)
    keep_order(table, counts, shape, encoder.signs, BOUNDS)
    return TableQ(edges, table.astype(np.float64), counts)


def tree_of(random: np.random.Generator, signs: np.ndarray, size: float) -> dict[str, list[Any]]:
    """A tree of three levels in which what lies to the worse side is never worth less."""
    nodes: dict[str, list[Any]] = {name: [] for name in NODES}

    def grow(low: float, high: float, depth: int) -> int:
        at, is_leaf = len(nodes["feature"]), depth == 3
        feature = -1 if is_leaf else int(random.integers(len(signs)))
        new = feature, random.uniform(-0.2, 0.8), bool(random.integers(2)), 0, 0
        for name, value in zip(NODES, (*new, random.uniform(low, high)), strict=True):
            nodes[name].append(value if name != "value" or is_leaf else 0.0)
        if not is_leaf:
            # Without an order both sides may be anything from low to high.
            middle, sign = random.uniform(low, high), signs[feature]
            sides = {0: [(low, high)] * 2, 1: [(low, middle), (middle, high)]}
            left, right = sides[abs(sign)][:: sign or 1]
            nodes["left"][at] = grow(*left, depth + 1)
            nodes["right"][at] = grow(*right, depth + 1)
        return at

    grow(-size, size, 0)
    return nodes


def trees_of(random: np.random.Generator, encoder: StateEncoder) -> TreesQ:
    signs, n = encoder.signs, len(encoder.signs)
    outputs = [[tree_of(random, signs, size) for _ in range(9)] for size in (0.6, 40.0)]
    return TreesQ(Trees.from_lists(outputs, n), BOUNDS)


@cache
def policy_number(number: int) -> DeploymentPolicy:
    """A policy that nothing was learnt by: networks, tables and trees in turn."""
    random = np.random.default_rng(number)
    features = [*METRICS, *(f"{m}.{kind}" for m in METRICS for kind in HISTORY)]
    makes: list[Any] = [network_of, table_of, trees_of]
    make, is_table = makes[number % 3], number % 3 == 1
    names = [str(x) for x in random.choice(features, 3 if is_table else 9, replace=False)]
    others = [str(x) for x in random.choice([*CLOCK, "canary_share"], 1 if is_table else 2, False)]
    # An order and a value that cannot be silent, whatever else was drawn.
    encoder = encoder_of(random, [*dict.fromkeys(["error_rate.max", *names, *others])])
    q_function: QFunction = make(random, encoder)
    return DeploymentPolicy(encoder, q_function, "sequential", REWARDS, 1.0, {}, {})


calibrations = st.none() | st.builds(
    Calibration,
    intercept=st.floats(-2, 2),
    slope=st.floats(0.3, 3),
    bend=st.floats(-0.2, 1),
    alpha=st.just(0.1),
    rollback_from=st.sampled_from([0.0, 0.0, 0.3, 0.6, 0.95, 1.5]),
    pauses=st.builds(
        PauseRules,
        min_requests=st.sampled_from([0, 20]),
        range_margin=st.sampled_from([0.0, 0.3]),
        max_doubt=st.none() | st.floats(0.02, 0.5),
        certain_risk=st.sampled_from([0.1, 0.6, 0.9, 1.0]),
        watch_limit=st.integers(1, 5),
        pause_limit=st.integers(1, 5),
        pause_fallback=st.sampled_from(FALLBACKS),
    ),
)
shares = st.none() | st.floats(0, 1)
numbers = st.none() | st.floats(0, 2)
rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(("error_rate", "health_score", "canary_share"), shares),
        **{CONTROL + name: shares for name in ("error_rate", "health_score")},
        **{name: numbers for name in METRICS if name not in ("error_rate", "health_score")},
        **{CONTROL + name: numbers for name in ("memory_usage", "latency_p99", "queue_depth")},
        "requests": st.none() | st.integers(0, 60),
    }
)
releases = st.fixed_dictionaries(
    {
        "baseline": st.lists(rows, max_size=2),
        "canary": st.lists(rows, min_size=1, max_size=6),
        "planned_steps": st.none() | st.integers(1, 6),
        "timed": st.booleans(),
    }
)


def as_observations(release: dict[str, Any]) -> list[dict[str, Any]]:
    phased = [(name, row) for name in ("baseline", "canary") for row in release[name]]
    return [
        {
            **row,
            "phase": phase,
            "planned_steps": release["planned_steps"],
            "timestamp": 60.0 * at if release["timed"] else None,
        }
        for at, (phase, row) in enumerate(phased)
    ]


def doses(random: np.random.Generator, metric: str) -> list[float]:
    """Values of a metric that get worse, step by step, beyond all that training has seen."""
    most = 1.0 if metric in ("error_rate", "health_score") else 3.0
    values = [0.0, *np.sort(random.uniform(0, most, 5)), most]
    far = [] if most == 1.0 else [1e3, 1e6]
    is_higher = DIRECTIONS.get(metric, default_direction(metric)) == HIGHER
    return [*values, *far] if is_higher else [*far[::-1], *values[::-1]]


def risk_of(decision: Decision) -> float:
    assert decision.risk is not None
    return decision.risk


def answers(rollout: Rollout, newest: dict[str, Any]) -> list[Decision]:
    """The answers to a newest observation, at the last look or not."""
    rollout = copy.copy(rollout)
    rollout.observe(newest)
    return [rollout.decide(**end) for end in ENDS]


@pytest.mark.parametrize("number", range(N_POLICIES))
@settings(max_examples=20)
@given(releases, calibrations, st.integers(0, 999))
def test_a_worse_value_never_lowers_the_risk_nor_makes_the_answer_milder(
    number, release, calibration, seed
):
    policy = replace(policy_number(number), calibration=calibration)
    random = np.random.default_rng(seed)
    *before, newest = as_observations(release)
    rollout = policy.begin()
    rollout.observe_all(before)
    directed = [m for m in policy.encoder.metrics if m in METRICS and m != "load"]
    for metric in directed:
        tried = [answers(rollout, {**newest, metric: x}) for x in doses(random, metric)]
        for milder, worse in pairwise(tried):
            for one, other in zip(milder, worse, strict=True):
                assert risk_of(other) >= risk_of(one) - 1e-9, metric
                lead, more = (d.q_values["ROLLBACK"] - d.q_values["CONTINUE"] for d in (one, other))
                assert more >= lead - 1e-4, metric
                assert SEVERITY[other.decision] >= SEVERITY[one.decision], metric


@pytest.mark.parametrize("number", range(N_POLICIES))
@settings(max_examples=20)
@given(releases, calibrations, st.floats(0.01, 1e3))
def test_a_release_that_was_worse_throughout_is_never_safer(number, release, calibration, by):
    policy = replace(policy_number(number), calibration=calibration)
    for metric in ("memory_usage", "latency_p99", "queue_depth", "free_disk"):
        worse = -by if DIRECTIONS.get(metric) == "lower" else by
        before, after = policy.begin(), policy.begin()
        for row in as_observations(release):
            is_worse = row["phase"] == "canary" and row[metric] is not None
            before.observe(row)
            after.observe({**row, metric: row[metric] + worse} if is_worse else row)
        assert risk_of(after.decide()) >= risk_of(before.decide()) - 1e-9, metric


@pytest.mark.parametrize("number", range(N_POLICIES))
@settings(max_examples=30)
@given(releases, calibrations)
def test_no_answer_contradicts_its_risk_its_rewards_or_what_was_seen(number, release, calibration):
    policy = replace(policy_number(number), calibration=calibration)
    rules = PauseRules() if calibration is None else calibration.pauses
    least = 0.0 if calibration is None else calibration.rollback_from
    rollout = policy.begin()
    for row in as_observations(release):
        rollout.observe(row)
        if row["phase"] == "baseline":
            continue
        for end in ENDS:
            said = rollout.decide(**end)
            low, high = BOUNDS.going_on
            assert low - 1e-4 <= said.q_values["CONTINUE"] <= high + 1e-4
            assert -50 - 1e-4 <= said.q_values["ROLLBACK"] <= 100 + 1e-4
            if said.decision == "CONTINUE":
                assert risk_of(said) <= REWARDS.break_even()
                assert not is_silent(policy, release, row)
            if said.decision == "ROLLBACK" and rules.pause_fallback != "ROLLBACK":
                assert risk_of(said) >= least
                assert risk_of(said) > REWARDS.break_even() or risk_of(said) >= rules.certain_risk
            # A person is asked where the answer is PAUSE, and nowhere else.
            assert said.decision == "PAUSE" or "held_for_a_person" not in said.reasons


def is_silent(policy: DeploymentPolicy, release: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether the state can use nothing of an observation, by the features' definitions."""
    for feature in policy.encoder.state:
        metric = feature.metric
        if metric not in METRICS or feature.kind in (*SHARES, *BEFORE):
            continue
        if row[metric] is None:
            continue
        based = any(earlier[metric] is not None for earlier in release["baseline"])
        if feature.kind.startswith("baseline") and not based:
            continue
        if feature.kind.startswith("control") and row.get(CONTROL + metric) is None:
            continue
        return False
    return True


@given(
    st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=True)] * 2), min_size=1),
    st.floats(-1e3, 0),
    st.floats(1, 1e3),
    st.floats(0, 50),
)
def test_q_values_never_leave_what_the_rewards_allow(outputs, worst, best, step_cost):
    rewards = Rewards(missed_rollback=worst - 1, correct_continue=best, step_cost=step_cost)
    bounds = Bounds.of(rewards, 12)
    q = bounds.q_values(np.array(outputs))
    assert np.isfinite(q).all()
    least = min(worst - 1, rewards.unnecessary_rollback) - 12 * step_cost
    assert (q[:, 0] >= least).all()
    assert (q[:, 0] <= max(best, rewards.correct_rollback)).all()
    assert (q[:, 1] >= rewards.unnecessary_rollback).all()
    assert (q[:, 1] <= rewards.correct_rollback).all()


@pytest.mark.parametrize("number", [n for n in range(N_POLICIES) if n % 3 != 1])
@settings(max_examples=50)
@given(st.data())
def test_bounds_and_order_hold_on_features_of_any_size(number, data):
    policy = policy_number(number)
    n = len(policy.encoder.state)
    values = st.just(np.nan) | st.floats(-1e300, 1e300) | st.floats(-1, 1)
    one = np.array(data.draw(st.lists(values, min_size=n, max_size=n)))
    steps = np.array(data.draw(st.lists(st.floats(0, 10), min_size=n, max_size=n)))
    # Missing stays missing: that has no place in the order.
    both = np.stack([one, one + steps * policy.encoder.signs])
    q = np.concatenate([policy.q_values(row[None]) for row in both])
    assert (q >= [BOUNDS.going_on[0], BOUNDS.rollback[0]]).all()
    assert (q <= [BOUNDS.going_on[1], BOUNDS.rollback[1]]).all()
    assert q[1, 1] >= q[0, 1] - 1e-9
    assert q[1, 1] - q[1, 0] >= q[0, 1] - q[0, 0] - 1e-9
