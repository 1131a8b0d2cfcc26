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

"""Rollouts that a policy must not get wrong, against policies trained as a user would.

The neural policy is that of `configs/neural`, calibrated by its validation split, with default
settings. A rollout ends at its first ROLLBACK; Kayenta's cases have ten observations. The quick
start's single observations stand in `test_quickstart.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from oumi_deploy import DeploymentPolicy

METRICS = ("error_rate", "memory_usage", "cpu_usage", "health_score")
SILENT: dict[str, Any] = dict.fromkeys(METRICS)


@pytest.fixture(scope="module")
def neural(train_config) -> DeploymentPolicy:
    return DeploymentPolicy.load(train_config("neural") / "deployment_policy_model.json")


def answers(policy: DeploymentPolicy, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The answers to each canary observation of a rollout, up to the first ROLLBACK."""
    rollout, said = policy.begin(), []
    for row in rows:
        rollout.observe(row)
        if row.get("phase") == "baseline":
            continue
        said.append(rollout.decide().decision)
        if said[-1] == "ROLLBACK":
            break
    return said


def well(**changes: Any) -> dict[str, Any]:
    """A healthy observation under usual traffic."""
    usual = {"error_rate": 0.001, "memory_usage": 0.5, "cpu_usage": 0.3, "health_score": 1.0}
    return {**usual, "requests": 500, **changes}


def before(n: int = 10, **changes: Any) -> list[dict[str, Any]]:
    """A healthy baseline."""
    return [{"phase": "baseline", **well(**changes)}] * n


def errors(*rates: float | None, **columns: Any) -> list[dict[str, Any]]:
    """Observations of an error rate alone, the canary planned to have ten."""
    return [{"error_rate": rate, "planned_steps": 10, **columns} for rate in rates]


OLD = [{"phase": "baseline", "error_rate": 0.001}] * 10


def test_kayenta_780_a_mean_seventy_times_higher_is_rolled_back(neural):
    high, low = 0.1, 0.001
    for rates in ([high] * 7 + [low] * 3, [low] * 3 + [high] * 7, [high, high, low] * 3 + [high]):
        assert answers(neural, OLD + errors(*rates))[-1] == "ROLLBACK"
        assert answers(neural, errors(*rates, control_error_rate=low))[-1] == "ROLLBACK"


@pytest.mark.parametrize("baseline", [0.0, None])
def test_kayenta_799_and_377_errors_against_an_empty_baseline_are_rolled_back(neural, baseline):
    rows = [{"phase": "baseline", "error_rate": baseline}] * 10
    assert answers(neural, rows + errors(*[0.05] * 10))[-1] == "ROLLBACK"
    assert answers(neural, errors(*[0.05] * 10, control_error_rate=baseline))[-1] == "ROLLBACK"


def test_kayenta_700_and_330_without_canary_data_it_is_held_for_a_person(neural):
    rows = OLD + errors(*[None] * 10)
    assert answers(neural, rows) == ["PAUSE"] * 10
    assert "held_for_a_person" in neural.decide(rows).reasons


def test_argo_4479_empty_observations_never_continue(neural):
    assert "CONTINUE" not in answers(neural, [{}] * 10)


@pytest.mark.parametrize("columns", [{}, {"canary_share": 0.1}])
def test_pods_that_never_report_wait_for_a_person_from_the_fifth_observation(neural, columns):
    rows = [*before(), *[{**SILENT, **columns}] * 5]
    assert answers(neural, rows) == ["PAUSE"] * 5
    assert "held_for_a_person" in neural.decide(rows).reasons
    assert "held_for_a_person" not in neural.decide(rows[:-1]).reasons
    # It is no latch: what reports again is decided by itself.
    assert neural.decide([*rows, *[well()] * 3]).decision == "CONTINUE"


@pytest.mark.parametrize("baseline", [before(), []])
def test_telemetry_lost_half_way_pauses(neural, baseline):
    said = answers(neural, [*baseline, *[well()] * 10, SILENT, SILENT])
    assert said == [*["CONTINUE"] * 10, "PAUSE", "PAUSE"]


@pytest.mark.parametrize(
    "spike",
    [
        [well(error_rate=0.05, cpu_usage=0.8)] * 2,
        [well(error_rate=e, cpu_usage=c) for e, c in ((0.1, 0.9), (0.06, 0.7), (0.02, 0.5))],
        [well(cpu_usage=c) for c in (0.95, 0.8, 0.6, 0.4)],
        [well(error_rate=0.02)],
    ],
)
def test_a_warm_up_that_heals_is_never_rolled_back(neural, spike):
    assert "ROLLBACK" not in answers(neural, [*before(), *spike, *[well()] * 15])


