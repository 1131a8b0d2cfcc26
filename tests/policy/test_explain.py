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
    statistics = (np.full(len(state), x) for x in (center, scale, low, high))
    return StateEncoder(parse_state(state), *statistics)


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


def lead_table(leads) -> DeploymentPolicy:
    """ROLLBACK's lead where error_rate and cpu_usage are low, high or missing, shape (3, 3)."""
    table = np.stack([np.zeros(9), np.ravel(leads)], axis=1)
    edges = [np.array([0.2]), np.array([0.2])]
    return policy_of(TableQ(edges, table, table), encoder_of(("error_rate", "cpu_usage")))


def network_of(seed: int, state, **statistics) -> DeploymentPolicy:
    random = np.random.default_rng(seed)
    sizes = [(8, 2 * len(state)), (2, 8)]
    layers = [(random.normal(size=size) * 2, random.normal(size=size[0])) for size in sizes]
    return policy_of(NetworkQ(layers), encoder_of(state, **statistics))


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
    policy = policy_of(
        NetworkQ([(np.stack([np.zeros(10), weights]), np.zeros(2))]), encoder_of(state)
    )
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
    policy = policy_of(
        NetworkQ([(np.stack([np.zeros(4), weights]), np.zeros(2))]), encoder_of(state)
    )
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
def test_contributions_sum_to_what_they_explain(seed, rows, has_baseline, is_calibrated):
    policy = network_of(seed, (*ALL, "steps"))
    if is_calibrated:
        policy = replace(policy, calibration=Calibration(0.2, 0.8))
    if has_baseline:
        rows = [{**rows[0], "phase": "baseline"}, *rows]
    explanation = explain(policy, rows)
    answer = policy.decide(rows)
    total = explanation.reference_value + sum(contributions(explanation).values())
    assert explanation.value == pytest.approx(total)
    lead = answer.q_values["ROLLBACK"] - answer.q_values["CONTINUE"]
    assert explanation.value == pytest.approx(answer.risk if is_calibrated else lead)
    assert explanation.decision == answer.decision


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
def change_of(policy, rows, *, last=False):
    change = explain(policy, rows, last=last).change
    return change and (change.metric, change.threshold, change.direction, change.decision)


def test_the_nearest_turn_of_a_table_is_its_edge(make_table):
    policy = make_table([0.05, 0.9, 0.0], [0.13])
    assert change_of(policy, [{"error_rate": 0.4}]) == ("error_rate", 0.13, "below", "CONTINUE")
    assert change_of(policy, [{"error_rate": 0.0}]) == ("error_rate", 0.13, "above", "ROLLBACK")
    # Of two, the nearer: 0.13 is a unit of 0.2 / 100 nearer to 0.2 than 0.28.
    island = make_table([0.05, 0.9, 0.05, 0.0], [0.13, 0.28])
    assert change_of(island, [{"error_rate": 0.2}]) == ("error_rate", 0.13, "below", "CONTINUE")
    assert change_of(island, [{"error_rate": 0.21}]) == ("error_rate", 0.28, "above", "CONTINUE")


def test_history_is_what_it_would_have_been(make_table):
    policy = make_table([0.05, 0.9, 0.0], [0.3], ("error_rate.mean",))
    # (0.5 + x) / 2 passes 0.3 at 0.1.
    rows = [{"error_rate": 0.5}, {"error_rate": 0.45}]
    assert change_of(policy, rows) == ("error_rate", 0.1, "below", "CONTINUE")
    # The maximum stays what an earlier observation made it.
    policy = make_table([0.05, 0.9, 0.0], [0.3], ("error_rate.max",))
    assert change_of(policy, rows) is None


def test_metrics_are_compared_in_units_of_the_training_spread():
    # Both edges are 0.2 away; cpu_usage is measured in units ten times as wide.
    leads = [[-10, 5, 0], [5, 5, 0], [0, 0, 0]]
    policy = lead_table(leads)
    wide = replace(policy, encoder=replace(policy.encoder, scale=np.array([0.2, 2.0])))
    change = change_of(wide, [{"error_rate": 0.0, "cpu_usage": 0.0}])
    assert change is not None
    assert change[0] == "cpu_usage"


@given(st.integers(0, 199), st.lists(ROWS, min_size=1, max_size=3), st.booleans())
@settings(max_examples=80)
def test_the_change_that_is_named_does_turn_the_decision(seed, rows, is_calibrated):
    policy = network_of(seed, (*ALL, "steps"), low=-1.0, high=1.0)
    if is_calibrated:
        policy = replace(policy, calibration=Calibration(0.0, 1.0, PauseRules(max_doubt=0.1)))
    explanation = explain(policy, rows)
    change = explanation.change
    if change is None or change.threshold is None:
        return
    # A round threshold can be the turn itself, which lies on neither side.
    step = {"below": -1e-4, "above": 1e-4}[str(change.direction)]
    answers = {
        policy.decide([*rows[:-1], {**rows[-1], change.metric: value}]).decision
        for value in (change.threshold, change.threshold + step)
        if 0 <= value <= 1 or (change.metric == "cpu_usage" and value >= 0)
    }
    assert change.decision in answers
    assert change.decision != explanation.decision


