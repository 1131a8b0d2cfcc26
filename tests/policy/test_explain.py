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

"""Explanations: what each metric contributes, what would turn the decision, and the sentence."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from math import asinh

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.cli.main import main
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.explain import Explanation, explain, explain_rollout
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import NetworkQ, TableQ
from oumi_deploy.policy.shapley import shapley_values
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import HISTORY, parse_state


#
# Shapley values
#
def game_of(worth_of_coalition):
    """A game from a function of the set of players."""
    return lambda is_in: np.array([worth_of_coalition(frozenset(np.flatnonzero(s))) for s in is_in])


def test_the_glove_game():
    # Player 0 has a left glove, 1 and 2 a right one; a pair is worth 1. The left is first in one
    # order of three, and else makes the pair: 2/3. The right ones share the rest.
    values = shapley_values(game_of(lambda s: float(0 in s and (1 in s or 2 in s))), 3)
    np.testing.assert_allclose(values.values, [2 / 3, 1 / 6, 1 / 6])
    assert (values.worth_of_none, values.worth_of_all, values.standard_error) == (0, 1, None)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_exact_values_are_the_mean_over_all_orders(n, seed):
    worths = np.random.default_rng(seed).normal(size=2**n)
    game = game_of(lambda s: worths[sum(1 << i for i in s)])
    added = np.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        for place, player in enumerate(order):
            before = sum(1 << i for i in order[:place])
            added[player] += worths[before | 1 << player] - worths[before]
    values = shapley_values(game, n)
    np.testing.assert_allclose(values.values, added / len(orders), atol=1e-12)
    assert values.values.sum() == pytest.approx(worths[-1] - worths[0])


@given(st.integers(0, 2**32 - 1))
def test_equal_players_get_the_same_and_an_idle_one_nothing(seed):
    worths = np.random.default_rng(seed).normal(size=(3, 2))
    # Players 0 and 1 count alike, player 3 not at all.
    values = shapley_values(game_of(lambda s: worths[len(s & {0, 1}), int(2 in s)]), 4).values
    assert values[0] == pytest.approx(values[1])
    assert values[3] == pytest.approx(0, abs=1e-12)


def test_of_many_players_orders_are_sampled_and_the_error_is_told():
    # A player gets its own worth, and half of that of each pair it is in.
    random = np.random.default_rng(3)
    own, pairs = random.normal(size=14), np.triu(random.normal(size=(14, 14)), 1)

    def worth(is_in):
        return is_in @ own + np.einsum("ni,ij,nj->n", is_in, pairs, is_in) + 5.0

    exact = own + (pairs + pairs.T).sum(axis=1) / 2
    sampled = shapley_values(worth, 14, seed=1)
    assert sampled.standard_error is not None
    assert 0 < sampled.standard_error < 0.3
    assert np.abs(sampled.values - exact).max() < 5 * sampled.standard_error
    assert sampled.values.sum() == pytest.approx(sampled.worth_of_all - 5.0)
    np.testing.assert_array_equal(shapley_values(worth, 14, seed=1).values, sampled.values)
    assert (shapley_values(worth, 14, seed=2).values != sampled.values).any()


#
# What each metric contributes
#
def encoder_of(state, center=0.1, scale=0.2, low=0.0, high=0.5) -> StateEncoder:
    features = parse_state(state)
    statistics = (np.full(len(state), x) for x in (center, scale, low, high))
    return StateEncoder(features, *statistics, directions=directions_of(features, {}))


def policy_of(q_function, encoder: StateEncoder, calibration=None) -> DeploymentPolicy:
    return DeploymentPolicy(
        encoder,
        q_function,
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
        calibration=calibration,
    )


def as_version_1(policy: DeploymentPolicy) -> DeploymentPolicy:
    """The policy as a file of version 1 has it: without directions, deciding by its Q-values."""
    return replace(policy, version=1, encoder=replace(policy.encoder, directions=None))


def lead_table(leads) -> DeploymentPolicy:
    """ROLLBACK's lead where error_rate and cpu_usage are low, high or missing, shape (3, 3)."""
    table = np.stack([np.zeros(9), np.ravel(leads)], axis=1)
    edges = [np.array([0.2]), np.array([0.2])]
    state = ("error_rate", "cpu_usage")
    return as_version_1(policy_of(TableQ(edges, table, table), encoder_of(state)))


def linear_lead(weights, state) -> DeploymentPolicy:
    """ROLLBACK's lead is a weighted sum of the inputs."""
    layers = [(np.stack([np.zeros(len(weights)), weights]), np.zeros(2))]
    return as_version_1(policy_of(NetworkQ(layers), encoder_of(state)))


def network_of(seed: int, state, **statistics) -> DeploymentPolicy:
    """A network of any weights, as files of version 1 have it."""
    random = np.random.default_rng(seed)
    sizes = [(8, 2 * len(state)), (2, 8)]
    layers = [(random.normal(size=size) * 2, random.normal(size=size[0])) for size in sizes]
    return as_version_1(policy_of(NetworkQ(layers), encoder_of(state, **statistics)))


