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

"""A champion's guardrails stay with its challengers."""

from dataclasses import replace

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.loop.champion import begin
from oumi_deploy.loop.night import learn
from oumi_deploy.policy.guardrails import read_guardrails
from oumi_deploy.policy.policy import DeploymentPolicy


@pytest.fixture
def begun(not_begun, policy_on, tmp_path):
    """Begins a loop with a champion that has a limit on a metric."""

    def begin_with(metric: str):
        limits = [{"metric": metric, "above": 0.95, "answer": "ROLLBACK"}]
        champion = policy_on("error_rate")
        guarded = replace(champion.calibration, guardrails=read_guardrails({"limits": limits}))
        replace(champion, calibration=guarded).save(tmp_path / "guarded.json")
        begin(not_begun, tmp_path / "guarded.json", None)
        return not_begun

    return begin_with


def test_a_challenger_is_calibrated_with_the_champions_guardrails(
    begun, make_log, drifted_log, trains, policy_on
):
    loop = begun("memory_usage")
    trains(policy_on("memory_usage"))
    report = learn(loop, make_log(drifted_log()))
    challenger = DeploymentPolicy.load(loop.version(report["version"]) / "policy.json")
    assert challenger.guardrails.names == ("memory_usage above 0.95",)
    assert challenger.calibration is not None
    assert challenger.calibration.fitted_on["guardrails"]["fired_on_bad"] == [0]


def test_a_night_without_the_metric_of_a_guardrail_says_so(
    begun, make_log, drifted_log, trains, policy_on
):
    loop = begun("queue")
    trains(policy_on("memory_usage"))
    with pytest.raises(DeployError, match=r"queue above 0\.95: none of these releases reports"):
        learn(loop, make_log(drifted_log()))
    assert loop.champion == 1
