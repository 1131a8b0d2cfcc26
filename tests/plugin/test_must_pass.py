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


def test_kayenta_700_and_330_without_canary_data_it_pauses_and_then_rolls_back(neural):
    assert answers(neural, OLD + errors(*[None] * 10)) == ["PAUSE"] * 4 + ["ROLLBACK"]


def test_argo_4479_empty_observations_never_continue(neural):
    assert "CONTINUE" not in answers(neural, [{}] * 10)


@pytest.mark.parametrize("columns", [{}, {"canary_share": 0.1}])
def test_pods_that_never_report_are_rolled_back_at_the_fifth_observation(neural, columns):
    said = answers(neural, before() + [{**SILENT, **columns}] * 8)
    assert said[0] == "PAUSE"
    assert "CONTINUE" not in said
    assert said[-1] == "ROLLBACK"
    assert len(said) <= 5


@pytest.mark.parametrize("baseline", [before(), []])
def test_telemetry_lost_half_way_pauses(neural, baseline):
    said = answers(neural, [*baseline, *[well()] * 10, SILENT, SILENT])
    assert said == [*["CONTINUE"] * 11, "PAUSE"]


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


@pytest.mark.parametrize("error", [0.001, 0.5])
def test_ten_requests_a_minute_pause(neural, error):
    rows = [well(requests=10, error_rate=error)] * 3
    assert answers(neural, before(requests=10) + rows) == ["PAUSE"] * 3