def ordered_network_of(seed: int, state, **statistics) -> DeploymentPolicy:
    """A network that finds a release no less bad where a metric is worse."""
    random = np.random.default_rng(seed)
    encoder = encoder_of(state, **statistics)
    first, last = random.normal(size=(8, 2 * len(state))), np.abs(random.normal(size=(2, 8)))
    signs = np.concatenate([encoder.signs, np.zeros(len(state))])
    first = np.where(signs == 0, first, signs * np.abs(first))
    layers = [(first, random.normal(size=8)), (last * [[1.0], [30.0]], [-3.0, -60.0])]
    plain = [(np.array(weight), np.array(bias)) for weight, bias in layers]
    return policy_of(NetworkQ(plain, Bounds.of(Rewards(), 10)), encoder)


def contributions(explanation: Explanation) -> dict[str, float]:
    return {effect.metric: effect.contribution for effect in explanation.metrics}


def test_two_metrics_share_what_only_both_explain():
    policy = lead_table([[-10, -6, 0], [2, 30, 0], [0, 0, 0]])
    baseline = {"phase": "baseline", "error_rate": 0.1, "cpu_usage": 0.1}
    explanation = explain(policy, [baseline, {"error_rate": 0.4, "cpu_usage": 0.3}])
    # error_rate: ((2 - -10) + (30 - -6)) / 2 = 24; cpu_usage: ((-6 - -10) + (30 - 2)) / 2 = 16.
    assert contributions(explanation) == pytest.approx({"error_rate": 24.0, "cpu_usage": 16.0})
    assert [effect.metric for effect in explanation.metrics] == ["error_rate", "cpu_usage"]
    assert (explanation.output, explanation.method) == ("q_difference", "exact")
    assert (explanation.value, explanation.reference_value) == (30.0, -10.0)
    assert explanation.sentence == (
        "ROLLBACK: error_rate 0.40 (baseline 0.10) raised ROLLBACK's lead in expected reward most "
        "(+24.0), in all from -10.0 to 30.0; would CONTINUE if error_rate were below 0.2."
    )


def test_values_stand_beside_the_baseline_and_the_old_version():
    policy = lead_table(np.zeros((3, 3)))
    rows = [
        {"phase": "baseline", "error_rate": 0.1},
        {"phase": "baseline", "error_rate": 0.3, "cpu_usage": None},
        {"error_rate": 0.25, "control_cpu_usage": 0.45},
    ]
    effects = {effect.metric: effect for effect in explain(policy, rows).metrics}
    error, cpu = effects["error_rate"], effects["cpu_usage"]
    assert (error.value, error.baseline, error.control) == (0.25, pytest.approx(0.2), None)
    assert (cpu.value, cpu.baseline, cpu.control) == (None, None, 0.45)


def test_a_metric_moves_with_its_history_and_its_mark():
    state = ("error_rate", "error_rate.max", "error_rate.missing", "cpu_usage", "steps")
    weights = np.array([3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 0.0, 0.0, 19.0, 0.0])
    policy = linear_lead(weights, state)
    rows = [
        {"phase": "baseline", "error_rate": 0.1, "cpu_usage": 0.3},
        {"error_rate": 0.5, "cpu_usage": 0.3},
        {"error_rate": None, "cpu_usage": 0.5},
    ]
    # error_rate: its mark 17 instead of a value at the centre, whose input is 0; its maximum 0.5
    # is asinh(2) where 0.1 is 0; half of it missing is asinh(2), none asinh(-1/2).
    error = 17 + 5 * asinh(2) + 7 * (asinh(2) - asinh(-0.5))
    cpu = 11 * (asinh(2) - asinh(1))
    explanation = explain(policy, rows)
    assert contributions(explanation) == pytest.approx(
        {"error_rate": error, "cpu_usage": cpu}, abs=1e-4
    )
    # The clock runs on without them: one step done is asinh(4.5).
    reference = 7 * asinh(-0.5) + 11 * asinh(1) + 13 * asinh(4.5)
    assert explanation.reference_value == pytest.approx(reference, abs=1e-4)


def test_silence_beside_an_old_version_that_reports_is_the_metrics_doing():
    state = ("error_rate.control_mean", "error_rate.unmatched")
    weights = np.array([3.0, 0.0, 5.0, 7.0])
    policy = linear_lead(weights, state)
    baseline = {"phase": "baseline", "error_rate": 0.1}
    # Without a control value the difference is missing either way, and nothing is unmatched.
    silent = [baseline, {"error_rate": None}, {"error_rate": None}]
    assert contributions(explain(policy, silent)) == pytest.approx({"error_rate": 0.0})
    # With one, even an earlier one, it would be 0 instead of missing: mark 5, no asinh(-1/2).
    silent[1]["control_error_rate"] = 0.2
    explanation = explain(policy, silent)
    assert contributions(explanation)["error_rate"] == pytest.approx(5 - 3 * asinh(-0.5), abs=1e-4)


