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

"""Each case of the vet fails the policy that was made to fail it, and no other."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.evaluation.vet.levels import describe_levels, read_levels
from oumi_deploy.evaluation.vet.vet import KEPT, Vet, describe, in_words, kept_vet, vet, vetted
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.guardrails import read_guardrails
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

USUAL = {"error_rate": 0.005, "memory_usage": 0.5, "health_score": 1.0, "requests": 900.0}
EDGES = {"error_rate": [0.03, 0.3], "memory_usage": [0.9], "health_score": [0.5]}
MISSING = -1
"""The bin of a missing value."""


def sensible(error: int, memory: int, health: int) -> float:
    """Returns the risk by bin: bad from errors of 0.03, memory of 0.9, or health below 0.5."""
    bad = {1: 0.85, 2: 0.97}.get(error, 0.0), 0.8 * (memory == 1), 0.9 * (health == 0)
    return max(0.05, *bad)


def policy_of(
    risk: Callable[..., float],
    edges: Mapping[str, Sequence[float]] = EDGES,
    *,
    version: int = 2,
    training_data: Mapping[str, Any] | None = None,
    **pauses: Any,
) -> DeploymentPolicy:
    """Returns a calibrated policy whose risk is a function of its features' bins.

    ROLLBACK is worth 150 p - 50 and CONTINUE 50 - 250 p. Training saw values from 0 to 1.
    """
    state = parse_state(edges)
    bins = [[*range(len(inner) + 1), MISSING] for inner in edges.values()]
    risks = np.array([risk(*cell) for cell in product(*bins)])
    center = np.array([USUAL.get(f.name, 0.0) for f in state])
    ones = np.ones(len(state))
    encoder = StateEncoder(
        state,
        center,
        0.1 * ones,
        np.where([f.kind == "value" for f in state], 0.0, -1.0),
        np.where([f.metric == "requests" for f in state], 5000.0, 1.0),
        directions_of(state, {}) if version > 1 else None,
    )
    return DeploymentPolicy(
        encoder,
        TableQ(
            [np.array(inner, dtype=float) for inner in edges.values()],
            np.stack([50 - 250 * risks, 150 * risks - 50], axis=1),
            np.ones((len(risks), 2)),
        ),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data=training_data or {},
        metrics={},
        calibration=Calibration(0.0, 1.0, PauseRules(**pauses)),
        version=version,
    )


def results(found: Vet) -> dict[str, str]:
    return {finding.case: finding.result for finding in found.findings}


def of(found: Vet, case: str) -> Any:
    return next(finding for finding in found.findings if finding.case == case)


def test_a_sensible_policy_passes_every_case():
    found = vet(policy_of(sensible))
    assert set(results(found).values()) == {"passes"}
    assert found.passes
    assert found.warnings == ()
    outage = of(found, "outage")
    assert outage.answered == "ROLLBACK at looks 1 to 10 (risk 0.97)"
    assert f"{len(found.findings)} of {len(found.findings)} cases pass" in describe(found)


def blind_to_outages(error: int, memory: int, health: int) -> float:
    return max(0.05, 0.2 * (error > 0), 0.8 * (memory == 1), 0.2 * (health == 0))


def hasty(error: int, memory: int, health: int) -> float:
    return max(sensible(error, memory, health), 0.9 * (error > 0))


def non_monotone(error: int, memory: int, health: int) -> float:
    return {1: 0.8, 2: 0.4}.get(memory, sensible(error, memory * (memory == MISSING), health))


def anxious(error: int, memory: int, health: int) -> float:
    return max(0.3, sensible(error, memory, health))


def needs_memory(error: int, memory: int, health: int) -> float:
    return 0.95 if memory == MISSING else sensible(error, memory, health)


FAILING = {
    "outage": (blind_to_outages, EDGES, {}),
    "tenfold errors that stay": (sensible, {**EDGES, "error_rate": [0.2, 0.3]}, {}),
    "memory_usage worse and worse": (non_monotone, {**EDGES, "memory_usage": [0.8, 0.9]}, {}),
    "all as before": (anxious, EDGES, {}),
    "spike that heals": (hasty, {**EDGES, "error_rate": [0.02, 0.3]}, {}),
    "one metric missing": (needs_memory, EDGES, {}),
    # A pause that ends in ROLLBACK before the requests together are enough.
    "low traffic": (sensible, EDGES, {"pause_limit": 2, "pause_fallback": "ROLLBACK"}),
}


@pytest.mark.parametrize("case", FAILING)
def test_each_case_fails_the_policy_that_is_made_to_fail_it(case):
    risk, edges, rules = FAILING[case]
    found = vet(policy_of(risk, edges, **rules))
    assert case in found.failed
    assert of(found, case).why
    assert f"FAILS: {case}: {of(found, case).why}" in describe(found)
    # Watched where all is as before, it is rolled back in the end, whatever else there is.
    good = {"spike that heals", "one metric missing", "low traffic"}
    others = {"all as before": good, "outage": {"tenfold errors that stay"}}
    assert set(found.failed) <= {case, *others.get(case, ())}


def test_a_file_of_version_1_fails_where_nothing_is_reported():
    old = vet(policy_of(sensible, version=1, pause_fallback="CONTINUE"))
    assert old.failed == ("all missing",)
    assert "CONTINUE though nothing is reported" in of(old, "all missing").why
    assert vet(policy_of(sensible, pause_fallback="CONTINUE")).passes


def test_an_answer_that_gets_milder_fails_though_the_risk_stays():
    policy = policy_of(sensible, certain_risk=1.0)
    q_function = policy.q_function
    assert isinstance(q_function, TableQ)
    # From errors of 0.3 on CONTINUE is worth more than all: where they are worse, it looks again.
    table = q_function.table.reshape(4, 3, 3, 2).copy()
    table[2, ..., 0] = 200.0
    milder = replace(policy, q_function=replace(q_function, table=table.reshape(-1, 2)))
    found = vet(milder)
    assert "error_rate worse and worse" in found.failed
    assert of(found, "error_rate worse and worse").why.startswith("the answer is milder")


def test_what_the_state_lacks_or_training_never_moved_is_not_applicable_with_a_warning():
    def by_memory(memory: int, cpu: int) -> float:
        return 0.8 if memory == 1 else 0.05

    found = vet(policy_of(by_memory, {"memory_usage": [0.9], "cpu_usage": [0.9]}))
    assert found.passes
    assert {case for case, result in results(found).items() if result == "not applicable"} == {
        *("outage", "tenfold errors that stay", "spike that heals", "cpu_usage worse and worse")
    }
    assert any("error_rate is not in the state" in w for w in found.warnings)
    assert any("cpu_usage moved no risk" in w for w in found.warnings)


def test_a_policy_that_learnt_nothing_has_no_excuse():
    found = vet(policy_of(lambda *bins: 0.05))
    assert "outage" in found.failed
    assert "no metric of the state moves the risk" in of(found, "outage").why


def beside_the_old_version(errors: int, memory: int) -> float:
    return max(0.05, 0.95 * (errors == 1), 0.8 * (memory == 1))


def test_an_outage_that_only_the_old_version_could_show_is_no_reason_to_go_on():
    edges = {"error_rate.control": [0.03], "memory_usage": [0.9]}
    found = vet(policy_of(beside_the_old_version, edges))
    assert found.failed == ("outage",)
    outage = of(found, "outage")
    beside, alone = outage.runs
    assert "from which on the old version is not reported any more" in beside.note
    assert alone.setting == "without the old version's values"
    assert alone.answered.startswith("CONTINUE")
    assert "put error_rate itself into the state" in alone.note
    assert any("tenfold errors" in w and "old version" in w for w in found.warnings)
    # Where nothing else is read, the look is silent and the policy pauses by itself.
    alone = policy_of(lambda errors: 0.95 if errors == 1 else 0.05, {"error_rate.control": [0.03]})
    assert results(vet(alone))["outage"] == "passes"


def test_an_outage_is_followed_to_its_end():
    def forgets(errors: int, steps: int) -> float:
        return 0.95 if errors == 1 and steps != 1 else 0.05

    found = vet(policy_of(forgets, {"error_rate": [0.03], "steps": [4.5, 6.5]}))
    assert "outage" in found.failed
    assert of(found, "outage").why == "CONTINUE while an outage lasts"


def test_settings_without_a_baseline_are_tried_where_the_state_uses_one():
    edges = {"error_rate": [0.03], "memory_usage.baseline": [0.3]}
    found = vet(policy_of(beside_the_old_version, edges))
    assert found.passes
    settings = [run.setting for run in of(found, "all as before").runs]
    assert settings == ["", "without a baseline"]
    assert len(of(vet(policy_of(sensible)), "all as before").runs) == 1


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "state",
    [
        ["control_error_rate.mean"],
        ["requests"],
        ["error_rate.missing", "memory_usage.slope"],
        ["queue.max", "canary_share"],
        ["latency.control", "n_pods.baseline_mean"],
    ],
)
def test_any_state_can_be_vetted(state, version):
    edges = {name: [0.5] for name in state}
    found = vet(policy_of(lambda *bins: 0.1 + 0.8 * (bins[0] == 1), edges, version=version))
    json.dumps(found.as_dict(), allow_nan=False)
    assert describe(found)


def test_an_uncalibrated_policy_is_judged_by_the_risk_that_its_q_values_imply():
    for version in (1, 2):
        bare = replace(policy_of(sensible, version=version), calibration=None)
        assert results(vet(bare))["outage"] == "passes"
        assert vetted(bare)[0] is bare


def test_tenfold_is_ten_times_what_was_usual_in_training(make_episodes):
    releases = make_episodes(
        *({"error_rate": [0.02] * 4, "label": "good"} for _ in range(9)),
        {"error_rate": [0.9] * 4, "label": "bad"},
    )
    known = {"levels": describe_levels(releases)}
    edges = {**EDGES, "error_rate": [0.12, 0.3]}
    # Tenfold is 0.2 here, and 0.05 where 0.005 is usual.
    assert vet(policy_of(sensible, edges, training_data=known)).passes
    assert vet(policy_of(sensible, edges)).failed == ("tenfold errors that stay",)


def test_levels_are_quantiles_of_the_canary_rows_of_releases_not_known_to_be_bad(make_episodes):
    releases = make_episodes(
        {
            "phase": ["baseline", "canary", "canary"],
            "timestamp": [0.0, 60.0, 180.0],
            "load": [9.0, 1.0, 3.0],
            "control_load": [None, 2.0, 2.0],
            "label": "good",
        },
        {"load": [2.0], "timestamp": [0.0], "control_load": [None]},
        {"load": [100.0], "timestamp": [0.0], "control_load": [7.0], "label": "bad"},
    )
    levels = describe_levels(releases)
    assert levels["metrics"] == {"load": [1.1, 2.0, 2.9], "control_load": [2.0, 2.0, 2.0]}
    assert levels["observations"] == [1.05, 1.5, 1.95]
    assert levels["minutes"] == 2.0
    json.dumps(levels, allow_nan=False)


def test_without_levels_in_the_file_the_state_tells_them_and_else_a_default_with_a_warning():
    edges = {"memory_usage": [0.9], "latency.baseline": [0.3]}
    policy = policy_of(lambda memory, latency: 0.8 * (memory == 1) + 0.05, edges)
    levels = read_levels(policy)
    assert levels.usual["memory_usage"] == 0.5
    assert levels.guessed == ("latency", "requests")
    assert any("latency is taken to be" in warning for warning in vet(policy).warnings)


def test_guardrails_are_part_of_what_is_tried():
    policy = policy_of(sensible, {**EDGES, "error_rate": [0.2, 0.3]})
    assert policy.calibration is not None
    assert vet(policy).failed == ("tenfold errors that stay",)
    limit = {"metric": "error_rate", "above": 0.04, "answer": "ROLLBACK"}
    rails = read_guardrails({"limits": [limit], "present": [{"metric": "latency"}]})
    guarded = replace(policy, calibration=replace(policy.calibration, guardrails=rails))
    # What a guardrail reads is reported too, or it would ask for a PAUSE throughout.
    assert vet(guarded).passes


def test_a_calibrated_policy_keeps_its_vet_and_is_not_tried_again(monkeypatch):
    policy, found = vetted(policy_of(blind_to_outages))
    assert policy.calibration is not None
    kept = policy.calibration.fitted_on[KEPT]
    assert kept == {"passes": False, "failed": list(found.failed), "not_applicable": []}
    again = DeploymentPolicy.from_dict(json.loads(json.dumps(policy.as_dict())))
    monkeypatch.setattr("oumi_deploy.evaluation.vet.vet.vet", None)
    assert kept_vet(again) == kept
    assert in_words(kept) == f"fails its vet: {', '.join(found.failed)}"


def test_the_json_has_every_setting():
    plain = json.loads(json.dumps(vet(policy_of(blind_to_outages)).as_dict(), allow_nan=False))
    assert plain["passes"] is False
    outage = next(case for case in plain["cases"] if case["case"] == "outage")
    assert outage["result"] == "fails"
    assert outage["runs"][0] == {
        "result": "fails",
        "answered": outage["answered"],
        "note": "no ROLLBACK by look 2 of an outage",
        "setting": "",
    }
