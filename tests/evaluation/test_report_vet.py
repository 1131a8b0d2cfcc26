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

"""A report shows what common sense says of the policy, and how like its releases are."""

import json
from dataclasses import replace
from html import escape

import numpy as np

from oumi_deploy.evaluation.report.contents import report_contents
from oumi_deploy.evaluation.report.page import render
from oumi_deploy.evaluation.vet.vet import vet
from oumi_deploy.policy.qfunctions import TableQ


def releases_of(make_episodes, n=20):
    return make_episodes(
        *(
            {
                "error_rate": [0.0, 0.5 if i % 2 else 0.01],
                "label": "bad" if i % 2 else "good",
                "group": f"g{i}",
            }
            for i in range(n)
        )
    )


def test_the_vet_stands_in_the_report_and_a_failure_speaks_against_the_policy(
    error_policy, make_episodes
):
    contents = report_contents(error_policy, releases_of(make_episodes), baselines=False)
    told = contents["vet"]
    plain = json.loads(json.dumps(vet(error_policy).as_dict()))
    assert {name: told[name] for name in plain} == plain
    against = [said for said in contents["warnings"] if "fails its vet" in said]
    assert against == ["It fails its vet: tenfold errors that stay."]
    page = render(contents)
    for case in told["cases"]:
        assert case["case"] in page
        assert case["answered"] in page
    assert escape(told["likeness"]["line"]) in page


def test_a_policy_that_passes_has_nothing_against_it(error_policy, make_episodes):
    assert isinstance(error_policy.q_function, TableQ)
    table = replace(error_policy.q_function, edges=[np.array([0.04])])
    sound = replace(error_policy, q_function=table)
    contents = report_contents(sound, releases_of(make_episodes), baselines=False)
    assert not any("vet" in said for said in contents["warnings"])
    assert "FAILS" not in render(contents)


def test_releases_that_it_was_not_made_for_are_said_to_be_others(error_policy, make_episodes):
    silent = make_episodes(
        *({"error_rate": [0.01, *[None] * 5], "label": "good", "group": f"{i}"} for i in range(20))
    )
    warnings = report_contents(error_policy, silent, baselines=False)["warnings"]
    assert any(said.startswith("It was made for other releases: error_rate") for said in warnings)