def test_errors_are_rolled_back_though_every_pod_is_ready(neural):
    control = {f"control_{name}": value for name, value in well().items()}
    failing = well(error_rate=0.08, health_score=1.0, **control)
    assert answers(neural, before() + [failing] * 10)[-1] == "ROLLBACK"


@pytest.mark.parametrize("steps", [10, 20, 30])
def test_a_memory_leak_is_rolled_back_before_its_limit(neural, steps):
    rows = [well(memory_usage=0.5 + 0.5 * i / steps) for i in range(steps)]
    assert answers(neural, before() + rows)[-1] == "ROLLBACK"


def test_a_noisy_neighbour_of_both_versions_is_never_rolled_back(neural):
    def beside(error: float, cpu: float) -> dict[str, Any]:
        row = well(error_rate=error, cpu_usage=cpu)
        return {**row, **{f"control_{name}": row[name] for name in METRICS}}

    quiet, noisy = beside(0.001, 0.3), beside(0.04, 0.7)
    assert "ROLLBACK" not in answers(neural, before() + [noisy] * 15)
    assert "ROLLBACK" not in answers(neural, before() + [quiet] * 5 + [noisy] * 10)


def test_ten_requests_a_minute_are_counted_together_until_they_are_enough(neural):
    healthy = [*before(requests=10), *[well(requests=10)] * 6]
    assert answers(neural, healthy)[::2] == ["PAUSE"] * 3
    assert "ROLLBACK" not in answers(neural, healthy)
    assert neural.decide(healthy[:11]).reasons == ("few_requests",)
    failing = [*before(requests=10), *[well(requests=10, error_rate=0.5)] * 6]
    assert answers(neural, failing)[0] == "PAUSE"
    assert answers(neural, failing)[-1] == "ROLLBACK"


#
# What an engineer on call would sign: values as of the table, and others of the same kind.
#
USUAL = {"error_rate": 0.004, "memory_usage": 0.5, "cpu_usage": 0.35, "health_score": 1.0}


def beside_old(control: bool, **changes: Any) -> dict[str, Any]:
    """An observation of the new version, beside an old one that is as usual."""
    old = {f"control_{name}": value for name, value in USUAL.items()} if control else {}
    return {**USUAL, **old, "requests": 500, **changes}


def asked(
    policy, *rows: dict[str, Any], control: bool = True, n: int = 10, **baseline
) -> list[str]:
    """The answers to observations after a usual baseline, in which only what is named differs."""
    usual = [{"phase": "baseline", **USUAL, **baseline}] * n
    return answers(policy, [*usual, *(beside_old(control, **row) for row in rows)])


both_ways = pytest.mark.parametrize("control", [True, False])


@both_ways
@pytest.mark.parametrize("n", [10, 0])
@pytest.mark.parametrize("cpu", [0.35, 0.02])
def test_an_outage_is_rolled_back_by_the_second_look(neural, control, n, cpu):
    gone = {"error_rate": 1.0, "health_score": 0.0, "cpu_usage": cpu}
    said = asked(neural, *[gone] * 5, control=control, n=n)
    assert said[-1] == "ROLLBACK"
    assert len(said) <= 2


@both_ways
@pytest.mark.parametrize("errors", [0.2, 0.35])
def test_errors_of_a_fifth_are_rolled_back_by_the_third_look(neural, control, errors):
    said = asked(neural, *[{"error_rate": errors}] * 7, control=control)
    assert said[-1] == "ROLLBACK"
    assert len(said) <= 3


@both_ways
@pytest.mark.parametrize("memory", [0.7, 0.9, 1.0, 2.0])
def test_memory_that_jumps_is_not_let_through(neural, control, memory):
    said = asked(neural, {}, {}, {}, *[{"memory_usage": memory}] * 2, control=control)
    assert "CONTINUE" not in said[3:]


@both_ways
def test_cpu_of_twice_its_limit_is_not_let_through(neural, control):
    assert "CONTINUE" not in asked(neural, {"cpu_usage": 2.0}, {"cpu_usage": 2.0}, control=control)


@both_ways
@pytest.mark.parametrize("n", [10, 0])
@pytest.mark.parametrize("limit", [{"memory_usage": 1.0}, {"cpu_usage": 2.0}])
def test_a_limit_that_is_reached_from_the_first_look_on_is_rolled_back(neural, control, n, limit):
    assert asked(neural, *[limit] * 5, control=control, n=n)[-1] == "ROLLBACK"


@both_ways
def test_pods_that_stop_being_ready_after_nine_good_looks_are_not_let_through(neural, control):
    said = asked(neural, *[{}] * 9, {"health_score": 0.0}, {"health_score": 0.0}, control=control)
    assert said[:9] == ["CONTINUE"] * 9
    assert said[9] != "CONTINUE"
    assert said[-1] == "ROLLBACK"


