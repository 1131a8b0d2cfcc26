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

"""A policy file of version 1 decides as it did until it is calibrated anew.

`version_1.json` holds two such files, calibrations, releases, and what the last release of
oumi-deploy that wrote them answered after each observation: first letter of the decision, risk
where there was one, and `Reason` flags; last the answer to the newest observation as the last.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.evaluation.calibrate import calibrate
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.rollout import Decision

OLD = json.loads(Path(__file__).with_name("version_1.json").read_text(encoding="utf-8"))
CASES = [(q, c) for q in OLD["policies"] for c in OLD["calibrations"]]


def old_file(q_function: str, calibration: str = "none") -> dict[str, Any]:
    return {**OLD["policies"][q_function], "calibration": OLD["calibrations"][calibration]}


def said(decision: Decision) -> str:
    flags = sum(Reason[reason.upper()] for reason in decision.reasons)
    risk = "" if decision.risk is None else f" {decision.risk:.5f}"
    return f"{decision.decision[0]}{risk} {flags}"


def observations(rows: list[list[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(OLD["columns"], row, strict=True)) for row in rows)


@pytest.mark.parametrize(("q_function", "calibration"), CASES)
def test_an_old_file_decides_as_it_did(tmp_path, q_function, calibration):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(old_file(q_function, calibration)), encoding="utf-8")
    policy = DeploymentPolicy.load(path)
    policy.save(path)
    for again in (policy, DeploymentPolicy.load(path)):
        for at, rows in enumerate(OLD["rollouts"]):
            rollout, answers, q_values = again.begin(), [], []
            for row in observations(rows):
                rollout.observe(row)
                if row["phase"] == "canary":
                    decision = rollout.decide()
                    answers.append(said(decision))
                    q_values.append(list(decision.q_values.values()))
                    assert (decision.confidence is None) == (decision.risk is None)
                    assert decision.calibrated == (calibration != "none")
            answers.append(said(rollout.decide(last=True)))
            assert ", ".join(answers) == OLD["answers"][f"{q_function} {calibration}"][at]
            np.testing.assert_allclose(q_values, OLD["q_values"][q_function][at], atol=1e-4)


@pytest.mark.parametrize("q_function", OLD["policies"])
def test_a_calibration_brings_an_old_file_to_the_rules_of_today(make_episodes, q_function):
    policy = DeploymentPolicy.from_dict(old_file(q_function, "defaults"))
    random = np.random.default_rng(1)
    releases = make_episodes(
        *(
            {
                "error_rate": [0.3 * bad + 0.01 * x for x in random.random(4)],
                "control_error_rate": 0.01,
                "memory_usage": 0.6 + 0.3 * bad,
                "cpu_usage": [0.3 + 0.1 * bad * step for step in range(4)],
                "canary_share": 0.1,
                "label": "bad" if bad else "good",
            }
            for bad in (False, True) * 20
        )
    )
    calibrated = calibrate(policy, releases)
    assert policy.version == 1
    assert calibrated.version == 2
    assert DeploymentPolicy.from_dict(calibrated.as_dict()).version == 2
    # A rule of today: nothing that the state can use, and so no CONTINUE at the end of it.
    silent = {"phase": "canary", "error_rate": None}
    assert policy.decide([silent] * 5).decision == "ROLLBACK"
    assert calibrated.decide([silent] * 5).decision == "PAUSE"
