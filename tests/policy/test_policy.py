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
"""The policy file and its decisions."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.policy import FORMAT, FORMAT_VERSION
from oumi_deploy.policy.qfunctions import NetworkQ, TableQ
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

NAN = float("nan")


def policy_of(q_function, *state: str) -> DeploymentPolicy:
    features, n = parse_state(state), len(state)
    encoder = StateEncoder(
        features,
        center=np.full(n, 0.1),
        scale=np.full(n, 0.2),
        low=np.zeros(n),
        high=np.ones(n),
        directions=directions_of(features, {}),
    )
    return DeploymentPolicy(
        encoder,
        q_function,
        form="sequential",
        rewards=Rewards(missed_rollback=-500),
        discount=0.9,
        training_data={"fingerprint": "abc", "n_episodes": 3},
        metrics={"accuracy": 0.5},
    )


def table_policy() -> DeploymentPolicy:
    """Bins of error_rate: below 0.1, 0.1 and above, missing."""
    table = np.array([[40.0, -45.5], [-80.25, 60.0], [7.0, 7.0]])
    return policy_of(
        TableQ([np.array([0.1])], table, np.array([[9, 9], [3, 3], [0, 0]])), "error_rate"
    )


def network_policy() -> DeploymentPolicy:
    random = np.random.default_rng(7)
    sizes = [(5, 4), (3, 5), (2, 3)]
    layers = [(random.normal(size=size), random.normal(size=size[0])) for size in sizes]
    bounds = Bounds.of(Rewards(missed_rollback=-500), 10)
    return policy_of(NetworkQ(layers, bounds), "error_rate", "error_rate.max")


POLICIES = pytest.mark.parametrize("make", [table_policy, network_policy])


@POLICIES
def test_a_policy_that_was_saved_decides_as_before(tmp_path, make):
    policy, path = make(), tmp_path / "runs" / "policy.json"
    policy.save(path)
    back = DeploymentPolicy.load(path)
    assert back.as_dict() == policy.as_dict()
    assert (back.form, back.discount) == ("sequential", 0.9)
    assert back.rewards == Rewards(missed_rollback=-500)
    assert back.training_data == {"fingerprint": "abc", "n_episodes": 3}
    assert back.metrics == {"accuracy": 0.5}
    features = np.array([[0.0, 0.3], [0.25, 0.25], [NAN, 1.0], [NAN, NAN]])
    features = features[:, : len(policy.encoder.state)]
    np.testing.assert_array_equal(back.q_values(features), policy.q_values(features))


@POLICIES
def test_the_file_is_plain_json_with_all_that_a_reader_needs(tmp_path, make):
    make().save(tmp_path / "p.json")
    plain = json.loads((tmp_path / "p.json").read_text())
    assert (plain["format"], plain["format_version"]) == (FORMAT, FORMAT_VERSION)
    assert plain["actions"] == ["CONTINUE", "ROLLBACK"]
    assert plain["calibration"] is None
    assert {"q_function", "encoder", "rewards", "training_data", "metrics"} <= plain.keys()
    assert "NaN" not in (tmp_path / "p.json").read_text()


def test_decisions_follow_the_newest_observation_of_a_table():
    policy = table_policy()
    decision = policy.decide([{"error_rate": 0.5}, {"error_rate": 0.09}])
    # (-45.5 + 50) / 150 is a belief of 0.03; its log odds bend off a little.
    expected = {
        "decision": "CONTINUE",
        "confidence": pytest.approx(0.97, abs=1e-3),
        "risk": pytest.approx(0.03, abs=1e-3),
        "q_values": {"CONTINUE": 40.0, "ROLLBACK": -45.5},
        "q_margin": 85.5,
        "reasons": [],
        "calibrated": False,
    }
    said = decision.as_dict()
    assert {name: said[name] for name in expected} == expected
    decision = policy.decide([{"error_rate": 0.5}, {"error_rate": 0.1}])
    assert decision.decision == "ROLLBACK"
    assert decision.q_margin == 140.25


def test_a_network_is_its_layers_and_its_bounds_worked_by_hand():
    # Inputs are the value and its mark. asinh((0.3 - 0.1) / 0.2) = asinh(1) = 0.881374.
    layers = [
        (np.array([[2.0, 0.0], [-1.0, 0.0]]), np.array([0.5, 0.25])),
        (np.array([[1.0, 5.0], [-3.0, 5.0]]), np.array([-2.0, 40.0])),
    ]
    # ROLLBACK pays -50 to 100; CONTINUE from -500 - 2 * 10 steps to 100.
    bounds = Bounds.of(Rewards(missed_rollback=-500), 10)
    assert bounds == Bounds(rollback=(-50, 100), going_on=(-520, 100))
    q = policy_of(NetworkQ(layers, bounds), "error_rate").decide([{"error_rate": 0.3}]).q_values
    # Hidden: 2 * 0.881374 + 0.5 = 2.262747, and max(0, -0.631374) = 0. Log odds 0.262747 are a
    # belief of 0.565312; the lead is 40 - 3 * 2.262747 = 33.211758.
    assert q["ROLLBACK"] == pytest.approx(-50 + 150 * 0.565312, abs=1e-3)
    assert q["CONTINUE"] == pytest.approx(-50 + 150 * 0.565312 - 33.211758, abs=1e-3)
    # A lead beyond the bounds is cut off.
    (weight, _), first = layers[1], layers[0]
    for bias, expected in ((-2_000.0, 100.0), (2_000.0, -520.0)):
        network = NetworkQ([first, (weight, np.array([-2.0, bias]))], bounds)
        q = policy_of(network, "error_rate").decide([{"error_rate": 0.3}]).q_values
        assert q["CONTINUE"] == expected


def test_history_reaches_the_decision():
    table = np.array([[50.0, -50.0], [-200.0, 100.0], [50.0, -50.0]])
    policy = policy_of(TableQ([np.array([0.4])], table, table), "error_rate.max")
    assert policy.decide([{"error_rate": 0.5}, {"error_rate": 0.0}]).decision == "ROLLBACK"
    assert policy.decide([{"error_rate": 0.0}]).decision == "CONTINUE"
    # A baseline row is no canary observation.
    rows = [{"error_rate": 0.5, "phase": "baseline"}, {"error_rate": 0.0, "phase": "canary"}]
    assert policy.decide(rows).decision == "CONTINUE"


@POLICIES
def test_absent_none_and_nan_are_the_same(make):
    policy = make()
    first = {"error_rate": 0.2, "phase": "canary"}
    answers = [
        policy.decide([first, second])
        for second in (
            {},
            {"error_rate": None, "phase": None, "timestamp": None, "planned_steps": None},
            {"error_rate": NAN, "phase": NAN, "timestamp": NAN, "planned_steps": NAN},
            {"error_rate": np.float32("nan"), "label": "bad", "control_error_rate": NAN},
        )
    ]
    assert answers == [answers[0]] * 4


def test_a_tie_is_no_rollback_and_has_no_margin():
    # A Q-value of 7 for ROLLBACK is a belief of 57 / 150 = 0.38, above the break-even of 100 / 700.
    policy = policy_of(TableQ([np.array([])], np.full((2, 2), 7.0), np.ones((2, 2))), "error_rate")
    decision = policy.decide([{"error_rate": 0.1}])
    assert (decision.decision, decision.reasons) == ("PAUSE", ("watching",))
    assert decision.q_margin == 0.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2))
def test_the_margin_is_how_far_the_better_action_lies_above_the_other(q):
    policy = policy_of(TableQ([np.array([])], np.array([q, q]), np.ones((2, 2))), "error_rate")
    assert policy.decide([{"error_rate": 0.1}]).q_margin == abs(q[0] - q[1]) >= 0


@pytest.mark.parametrize("rows", [[{"eror_rate": 0.9}], [{"phase": "baseline"}, {"eror_rate": 1}]])
def test_observations_that_name_no_metric_of_the_state_are_refused(rows):
    with pytest.raises(DeployError, match="no observation names a metric"):
        table_policy().decide(rows)


@pytest.mark.parametrize("name", ["step", "timestamp"])
def test_observations_that_are_not_oldest_first_are_refused(name):
    rows = [{"error_rate": 0.1, name: at} for at in (120, 60)]
    with pytest.raises(DeployError, match=f"observation 2: {name} goes back"):
        table_policy().decide(rows)


def test_a_rollout_answers_after_each_observation_like_decide():
    policy, rows = network_policy(), [{"error_rate": e} for e in (0.1, None, 0.9, 0.2)]
    rollout = policy.begin()
    for n, row in enumerate(rows, 1):
        rollout.observe(row)
        assert rollout.decide() == policy.decide(rows[:n])


def test_times_count_as_seconds_or_iso_text():
    table = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    policy = policy_of(
        TableQ([np.array([5.0]), np.empty(0)], np.repeat(table, 2, axis=0), np.ones((6, 2))),
        "minutes",
        "error_rate",
    )

    def bin_of(first: Any, second: Any) -> float:
        rows = [{"timestamp": time, "error_rate": None} for time in (first, second)]
        return policy.decide(rows).q_margin

    assert bin_of(0, 299) == 1
    assert bin_of(0, 300) == 2
    assert bin_of("2023-09-22T15:39:00Z", "2023-09-22T15:43:59Z") == 1
    # 17:44 two hours east of Greenwich is five minutes after 15:39 there.
    assert bin_of("2023-09-22 15:39:00", "2023-09-22T17:44:00+02:00") == 2
    assert bin_of(0, None) == 3


@pytest.mark.parametrize(
    ("observations", "says"),
    [
        ([{}, {"error_rate": 1.5}], r"observation 2: error_rate: 1\.5 is not in 0\.\.1"),
        ([{"error_rate": -0.1}], r"observation 1: error_rate: -0\.1 is not in 0\.\.1"),
        ([{"error_rate": float("inf")}], r"observation 1: error_rate: inf is not in 0\.\.1"),
        ([{"error_rate": 10**400}], r"observation 1: error_rate: inf is not in 0\.\.1"),
        ([{"error_rate": "0.5"}], "observation 1: error_rate: '0.5' is not a number"),
        ([{"error_rate": True}], "observation 1: error_rate: True is not a number"),
        ([{"error_rate": [0.5]}], r"observation 1: error_rate: \[0\.5\] is not a number"),
        ([{"control_error_rate": 2}], r"observation 1: control_error_rate: 2 is not in 0\.\.1"),
        ([{"planned_steps": 0}], "observation 1: planned_steps: 0 is not above 0"),
        ([{"timestamp": "noon"}], "observation 1: timestamp: 'noon' is not ISO 8601 or Unix"),
        ([{"phase": "late"}], "observation 1: phase: 'late' is not one of baseline, canary"),
        ([{}, {"phase": "baseline"}], "observation 2: baseline after canary"),
        ([{}, "error_rate"], "observation 2: 'error_rate' is not an object"),
        ([], "there is no canary observation to decide on"),
        ([{"phase": "baseline"}], "there is no canary observation to decide on"),
        ({"error_rate": 0.5}, "observations: expected a list of objects, oldest first"),
        ("[]", "observations: expected a list of objects, oldest first"),
        (None, "observations: expected a list of objects, oldest first"),
    ],
)
def test_what_is_no_observation_is_refused_in_one_line(observations, says):
    with pytest.raises(DeployError, match=f"^{says}") as refused:
        table_policy().decide(observations)
    assert "\n" not in str(refused.value)


def refused(path: Path) -> str:
    with pytest.raises(DeployError) as error:
        DeploymentPolicy.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


@POLICIES
def test_a_policy_file_cut_anywhere_is_refused_with_its_name(tmp_path, make):
    path = tmp_path / "p.json"
    make().save(path)
    whole = path.read_bytes().rstrip()
    for n in range(0, len(whole), 37):
        path.write_bytes(whole[:n])
        assert refused(path).startswith("truncated or not JSON")


def test_what_is_no_policy_file_is_refused_with_its_name(tmp_path):
    assert refused(tmp_path / "no.json").startswith("No such file")
    assert refused(tmp_path).startswith("Is a directory")
    path = tmp_path / "p.json"
    for content in (b"PAR1\xff\xfe", b"episode_id,step\n", b""):
        path.write_bytes(content)
        assert refused(path).startswith("truncated or not JSON")
    for plain in ({}, [], "text", None, {"format": "other"}, {"format_version": 1}):
        path.write_text(json.dumps(plain))
        assert refused(path).startswith("not a deployment policy")


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.update(format_version=3), "version 3; this release .* reads versions 1 and 2"),
        (lambda p: p.pop("format_version"), "policy file version None"),
        (lambda p: p.update(actions=["ROLLBACK", "CONTINUE"]), "actions: expected"),
        (lambda p: p.pop("encoder"), "the policy has no 'encoder'"),
        (lambda p: p.pop("calibration"), "the policy has no 'calibration'"),
        (lambda p: p.update(encoder=None), "encoder: .* malformed"),
        (lambda p: p["encoder"].update(scale=[]), "encoder: .* differ in length"),
        (lambda p: p["encoder"].update(directions={}), "directions and state name different"),
        (lambda p: p["encoder"].update(directions=["higher"]), "directions and state name"),
        (lambda p: p["encoder"]["directions"].update(error_rate="up"), "direction is not one of"),
        (lambda p: p.update(form="both"), "form: 'both' is not one of single, sequential"),
        (lambda p: p.update(discount="high"), r"discount: 'high' is not in 0\.\.1"),
        (lambda p: p.update(discount=2), r"discount: 2 is not in 0\.\.1"),
        (lambda p: p.update(metrics="good"), "the policy is malformed"),
        (lambda p: p.update(training_data=None), "the policy is malformed"),
        (lambda p: p.update(rewards={"bonus": 1}), "the policy is malformed: .*bonus"),
        (lambda p: p.update(rewards=[]), "the policy is malformed"),
        (lambda p: p["rewards"].update(step_cost="x"), r"rewards\.step_cost: 'x' is not a"),
        (lambda p: p.update(q_function=7), "q_function: .* malformed"),
        (lambda p: p["q_function"].update(kind="forest"), "q_function: unknown kind 'forest'"),
        (lambda p: p["q_function"].pop("edges"), "q_function: 'edges' is missing"),
        (lambda p: p["q_function"].update(edges=[]), "edges and state differ in length"),
        (lambda p: p["q_function"].update(edges=[[2, 1]]), "edges do not rise"),
        (lambda p: p["q_function"].update(edges=[[[1, 2]]]), "edges do not rise"),
        (lambda p: p["q_function"].update(edges=[[NAN]]), "a number that is not finite"),
        (lambda p: p["q_function"]["q_values"].pop(), "expected 3 cells of 2 actions"),
        (lambda p: p["q_function"]["counts"].pop(), "expected 3 cells of 2 actions"),
        (lambda p: p["q_function"].update(q_values=[["a", "b"]] * 3), "q_function: .*malformed"),
        (lambda p: p["q_function"].update(q_values=[[1, NAN]] * 3), "number that is not finite"),
        (lambda p: p["q_function"].update(q_values=[[1, 2], [3]]), "q_function: .*malformed"),
    ],
)
def test_a_policy_that_is_inconsistent_is_refused_in_one_line(tmp_path, change: Change, says):
    plain = table_policy().as_dict()
    change(plain)
    path = tmp_path / "p.json"
    path.write_text(json.dumps(plain))
    message = refused(path)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda q: q["layers"].clear(), "has 4 outputs for 2 actions"),
        (lambda q: q["layers"].pop(), "has 3 outputs for 2 actions"),
        (lambda q: q["layers"].pop(1), "shapes do not follow on one another"),
        (lambda q: q["layers"][0].update(bias=[1.0]), "shapes do not follow on one another"),
        (lambda q: q["layers"][0].update(weight=[1.0]), "shapes do not follow on one another"),
        (lambda q: q["layers"][2].update(bias=[NAN, 0.0]), "a number that is not finite"),
        (lambda q: q["layers"][1].pop("bias"), "'bias' is missing"),
        (lambda q: q.update(layers=3), "malformed"),
        (lambda q: q.update(bounds={"ROLLBACK": [-50, 100]}), "'CONTINUE' is missing"),
        (lambda q: q["bounds"].update(CONTINUE=[100, -500]), "a least and a most for each action"),
        (lambda q: q["bounds"].update(CONTINUE=[100]), "a least and a most for each action"),
        (lambda q: q["bounds"].update(ROLLBACK=[NAN, 100]), "a least and a most for each action"),
        (lambda q: q["bounds"].update(ROLLBACK=["low", 100]), "malformed"),
    ],
)
def test_a_network_that_is_inconsistent_is_refused_in_one_line(tmp_path, change: Change, says):
    plain = network_policy().as_dict()
    change(plain["q_function"])
    path = tmp_path / "p.json"
    path.write_text(json.dumps(plain))
    message = refused(path)
    assert message.startswith(("q_function: ", "q_function.bounds: "))
    assert says in message


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "p.json"
    table_policy().save(path)
    before = path.read_bytes()
    broken = table_policy()
    object.__setattr__(broken, "metrics", {"accuracy": NAN})
    with pytest.raises(ValueError, match="JSON compliant"):
        broken.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]
    with pytest.raises(DeployError, match="exists already"):
        table_policy().save(path, overwrite=False)


def test_deciding_imports_numpy_and_nothing_else_from_outside(tmp_path):
    table_policy().save(tmp_path / "p.json")
    script = """
import sys
known = set(sys.modules)
import oumi_deploy
assert "numpy" not in set(sys.modules) - known
policy = oumi_deploy.DeploymentPolicy.load(sys.argv[1])
print(policy.decide([{"error_rate": 0.5, "timestamp": "2023-09-22T15:39:00Z"}]).decision)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - known}))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "p.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    decision, names = done.stdout.splitlines()
    assert decision == "ROLLBACK"
    outside = set(names.split()) - set(sys.stdlib_module_names)
    assert outside == {"numpy", "oumi_deploy"}
