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
"""Argo Rollouts' own web provider asks a running service and reads the recipe's conditions.

It is v1.9.2, the newest that Go 1.24 builds.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.real

TEMPLATE = Path(__file__).parents[4] / "recipes" / "argo-rollouts" / "analysis-template.yaml"
PHASES = {"well": "Successful", "quiet": "Inconclusive", "bad": "Failed"}
DECISIONS = {"well": "CONTINUE", "quiet": "PAUSE", "bad": "ROLLBACK"}


@pytest.fixture(scope="module")
def measure(go_program) -> Callable[..., dict[str, Any]]:
    """Takes a measurement by the recipe's template, with its timeout unless another is given."""
    run = go_program("argo_web")

    def one(url: str, token: str, service: str = "well", timeout: int = 0) -> dict[str, Any]:
        named = {"service": service, "environment": "shop", "version": "7d9f8", "rollout": "12"}
        args = {**named, "canary_share": "0.1", "url": url, "token": token}
        return run({"template": str(TEMPLATE), "args": args, "timeout_seconds": timeout})

    return one


@pytest.fixture(scope="module")
def under_way(service, measure):
    """The service once it has seen a step of every rollout: the first question begins it."""
    first = {name: measure(service.url, service.ask, name) for name in PHASES}
    time.sleep(2.5)
    assert {m["phase"] for m in first.values()} == {"Inconclusive"}, "nothing is known at first"
    return service


@pytest.mark.parametrize("name", PHASES)
def test_each_decision_is_the_phase_that_the_recipe_means(under_way, measure, name):
    measurement = measure(under_way.url, under_way.ask, name)
    assert measurement["phase"] == PHASES[name], measurement
    assert json.loads(measurement["value"])["decision"] == DECISIONS[name]


def test_a_slow_service_is_an_error_and_no_verdict(measure, slow_url):
    measurement = measure(slow_url, "any", timeout=1)
    assert measurement["phase"] == "Error"
    assert "Timeout exceeded" in measurement["message"]


def test_a_service_that_is_down_is_an_error_and_no_verdict(measure, down_url):
    measurement = measure(down_url, "any")
    assert measurement["phase"] == "Error"
    assert "refused" in measurement["message"]


def test_a_wrong_token_is_an_error_and_no_verdict(service, measure):
    measurement = measure(service.url, service.report)
    assert measurement["phase"] == "Error"
    assert "403" in measurement["message"]


def test_the_log_holds_the_rollout_under_the_names_of_the_args(under_way):
    asked = httpx.get(
        f"{under_way.url}/v1/decisions",
        params={"service": "bad", "environment": "shop", "version": "7d9f8", "rollout": "12"},
        headers={"authorization": f"Bearer {under_way.ask}"},
    )
    assert {d["asked_by"] for d in asked.json()["decisions"]} == {"argo"}
