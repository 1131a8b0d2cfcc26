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

"""No night promotes a policy that fails its vet; a champion that fails may be replaced."""

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.loop.champion import begin
from oumi_deploy.loop.judging import Verdict, with_vets
from oumi_deploy.loop.night import learn
from oumi_deploy.loop.report import describe
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ

PASSING = {"passes": True, "failed": [], "not_applicable": []}
FAILING = {"passes": False, "failed": ["outage"], "not_applicable": []}


@pytest.mark.parametrize("promotes", [True, False])
def test_what_fails_is_never_promoted_and_what_replaces_it_is_told(promotes):
    verdict = Verdict(promotes, "the gain says so", {}, {})
    both = with_vets(verdict, {"champion": PASSING, "challenger": PASSING})
    assert (both.promotes, both.reason) == (promotes, "the gain says so")
    old = with_vets(verdict, {"champion": FAILING, "challenger": PASSING})
    assert old.promotes == promotes
    assert "the champion fails its vet: outage" in old.reason
    new = with_vets(verdict, {"champion": PASSING, "challenger": FAILING})
    assert not new.promotes
    assert "the challenger fails its vet: outage" in new.reason
    assert ("would be promoted" in new.reason) == promotes


def heals_far_out(policy: DeploymentPolicy) -> DeploymentPolicy:
    """Returns the policy, going on again from a value of 0.95 on, which no release here has."""
    table = policy.q_function
    assert isinstance(table, TableQ)
    good, bad, missing = table.table
    return replace(
        policy,
        q_function=TableQ(
            [np.array([0.6, 0.95])], np.array([good, bad, good, missing]), np.ones((4, 2))
        ),
    )


def test_a_challenger_that_fails_its_vet_is_kept_and_the_report_says_why(
    loop, make_log, drifted_log, trains, policy_on
):
    trains(heals_far_out(policy_on("memory_usage")))
    report = learn(loop, make_log(drifted_log()))
    assert report["outcome"] == "kept"
    assert report["champion"] == loop.champion == 1
    assert not report["vets"]["challenger"]["passes"]
    assert "the challenger fails its vet: memory_usage worse and worse" in report["reason"]
    assert "fails its vet" in describe(report)
    kept = DeploymentPolicy.load(loop.version(report["version"]) / "policy.json").calibration
    assert kept is not None
    assert kept.fitted_on["vet"] == loop.about(report["version"])["vets"]["challenger"]


def test_a_champion_that_fails_its_vet_begins_with_a_word_and_may_be_replaced(
    loop, make_log, drifted_log, trains, policy_on, not_begun, tmp_path
):
    """The champion of the fixture rolls back from errors of 0.6 on, far above tenfold ones."""
    assert "fails its vet: tenfold errors that stay" in loop.history()[0]["reason"]
    trains(policy_on("memory_usage"))
    report = learn(loop, make_log(drifted_log()))
    assert report["outcome"] == "promoted"
    assert "the champion fails its vet" in report["reason"]
    policy_on("memory_usage").save(tmp_path / "sound.json")
    begin(not_begun, tmp_path / "sound.json", None)
    assert "vet" not in not_begun.history()[0]["reason"]
    with pytest.raises(DeployError):
        begin(not_begun, tmp_path / "sound.json", None)