@both_ways
@pytest.mark.parametrize(
    ("now", "then"),
    [
        ({}, {}),
        ({"requests": 100_000}, {}),
        ({"memory_usage": 0.4}, {"memory_usage": 0.6}),
        ({"error_rate": 0.0}, {"error_rate": 0.1}),
        ({"cpu_usage": 0.05}, {"cpu_usage": 0.05}),
    ],
)
def test_what_is_as_before_or_better_goes_on_at_every_look(neural, control, now, then):
    assert asked(neural, *[now] * 10, control=control, **then) == ["CONTINUE"] * 10


def test_lost_telemetry_is_never_promoted_under_any_fallback(neural):
    lost = {**dict.fromkeys(USUAL), **dict.fromkeys(f"control_{name}" for name in USUAL)}
    for fallback in ("PAUSE", "CONTINUE", "ROLLBACK"):
        pauses = replace(neural.calibration.pauses, pause_fallback=fallback)
        policy = replace(neural, calibration=replace(neural.calibration, pauses=pauses))
        said = asked(policy, {}, {}, {}, *[lost] * 8)
        assert "CONTINUE" not in said[3:]


def of_both(**values: float | None) -> dict[str, Any]:
    """What both versions report."""
    return {**values, **{f"control_{name}": value for name, value in values.items()}}


def test_what_fails_in_the_old_version_as_much_is_not_rolled_back(neural):
    for rate in (0.1, 0.4):
        shared = of_both(error_rate=rate)
        assert "ROLLBACK" not in asked(neural, *[shared] * 8)
    assert "ROLLBACK" not in asked(neural, {}, {}, {}, {}, *[of_both(error_rate=0.4)] * 6)
    # Nobody would send more traffic to what fails altogether, in whatever company.
    everything = of_both(error_rate=1.0)
    assert asked(neural, *[everything] * 8) == ["PAUSE"] * 8
    assert asked(neural, {}, {}, *[everything] * 4)[2:] == ["PAUSE"] * 4


@pytest.mark.parametrize(
    "level", [{"memory_usage": 0.85}, {"cpu_usage": 0.85}, {"health_score": 0.67}]
)
def test_a_level_that_was_as_bad_before_and_is_in_the_old_version_goes_on(neural, level):
    assert asked(neural, *[of_both(**level)] * 10, **level) == ["CONTINUE"] * 10


def test_memory_that_comes_from_below_to_the_old_versions_is_not_rolled_back(neural):
    rows = [{"memory_usage": 0.5 - 0.3 * 0.6**i} for i in range(10)]
    said = asked(neural, *rows)
    assert "ROLLBACK" not in said
    assert said[-1] == "CONTINUE"


def test_what_the_old_version_alone_reports_is_not_promoted_unseen(neural):
    said = asked(neural, {}, {}, {}, *[{"error_rate": None}] * 6)
    assert said[5:] == ["PAUSE"] * 4


@pytest.mark.parametrize("n", [10, 0])
def test_an_outage_is_no_continue_once_the_old_version_is_gone(neural, n):
    """As the old version is once the new one has all the traffic."""
    gone = {f"control_{name}": None for name in USUAL}
    fails = {"error_rate": 1.0, "health_score": 0.0, **gone}
    said = asked(neural, *[{}] * 6, *[fails] * 4, n=n)
    assert said[:6] == ["CONTINUE"] * 6
    assert "CONTINUE" not in said[6:]
    assert said[-1] == "ROLLBACK"


@pytest.mark.parametrize("n_gone", [0, 4])
def test_errors_that_begin_when_the_old_version_has_no_traffic_left_are_rolled_back(neural, n_gone):
    """Its memory is still reported, its error rate is not; that alone is no failure."""
    idle = {"control_error_rate": None}
    for rate in (0.1, 0.5, 1.0):
        failing = [{**idle, "error_rate": rate}] * 6
        said = asked(neural, *[{}] * 4, *[idle] * n_gone, *failing)
        assert said[: 4 + n_gone] == ["CONTINUE"] * (4 + n_gone)
        assert "CONTINUE" not in said[4 + n_gone :]
        assert said[-1] == "ROLLBACK"
    gone = {f"control_{name}": None for name in USUAL}
    assert asked(neural, *[{}] * 4, *[gone] * 6) == ["CONTINUE"] * 10


def test_a_shared_failure_that_the_new_version_keeps_is_its_own(neural):
    """The old one heals, or is gone."""
    shared, gone = of_both(error_rate=0.4), {f"control_{name}": None for name in USUAL}
    for old in ({}, gone):
        said = asked(neural, {}, {}, {}, *[shared] * 3, *[{"error_rate": 0.4, **old}] * 6)
        assert said[-1] == "ROLLBACK"
        assert "CONTINUE" not in said[7:]