def test_without_a_baseline_a_metric_is_held_against_the_training_median():
    policy = lead_table([[-10, -6, 0], [2, 30, 0], [0, 0, 0]])
    # The median 0.1 is low. cpu_usage is low too, so that all is error_rate's: 2 - -10.
    explanation = explain(policy, [{"error_rate": 0.4, "cpu_usage": 0.15}])
    assert contributions(explanation) == pytest.approx({"error_rate": 12.0, "cpu_usage": 0.0})


ALL = tuple(
    name
    for metric in ("error_rate", "cpu_usage")
    for name in (metric, *(f"{metric}.{kind}" for kind in HISTORY))
)


@pytest.mark.parametrize("n_observations", [1, 3])
@pytest.mark.parametrize("has_control", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_metric_that_stayed_at_its_baseline_contributes_nothing(
    seed, n_observations, has_control
):
    row = {"error_rate": 0.25, "cpu_usage": 0.4}
    if has_control:
        row |= {"control_error_rate": 0.25, "control_cpu_usage": 0.1}
    rows = [{**row, "phase": "baseline"}, *[{**row, "cpu_usage": 0.5}] * n_observations]
    explanation = explain(network_of(seed, ALL), rows)
    assert contributions(explanation)["error_rate"] == pytest.approx(0, abs=1e-5)
    assert abs(contributions(explanation)["cpu_usage"]) > 1e-3


VALUES = st.one_of(st.none(), st.floats(0, 1))
ROWS = st.builds(
    lambda error, cpu, control, phase: {
        "error_rate": error, "cpu_usage": cpu, "control_error_rate": control, "phase": phase,
    },
    VALUES, VALUES, VALUES, st.none(),
)  # fmt: skip


@given(st.integers(0, 99), st.lists(ROWS, min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_contributions_sum_to_what_they_explain(seed, rows, has_baseline, is_old):
    make = network_of if is_old else ordered_network_of
    policy = make(seed, (*ALL, "steps", "requests"))
    if has_baseline:
        rows = [{**rows[0], "phase": "baseline"}, *rows]
    for told in (policy, replace(policy, calibration=Calibration(0.2, 0.8))):
        explanation, answer = explain(told, rows), told.decide(rows)
        total = explanation.reference_value + sum(contributions(explanation).values())
        assert explanation.value == pytest.approx(total)
        lead = answer.q_values["ROLLBACK"] - answer.q_values["CONTINUE"]
        assert explanation.value == pytest.approx(lead if answer.risk is None else answer.risk)
        assert explanation.output == ("q_difference" if answer.risk is None else "risk")
        assert explanation.calibrated == answer.calibrated
        assert explanation.decision == answer.decision


KNOWN = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(sorted)


@given(st.integers(0, 99), KNOWN, VALUES, st.floats(0, 1), st.lists(VALUES, min_size=5, max_size=5))
@settings(max_examples=100)
def test_a_metric_that_only_got_worse_never_lowers_the_risk(seed, errors, control, base, cpu):
    """All its features are at or above their reference, whatever the other metric does."""
    ordered = [name for name, sign in zip(ALL, encoder_of(ALL).signs, strict=True) if sign]
    policy = ordered_network_of(seed, (*ordered, "error_rate.missing", "steps", "canary_share"))
    before = {"phase": "baseline", "error_rate": min(base, errors[0])}
    least = None if control is None else min(control, errors[0])
    rows = [
        {"error_rate": error, "control_error_rate": least, "cpu_usage": x, "canary_share": 0.1}
        for error, x in zip(errors, cpu, strict=False)
    ]
    assert contributions(explain(policy, [before, *rows]))["error_rate"] >= -1e-12


def test_what_tells_of_the_traffic_is_no_metric_to_blame():
    state = ("error_rate", "requests", "canary_share", "n_pods", "steps")
    policy = ordered_network_of(1, state, high=1000.0)
    row = {"error_rate": 0.3, "requests": 500.0, "canary_share": 0.5, "n_pods": 3.0}
    explanation = explain(policy, [row])
    assert [*contributions(explanation)] == ["error_rate"]
    # It is as it is either way.
    calm = policy.decide([{**row, "error_rate": 0.1}])
    assert explanation.reference_value == pytest.approx(calm.risk)


def test_of_more_than_ten_metrics_contributions_are_sampled_with_an_error():
    state = tuple(f"m{i}" for i in range(12))
    policy = network_of(5, state)
    rows = [{name: 0.1 * i for i, name in enumerate(state)}]
    explanation = explain(policy, rows, seed=4)
    assert explanation.method == "sampled"
    assert explanation.standard_error is not None
    assert explanation.standard_error > 0
    total = explanation.reference_value + sum(contributions(explanation).values())
    assert explanation.value == pytest.approx(total)
    assert explain(policy, rows, seed=4) == explanation


#
# What would turn the decision
#
def parts_of(change):
    return change and (change.metric, change.threshold, change.direction, change.decision)


def change_of(policy, rows, **when):
    return parts_of(explain(policy, rows, **when).change)


def other_change_of(policy, rows, **when):
    return parts_of(explain(policy, rows, **when).other_change)


def test_the_nearest_turn_of_a_table_is_its_edge(make_table):
    policy = make_table([0.05, 0.9, 0.0], [0.13])
    assert change_of(policy, [{"error_rate": 0.4}]) == ("error_rate", 0.13, "below", "CONTINUE")
    assert change_of(policy, [{"error_rate": 0.0}]) == ("error_rate", 0.13, "above", "ROLLBACK")


def test_only_better_values_make_an_answer_milder_and_only_worse_ones_severer(make_table):
    # A policy file of version 1 may have an island of ROLLBACK; no engineer would sign that more
    # errors are better.
    island = as_version_1(make_table([0.05, 0.9, 0.05, 0.0], [0.13, 0.28]))
    assert change_of(island, [{"error_rate": 0.21}]) == ("error_rate", 0.13, "below", "CONTINUE")
    assert change_of(island, [{"error_rate": 0.4}]) is None
    # Of health, lower is worse.
    policy = make_table([0.9, 0.05, 0.0], [0.13], ("health_score",))
    assert change_of(policy, [{"health_score": 0.0}]) == ("health_score", 0.13, "above", "CONTINUE")
    assert change_of(policy, [{"health_score": 0.4}]) == ("health_score", 0.13, "below", "ROLLBACK")


def test_worse_values_are_looked_at_beyond_what_training_has_seen(make_table):
    policy = make_table([0.05, 0.9, 0.0], [0.9])
    assert change_of(policy, [{"error_rate": 0.0}]) == ("error_rate", 0.9, "above", "ROLLBACK")
    policy = make_table([0.05, 0.9, 0.0], [2.5], ("memory_usage",))
    assert change_of(policy, [{"memory_usage": 0.0}]) == ("memory_usage", 2.5, "above", "ROLLBACK")


def test_history_is_what_it_would_have_been(make_table):
    policy = make_table([0.05, 0.9, 0.0], [0.3], ("error_rate.mean",))
    # (0.5 + x) / 2 passes 0.3 at 0.1.
    rows = [{"error_rate": 0.5}, {"error_rate": 0.45}]
    assert change_of(policy, rows) == ("error_rate", 0.1, "below", "CONTINUE")
    # The maximum stays what an earlier observation made it.
    policy = make_table([0.05, 0.9, 0.0], [0.3], ("error_rate.max",))
    assert change_of(policy, rows) is None


def watched_table(state=("error_rate",), edges=((0.1, 0.3),), certain=1.0) -> DeploymentPolicy:
    """CONTINUE below 0.1, watched at a risk of 0.4 up to 0.3, ROLLBACK at 0.8 from there on.

    Of two features, the worse one's cell counts.
    """
    risks, leads = np.array([0.1, 0.4, 0.8, 0.1]), np.array([-40.0, -20.0, 40.0, -40.0])
    worst = np.array([0, 1, 2, 0])
    if len(state) > 1:
        worst = np.maximum(worst[:, None], worst[None]).ravel()
    rollback = 150 * risks[worst] - 50
    table = np.stack([rollback - leads[worst], rollback], axis=1)
    q_function = TableQ([np.array(inner) for inner in edges], table, table)
    rules = PauseRules(certain_risk=certain, watch_limit=3)
    calibration = Calibration(0.0, 1.0, rules)
    return policy_of(q_function, encoder_of(state), calibration)


def test_each_other_answer_has_its_change():
    policy = watched_table()
    answers = {
        0.05: ("CONTINUE", (0.3, "above", "ROLLBACK"), (0.1, "above", "PAUSE")),
        0.2: ("PAUSE", (0.1, "below", "CONTINUE"), (0.3, "above", "ROLLBACK")),
        0.4: ("ROLLBACK", (0.1, "below", "CONTINUE"), (0.3, "below", "PAUSE")),
    }
    for error_rate, (decision, change, other) in answers.items():
        explanation = explain(policy, [{"error_rate": error_rate}])
        assert explanation.decision == decision
        assert parts_of(explanation.change) == ("error_rate", *change)
        assert parts_of(explanation.other_change) == ("error_rate", *other)
    # At the last look there is no PAUSE to come to.
    assert other_change_of(policy, [{"error_rate": 0.4}], last=True) is None


def test_the_metric_that_raised_the_risk_is_named_before_a_nearer_one():
    policy = watched_table(("error_rate", "cpu_usage"), ((0.1, 0.3), (0.1, 0.3)))
    rows = [{"error_rate": 0.2, "cpu_usage": 0.09}]
    # cpu_usage is nearer to 0.3 than an error rate of 0.11 would be; it raised nothing.
    assert other_change_of(policy, rows) == ("error_rate", 0.3, "above", "ROLLBACK")
    # Where none raised it, the nearest is named, in units of the training's spread.
    rows = [{"error_rate": 0.05, "cpu_usage": 0.09}]
    assert other_change_of(policy, rows) == ("cpu_usage", 0.1, "above", "PAUSE")
    wide = replace(policy, encoder=replace(policy.encoder, scale=np.array([2.0, 0.2])))
    assert other_change_of(wide, rows) == ("error_rate", 0.1, "above", "PAUSE")


@given(st.integers(0, 199), st.lists(ROWS, min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=150)
def test_the_changes_that_are_named_do_turn_the_decision_the_way_they_say(
    seed, rows, is_old, pauses
):
    make = network_of if is_old else ordered_network_of
    policy = make(seed, (*ALL, "steps", "requests", "canary_share"), low=-1.0, high=1.0)
    if pauses:
        policy = replace(policy, calibration=Calibration(0.0, 1.0, PauseRules(max_doubt=0.1)))
    rows = [{**row, "requests": 100.0, "canary_share": 0.1} for row in rows]
    explanation = explain(policy, rows)
    severity = ["CONTINUE", "PAUSE", "ROLLBACK"].index
    for change in (explanation.change, explanation.other_change):
        if change is None or change.threshold is None:
            continue
        assert change.metric in ("error_rate", "cpu_usage")
        is_milder = severity(change.decision) < severity(explanation.decision)
        assert change.direction == ("below" if is_milder else "above")
        # A round threshold can be the turn itself, which lies on neither side.
        step = -1e-4 if is_milder else 1e-4
        answers = {
            policy.decide([*rows[:-1], {**rows[-1], change.metric: value}]).decision
            for value in (change.threshold, change.threshold + step)
            if 0 <= value <= 1 or (change.metric == "cpu_usage" and value >= 0)
        }
        assert change.decision in answers
        assert change.decision != explanation.decision


def test_a_change_has_to_get_past_the_pauses_and_the_false_alarm_bound(make_table):
    policy = make_table([0.05, 0.4, 0.85, 0.0], [0.13, 0.3])
    bounded = Calibration(0.0, 1.0, alpha=0.05, rollback_from=0.6)
    row = [{"error_rate": 0.0}]
    assert change_of(policy, row) == ("error_rate", 0.13, "above", "ROLLBACK")
    bounded = replace(policy, calibration=bounded)
    assert change_of(bounded, row) == ("error_rate", 0.3, "above", "ROLLBACK")
    assert other_change_of(bounded, row) == ("error_rate", 0.13, "above", "PAUSE")
    # From 0.13 to 0.3 the policy doubts.
    doubts = replace(policy, calibration=Calibration(0.0, 1.0, PauseRules(max_doubt=0.3)))
    assert change_of(doubts, row) == ("error_rate", 0.3, "above", "ROLLBACK")


def test_nothing_is_named_where_no_metric_has_a_direction(make_table):
    policy = make_table([0.05, 0.9, 0.0], [0.13], ("queue", "steps"))
    unknown = replace(policy, encoder=replace(policy.encoder, directions={"queue": "either"}))
    for rows in ([{"queue": 0.4}], [{"queue": 0.0}]):
        assert change_of(unknown, rows) is None
        assert "is not known" in explain(unknown, rows).sentence
    higher = replace(policy, encoder=replace(policy.encoder, directions={"queue": "higher"}))
    assert change_of(higher, [{"queue": 0.4}]) == ("queue", 0.13, "below", "CONTINUE")


#
# The sentence
#
def said(policy, rows, **when) -> str:
    return explain(policy, rows, **when).sentence


@pytest.fixture
def careful(make_table, calibrate_as_is) -> DeploymentPolicy:
    """Risk 0.05 below an error rate of 0.13, 0.85 above, 0.05 where it is missing."""
    return calibrate_as_is(make_table([0.05, 0.85, 0.05], [0.13]), min_requests=20)


def test_a_rollback_names_the_metric_the_risk_and_the_way_back(careful):
    rows = [{"phase": "baseline", "error_rate": 0.02}, {"error_rate": 0.4}]
    assert said(careful, rows) == (
        "ROLLBACK: error_rate 0.40 (baseline 0.02) raised the risk from 0.05 to 0.85; "
        "would CONTINUE if error_rate were below 0.13."
    )
    # Without a baseline it stands beside the old version.
    assert "error_rate 0.40 (old version 0.03) raised" in said(
        careful, [{"error_rate": 0.4, "control_error_rate": 0.03}]
    )


def test_a_continue_says_that_a_promotion_pays_at_its_risk(careful):
    before = {"phase": "baseline", "error_rate": 0.02}
    assert said(careful, [before, {"error_rate": 0.02}]) == (
        "CONTINUE: the risk 0.05 is at most 0.25, up to which a promotion pays; with every metric "
        "at its baseline it would be 0.05; would ROLLBACK if error_rate were above 0.13."
    )
    assert "with every metric as usual it would be 0.05" in said(careful, [{"error_rate": 0.02}])


@pytest.mark.parametrize("above", [0.004, 0.0004])
def test_a_risk_is_never_said_to_be_above_itself(above):
    rollback = 150 * (0.25 + above) - 50
    table = np.tile([rollback + 20, rollback], (3, 1))
    policy = policy_of(TableQ([np.array([0.2])], table, table), encoder_of(("error_rate",)))
    sentence = said(policy, [{"error_rate": 0.1}])
    risk, bound = re.findall(r"risk ([\d.]+) is above ([\d.]+),", sentence)[0]
    assert float(risk) > float(bound)


def test_a_certain_risk_is_given_as_the_reason():
    before = {"phase": "baseline", "error_rate": 0.02}
    assert said(watched_table(certain=0.35), [before, {"error_rate": 0.2}]) == (
        "ROLLBACK: the risk 0.40 is at least 0.35, from which on the answer is ROLLBACK; "
        "error_rate 0.20 (baseline 0.02) raised it from 0.10 to 0.40; would CONTINUE if error_rate "
        "were below 0.1."
    )


def test_a_watch_counts_and_says_what_ends_it_either_way():
    policy = watched_table()
    rows = [{"phase": "baseline", "error_rate": 0.02}, *[{"error_rate": 0.2}] * 3]
    assert said(policy, rows[:-1]) == (
        "PAUSE: the risk 0.40 is above 0.25, up to which a promotion pays, and another look is "
        "worth more than a ROLLBACK (PAUSE 2 of 3, the last of which becomes ROLLBACK); error_rate "
        "0.20 (baseline 0.02) raised it from 0.10 to 0.40; would CONTINUE if error_rate were below "
        "0.1, ROLLBACK if above 0.3."
    )
    assert said(policy, rows) == (
        "ROLLBACK: after 3 observations running without a decision, the risk 0.40 is above 0.25, "
        "up to which a promotion pays, and a ROLLBACK pays more than a person's time; error_rate "
        "0.20 (baseline 0.02) raised it from 0.10 to 0.40; would CONTINUE if error_rate were below "
        "0.1."
    )
    assert said(policy, rows[:2], last=True).startswith(
        "ROLLBACK: as no observation follows to wait for, the risk 0.40 is above 0.25, "
    )
    # Where the tool asks again, its last look is watched like any other.
    assert said(policy, rows[:2], last=True, asks_again=True) == said(policy, rows[:2])


def test_a_watch_that_cannot_end_in_a_rollback_is_for_a_person():
    policy = watched_table()
    costly = replace(policy, rewards=replace(policy.rewards, held=20.0))
    assert "(PAUSE 1 of 3, at the last of which a person must decide)" in said(
        costly, [{"error_rate": 0.2}]
    )
    held = "PAUSE: a person must decide, after 4 observations running without a decision: the risk "
    assert said(costly, [{"error_rate": 0.2}] * 4).startswith(
        held + "0.40 is above 0.25, up to which a promotion pays, but a ROLLBACK pays less than a "
        "person's time; "
    )
    bound = Calibration(0.0, 1.0, PauseRules(watch_limit=3), alpha=0.05, rollback_from=0.6)
    assert said(replace(policy, calibration=bound), [{"error_rate": 0.2}] * 4).startswith(
        held + "0.40 is above 0.25, up to which a promotion pays, but the bound of 0.05 on false "
        "alarms lets a ROLLBACK through from a risk of 0.60 on, and this one is 0.40; "
    )
    doubting = Calibration(0.0, 1.0, PauseRules(max_doubt=0.5, watch_limit=3))
    assert "but ROLLBACK would be wrong with a probability of 0.60, above the 0.5 that" in said(
        replace(policy, calibration=doubting), [{"error_rate": 0.2}] * 4
    )


def test_a_pause_for_silence_counts_and_says_what_ends_it(careful):
    assert said(careful, [{"error_rate": None}]) == (
        "PAUSE: error_rate was not reported in the only observation so far (PAUSE 1 of 5, at the "
        "last of which a person must decide); would CONTINUE if error_rate were reported and below "
        "0.13, ROLLBACK if reported and above 0.13."
    )
    rows = [{"error_rate": 0.1}, {}, {}]
    assert "not reported in the newest observation (PAUSE 2 of 5," in said(careful, rows)
    for n in (5, 16):
        assert said(careful, [{"error_rate": None}] * n).startswith(
            f"PAUSE: a person must decide, after {n} observations running without a decision: "
            "error_rate was not reported in the newest observation; "
        )
    assert said(careful, rows, last=True).startswith(
        "PAUSE: a person must decide, as no observation follows to wait for: error_rate was not "
    )


@pytest.mark.parametrize("fallback", ["CONTINUE", "ROLLBACK"])
def test_what_a_pause_becomes_is_said(careful, calibrate_as_is, fallback):
    policy = calibrate_as_is(careful, min_requests=20, pause_fallback=fallback)
    few = {"error_rate": 0.1, "requests": 3}
    assert f"(PAUSE 4 of 5, the last of which becomes {fallback})" in said(policy, [few] * 4)
    assert said(policy, [few] * 5).startswith(
        f"{fallback}: after 5 observations running without a decision, PAUSE becomes {fallback}: "
        "requests were 3, 15 with those before, where a decision takes 20; "
    )
    assert said(policy, [few], last=True).startswith(
        f"{fallback}: as no observation follows to wait for, PAUSE becomes {fallback}: requests "
    )


def test_values_that_the_state_cannot_use_are_said_to_be_there():
    state = ("error_rate.control",)
    table = np.tile([40.0, -40.0], (3, 1))
    policy = policy_of(TableQ([np.array([0.2])], table, table), encoder_of(state))
    assert said(policy, [{"error_rate": 1.0}]).startswith(
        "PAUSE: error_rate alone cannot be used in the only observation so far: the policy reads "
        "it beside the baseline's or the old version's, which was not reported ("
    )


def test_a_pause_for_few_requests_says_how_many_it_takes(careful):
    assert said(careful, [{"error_rate": 0.1, "requests": 3}]) == (
        "PAUSE: requests were 3 where a decision takes 20 (PAUSE 1 of 5, at the last of which a "
        "person must decide); would CONTINUE if requests were at least 20."
    )
    rows = [{"error_rate": 0.4, "requests": 3}, {"error_rate": 0.4, "requests": 4}]
    sentence = said(careful, rows)
    assert sentence.startswith(
        "PAUSE: requests were 4, 7 with those before, where a decision takes 20 ("
    )
    assert sentence.endswith("; would ROLLBACK if requests were at least 17.")
    assert careful.decide([rows[0], {**rows[1], "requests": 17}]).decision == "ROLLBACK"
    # Elsewhere requests are not named, though they are in the state.
    state = ("error_rate", "requests")
    two = replace(
        careful,
        encoder=encoder_of(state, high=1000.0),
        q_function=TableQ(
            [np.array([0.13]), np.array([100.0])],
            np.array([[37.5, -42.5], [-175, 85], [-175, 85]] * 3),
            np.ones((9, 2)),
        ),
    )
    explanation = explain(two, [{"error_rate": 0.1, "requests": 90}])
    assert explanation.change is None
    few = explain(two, [{"error_rate": 0.1, "requests": 3}])
    assert parts_of(few.change) == ("requests", 20.0, "at least", "CONTINUE")


def test_a_pause_for_values_worse_than_training_names_metric_and_value(careful):
    low_risk = replace(
        careful, q_function=TableQ([np.array([0.13])], np.tile([40.0, -40.0], (3, 1)), np.ones(1))
    )
    assert said(low_risk, [{"error_rate": 0.8}]) == (
        "PAUSE: error_rate 0.80 is worse than all that training has seen (at most 0.50) (PAUSE 1 "
        "of 5, at the last of which a person must decide); would CONTINUE if error_rate were below "
        "0.5."
    )
    state = ("error_rate.baseline", "health_score", "queue.max")
    table = np.tile([40.0, -40.0], (8, 1))
    policy = policy_of(
        TableQ([np.array([])] * 3, table, table), encoder_of(state, low=0.2, high=0.5)
    )
    rows = [
        {"phase": "baseline", "error_rate": 0.1},
        {"error_rate": 0.9, "health_score": 0.1, "queue": 0.4},
    ]
    assert (
        "error_rate 0.90, 0.80 from its baseline, is worse than all that training has seen (at "
        "most 0.50; so is health_score) ("
    ) in said(policy, rows)
    rows = [{"error_rate": None, "health_score": 0.4, "queue": 9.0}]
    assert (
        "queue 9.00, 9.00 at its highest so far, is outside all that training has seen (at most "
        "0.50) ("
    ) in said(policy, rows)


def test_a_pause_for_doubt_says_how_likely_it_is_wrong(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.4, 0.0], [0.13]), max_doubt=0.3, watch_limit=3)
    assert said(policy, [{"error_rate": 0.4}]).startswith(
        "PAUSE: ROLLBACK would be wrong with a probability of 0.60, above the 0.3 that is allowed "
        "(PAUSE 1 of 3, at the last of which a person must decide); "
    )


def test_a_rollback_that_the_bound_on_false_alarms_stops_is_explained(make_table):
    policy = make_table([0.05, 0.4, 0.0], [0.13])
    rules = PauseRules(watch_limit=3)
    calibration = Calibration(0.0, 1.0, rules, alpha=0.05, rollback_from=0.6)
    bounded = replace(policy, calibration=calibration)
    rows = [{"phase": "baseline", "error_rate": 0.02}, {"error_rate": 0.4}]
    assert said(bounded, rows) == (
        "PAUSE: the policy would rather roll back, but the bound of 0.05 on false alarms lets a "
        "ROLLBACK through from a risk of 0.60 on, and this one is 0.40 (PAUSE 1 of 3, at the last "
        "of which a person must decide); error_rate 0.40 (baseline 0.02) raised it from 0.05 to "
        "0.40; would CONTINUE if error_rate were below 0.13."
    )


def test_an_uncalibrated_risk_is_called_so(make_table):
    explanation = explain(make_table([0.05, 0.85, 0.05], [0.13]), [{"error_rate": 0.4}])
    assert (explanation.output, explanation.calibrated) == ("risk", False)
    assert "raised the uncalibrated risk from 0.05 to 0.85" in explanation.sentence


def test_a_metric_that_was_not_reported_is_called_so():
    policy = lead_table([[-10, -6, 30], [2, 30, 30], [0, 0, 0]])
    assert said(policy, [{"error_rate": 0.1, "cpu_usage": None}]) == (
        "ROLLBACK: cpu_usage, not reported, raised ROLLBACK's lead in expected reward most "
        "(+40.0), in all from -10.0 to 30.0; would CONTINUE if cpu_usage were reported."
    )


def test_what_only_the_history_explains_is_laid_to_the_history():
    policy = ordered_network_of(3, ("error_rate.max", "error_rate"))
    before = {"phase": "baseline", "error_rate": 0.02}
    healed = [before, {"error_rate": 0.4}, {"error_rate": 0.02}]
    assert "the history of error_rate raised" in said(policy, healed)


NAMED = re.compile(r"(\w+) ([\d.]+) \((?:baseline|old version) ([\d.]+)\) (raised|lowered) ")
COUNTED = re.compile(r"PAUSE (\d+) of (\d+)")


@given(
    st.integers(0, 99),
    st.lists(ROWS, min_size=1, max_size=7),
    VALUES,
    st.sampled_from(["PAUSE", "ROLLBACK", "CONTINUE"]),
    st.sampled_from([None, 3.0, 30.0]),
    st.booleans(),
)
@settings(max_examples=200)
def test_no_sentence_says_what_an_engineer_would_refuse(seed, rows, base, fallback, requests, last):
    state = ("error_rate", "error_rate.mean", "error_rate.missing", "cpu_usage", "canary_share")
    rules = PauseRules(pause_fallback=fallback)
    policy = replace(
        ordered_network_of(seed, (*state, "steps")), calibration=Calibration(0.0, 1.0, rules)
    )
    rows = [{**row, "requests": requests, "canary_share": 0.3} for row in rows]
    rows = [{"phase": "baseline", "error_rate": base, "cpu_usage": base}, *rows]
    explanation = explain(policy, rows, last=last)
    sentence = explanation.sentence
    assert sentence.startswith(f"{explanation.decision}: ")
    for _, value, reference, verb in NAMED.findall(sentence):
        lower, higher = (reference, value) if verb == "raised" else (value, reference)
        assert float(lower) <= float(higher)
    for running, limit in COUNTED.findall(sentence):
        assert int(running) < int(limit) <= rules.pause_limit
    assert "canary_share" not in sentence
    assert "steps" not in sentence
    if "requests" in sentence:
        assert "few_requests" in policy.decide(rows, last=last).reasons


#
# The whole
#
@pytest.mark.parametrize(
    "rows",
    [[], {}, "[]", None, [{"phase": "baseline"}], [{"error_rate": 2}], [{"eror_rate": 1}]],
)
def test_what_cannot_be_decided_cannot_be_explained(make_table, rows):
    policy = make_table([0.05, 0.9, 0.0], [0.13])
    with pytest.raises(DeployError) as of_decide:
        policy.decide(rows)
    with pytest.raises(DeployError) as of_explain:
        explain(policy, rows)
    assert str(of_explain.value) == str(of_decide.value)


def test_a_rollout_under_way_is_explained_and_goes_on_undisturbed(careful):
    rows = [{"error_rate": e, "requests": 50} for e in (0.1, None, None, 0.3, 0.1)]
    rollout = careful.begin()
    for n, row in enumerate(rows, 1):
        rollout.observe(row)
        assert explain_rollout(rollout) == explain(careful, rows[:n])
        assert rollout.decide() == careful.decide(rows[:n])


def test_the_command_adds_the_explanation_to_the_answer(tmp_path, monkeypatch, capsys, careful):
    careful.save(tmp_path / "p.json")
    rows = [{"error_rate": 0.4}]

    def ask(*options: str) -> dict:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(rows)))
        assert main(["decide", "--policy", str(tmp_path / "p.json"), *options]) == 0
        return json.loads(capsys.readouterr().out)

    explanation = ask("--explain").pop("explanation")
    assert explanation == explain(careful, rows).as_dict()
    assert explanation["change"] == {
        "metric": "error_rate", "threshold": 0.13, "direction": "below", "decision": "CONTINUE",
    }  # fmt: skip
    assert [*explanation["metrics"][0]] == [
        "metric", "value", "baseline", "control", "contribution",
    ]  # fmt: skip
    assert ask("--explain").keys() - ask().keys() == {"explanation"}


def test_explaining_imports_numpy_and_nothing_else_from_outside(tmp_path, careful):
    careful.save(tmp_path / "p.json")
    script = """
import sys
known = set(sys.modules)
from oumi_deploy import DeploymentPolicy
from oumi_deploy.policy.explain import explain
explain(DeploymentPolicy.load(sys.argv[1]), [{"error_rate": 0.5}])
print(*{name.partition(".")[0] for name in set(sys.modules) - known})
"""
    command = [sys.executable, "-c", script, str(tmp_path / "p.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"numpy", "oumi_deploy"}