def test_a_change_has_to_get_past_the_pauses_and_the_false_alarm_bound(make_table):
    policy = make_table([0.05, 0.4, 0.9, 0.0], [0.13, 0.3])
    bounded = Calibration(0.0, 1.0, alpha=0.05, rollback_from=0.6)
    row = [{"error_rate": 0.0}]
    assert change_of(policy, row) == ("error_rate", 0.13, "above", "ROLLBACK")
    bounded = replace(policy, calibration=bounded)
    assert change_of(bounded, row) == ("error_rate", 0.3, "above", "ROLLBACK")
    # From 0.13 to 0.3 the policy doubts, and PAUSE is no turn.
    doubts = replace(policy, calibration=Calibration(0.0, 1.0, PauseRules(max_doubt=0.3)))
    assert change_of(doubts, row) == ("error_rate", 0.3, "above", "ROLLBACK")


#
# The sentence
#
def said(policy, rows, *, last=False) -> str:
    return explain(policy, rows, last=last).sentence


@pytest.fixture
def careful(make_table, calibrate_as_is) -> DeploymentPolicy:
    """Risk 0.05 below an error rate of 0.13, 0.9 above, 0.05 where it is missing."""
    return calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.13]), min_requests=20)


def test_a_rollback_names_the_metric_the_risk_and_the_way_back(careful):
    rows = [{"phase": "baseline", "error_rate": 0.02}, {"error_rate": 0.4}]
    assert said(careful, rows) == (
        "ROLLBACK: error_rate 0.40 (baseline 0.02) raised the risk from 0.05 to 0.90; "
        "would CONTINUE if error_rate were below 0.13."
    )


def test_a_decision_that_no_metric_speaks_for_says_so(careful):
    assert said(careful, [{"error_rate": 0.02}]) == (
        "CONTINUE: no metric lowered the risk, 0.05; with every metric at its baseline it is 0.05; "
        "would ROLLBACK if error_rate were above 0.13."
    )


def test_a_pause_for_silence_counts_and_says_what_ends_it(careful):
    assert said(careful, [{"error_rate": None}]) == (
        "PAUSE: error_rate was not reported in the only observation so far (pause 1 of 5, the last "
        "of which becomes ROLLBACK); would CONTINUE if error_rate were reported."
    )
    rows = [{"error_rate": 0.1}, {}, {}, {}]
    assert "in the last two observations (pause 2 of 5," in said(careful, rows)
    assert said(careful, [{"error_rate": None}] * 5).startswith(
        "ROLLBACK: error_rate was not reported in the last two observations, and this is pause 5 "
        "of 5; "
    )
    assert said(careful, rows, last=True).startswith(
        "ROLLBACK: error_rate was not reported in the last two observations, and no observation "
        "follows to wait for; would CONTINUE if error_rate were reported, below 0.13."
    )


def test_a_pause_for_few_requests_says_how_many_it_takes(careful):
    explanation = explain(careful, [{"error_rate": 0.1, "requests": 3}])
    assert explanation.sentence == (
        "PAUSE: requests were 3, and a decision takes 20 (pause 1 of 5, the last of which becomes "
        "ROLLBACK); would CONTINUE if requests were at least 20."
    )
    # The same where requests are a metric of the state.
    two = replace(
        careful,
        encoder=encoder_of(("error_rate", "requests"), high=1000.0),
        q_function=TableQ(
            [np.array([0.13]), np.array([])],
            np.repeat(np.array([[37.5, -42.5], [-175, 85], [37.5, -42.5]]), 2, axis=0),
            np.ones((6, 2)),
        ),
    )
    assert said(two, [{"error_rate": 0.4, "requests": 3}]).endswith(
        "; would ROLLBACK if requests were at least 20."
    )


def test_a_pause_for_values_outside_training_names_the_farthest(careful):
    assert said(careful, [{"error_rate": 0.1, "requests": 90}, {"error_rate": 0.12}]).startswith(
        "CONTINUE: "
    )
    low_risk = replace(
        careful, q_function=TableQ([np.array([0.13])], np.tile([40.0, -40.0], (3, 1)), np.ones(1))
    )
    assert said(low_risk, [{"error_rate": 0.8}]) == (
        "PAUSE: error_rate 0.80 is above the 0.50 that training has seen at most (pause 1 of 5, "
        "the last of which becomes ROLLBACK); would CONTINUE if error_rate were below 0.5."
    )


def test_a_pause_for_doubt_says_how_likely_it_is_wrong(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.4, 0.0], [0.13]), max_doubt=0.3)
    assert said(policy, [{"error_rate": 0.4}]).startswith(
        "PAUSE: ROLLBACK would be wrong with a probability of 0.60, above the 0.3 that is allowed "
        "(pause 1 of 5, "
    )


def test_a_rollback_that_the_bound_on_false_alarms_stops_is_explained(make_table):
    policy = make_table([0.05, 0.4, 0.0], [0.13])
    bounded = replace(policy, calibration=Calibration(0.0, 1.0, alpha=0.05, rollback_from=0.6))
    assert said(bounded, [{"error_rate": 0.4}]) == (
        "CONTINUE: the policy prefers ROLLBACK, but the bound of 0.05 on false alarms lets it "
        "through from a risk of 0.60 on, and this one is 0.40; no other newest value of one "
        "metric, as far as training has seen, would turn the decision."
    )


def test_a_metric_that_was_not_reported_is_called_so():
    policy = lead_table([[-10, -6, 30], [2, 30, 30], [0, 0, 0]])
    assert said(policy, [{"error_rate": 0.1, "cpu_usage": None}]) == (
        "ROLLBACK: cpu_usage, not reported, raised ROLLBACK's lead in expected reward most "
        "(+40.0), in all from -10.0 to 30.0; would CONTINUE if cpu_usage were reported."
    )


#
# The whole
#
@pytest.mark.parametrize(
    "rows",
    [[], {}, "[]", None, [{"phase": "baseline"}], [{}], [{"error_rate": 2}], [{"eror_rate": 1}]],
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
