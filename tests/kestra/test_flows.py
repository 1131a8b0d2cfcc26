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
"""What can be seen of the flows without a Kestra: they name only what 0.24 and 2 both know."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes" / "kestra"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

COMMON = {"id", "type"}
ALLOWED = {
    "io.kestra.plugin.core.execution.Fail": {"condition", "errorMessage"},
    "io.kestra.plugin.core.execution.Labels": {"labels"},
    "io.kestra.plugin.core.flow.LoopUntil": {
        "condition",
        "failOnMaxReached",
        "checkFrequency",
        "tasks",
    },
    "io.kestra.plugin.core.flow.Pause": {"pauseDuration"},
    "io.kestra.plugin.core.flow.Subflow": {
        "namespace",
        "flowId",
        "inputs",
        "wait",
        "transmitFailed",
        "restartBehavior",
    },
    "io.kestra.plugin.core.flow.Switch": {"value", "cases", "defaults"},
    "io.kestra.plugin.core.http.Request": {
        "uri",
        "method",
        "contentType",
        "headers",
        "body",
        "timeout",
        "options",
        "retry",
    },
    "io.kestra.plugin.core.log.Log": {"message"},
    "io.kestra.plugin.core.trigger.Schedule": {"cron", "timezone", "recoverMissedSchedules"},
    "io.kestra.plugin.scripts.python.Script": {"taskRunner", "env", "script", "timeout"},
}
FLOW = {"id", "namespace", "description", "inputs", "variables", "tasks", "outputs", "triggers"}
INPUT_TYPES = {"STRING", "JSON", "SELECT", "INT", "BOOL"}
RETRY = {"type", "interval", "maxInterval", "maxAttempts", "maxDuration"}


@pytest.mark.parametrize("name", NAMES)
def test_a_flow_names_only_what_both_kestras_know(recipe, tasks, name):
    flow = recipe(name)
    assert flow["id"] == name
    assert set(flow) <= FLOW
    assert {given["type"] for given in flow.get("inputs", [])} <= INPUT_TYPES
    for task in tasks([flow["tasks"], flow.get("triggers", [])]):
        assert set(task) - COMMON <= ALLOWED[task["type"]], task["id"]
        assert set(task.get("retry", RETRY)) == RETRY


@pytest.mark.parametrize("name", NAMES)
def test_a_flow_uses_no_function_that_is_gone_in_2(name):
    source = (FOLDER / f"{name}.yaml").read_text()
    assert not re.search(r"(?<![A-Za-z])json\(|runIf|pluginDefaults|maxAttempt:|CANCELED", source)


def test_the_service_is_asked_by_post_unless_there_is_nothing_to_send(recipe, tasks):
    requests = [
        task
        for name in NAMES
        for task in tasks(recipe(name)["tasks"])
        if task["type"].endswith("http.Request")
    ]
    assert len(requests) == 3
    assert all(task["method"] == ("POST" if "body" in task else "GET") for task in requests)
    assert all(task["timeout"] and task["retry"] for task in requests), "each wait has an end"


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "PUT-THE-" in (FOLDER / f"{n}.yaml").read_text()]
)
def test_a_placeholder_is_looked_for_before_anything_else(recipe, name):
    flow = recipe(name)
    check = flow["tasks"][0]
    assert check["type"] == "io.kestra.plugin.core.execution.Fail"
    for variable, value in flow["variables"].items():
        assert "PUT-THE-" in value
        assert f"vars.{variable}" in check["condition"]


def test_what_only_the_team_can_do_refuses_to_be_done(recipe):
    for name in ("roll-back", "shift-traffic", "check-health"):
        (task,) = recipe(name)["tasks"]
        assert task["type"] == "io.kestra.plugin.core.execution.Fail"
        assert "condition" not in task
        assert " NOT " in task["errorMessage"]


def test_a_subflow_is_in_the_recipe_and_is_given_what_it_asks_for(recipe, tasks):
    called = [t for n in NAMES for t in tasks(recipe(n)["tasks"]) if t["type"].endswith("Subflow")]
    assert {call["flowId"] for call in called} == {
        "ask",
        "check-health",
        "report-outcome",
        "roll-back",
        "shift-traffic",
        "soak",
    }
    for call in called:
        wanted = recipe(call["flowId"])["inputs"]
        assert set(call["inputs"]) <= {one["id"] for one in wanted}
        needed = {o["id"] for o in wanted if o.get("required", True) and "defaults" not in o}
        assert needed <= set(call["inputs"])
