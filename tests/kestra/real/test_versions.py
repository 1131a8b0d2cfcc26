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
"""Kestra 0.24, 1.0 and 2 know each property of the flows, and each expression comes to the same.

Each reads and renders them with its own code. Script tasks are plugins of their own, which are not
published with any of them: 0.24 and 1.0 read a line of log there, 2 what its script tasks have in
common.
"""

import json
import subprocess

import pytest
import yaml

pytestmark = pytest.mark.real

NAMES = [
    "roll-back",
    "shift-traffic",
    "check-health",
    "report-outcome",
    "soak",
    "ask",
    "release",
    "learn",
]
"""Each after those that it calls."""


def test_kestra_2_finds_nothing_deprecated(kestra, recipe):
    for name in NAMES:
        told = kestra.load(yaml.safe_dump(recipe(name), sort_keys=False))
        assert told == {"problems": [], "deprecated": [], "warnings": []}, name


RELEASE = {"service": "a shop", "version": "v2+1", "environment": "production"}
VARIABLES = {
    "inputs": RELEASE
    | {"percent": 10, "reason": "because", "label": "bad", "source": "review", "soak": "PT30M"}
    | {"last": True},
    "vars": {"url": "http://localhost:8377", "token": "PUT-THE-TOKEN", "loop": "/srv", "log": "l"},
    "execution": {"id": "abc", "startDate": "2026-11-25T20:49:22.000000Z"},
    "outputs": {
        "decide": {"body": '{"decision": "PAUSE", "message": "a \\"why\\""}'},
        "check": {"outputs": {"label": "bad"}},
        "said_meanwhile": {"body": '[{"label": null}, {"label": "bad"}]'},
    },
}
"""What the flows' expressions are about; optional inputs are left out, but for the percent."""


@pytest.mark.parametrize("version", ["0.24.18", "1.0.36"])
def test_an_older_kestra_reads_the_flows_and_means_the_same(
    kestra, run_java, compiled, recipe, tmp_path, version
):
    flows = {name: source_of(recipe(name)) for name in NAMES}
    wrong = flows["ask"].replace("maxAttempts", "maxTries")
    expressions = [one for name in NAMES for one in expressions_of(recipe(name))]
    asked = {"flows": {**flows, "wrong": wrong}, "expressions": expressions}
    programs = compiled("older", "older/Older.java", kestra=version)
    said = subprocess.run(
        [*run_java, "-cp", programs, "Older", tmp_path],
        input=json.dumps(asked | {"variables": VARIABLES}),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    told = json.loads(said)
    assert list(told["refused"]) == ["wrong"], told["refused"]
    now = kestra.render(expressions, VARIABLES)
    assert any('"canary_share":0.1,' in one for one in now), "whole numbers do not divide to 0"
    for expression, old, new in zip(expressions, told["rendered"], now, strict=True):
        assert meaning(old) == meaning(new), expression


def meaning(text):
    """Returns what a text says; of a JSON object, in whatever order."""
    return json.loads(text) if text.startswith("{") else text


def source_of(flow):
    """Returns a flow's text, with a line of log for each task of a plugin."""
    flow["tasks"] = [without_plugin(task) for task in flow["tasks"]]
    return yaml.safe_dump(flow, sort_keys=False)


def without_plugin(task):
    if not task["type"].startswith("io.kestra.plugin.scripts"):
        return task
    log = "io.kestra.plugin.core.log.Log"
    return {"id": task["id"], "type": log, "message": "a script", "timeout": task["timeout"]}


def expressions_of(node):
    """Returns all texts in which there is something to render."""
    if isinstance(node, dict):
        return [one for value in node.values() for one in expressions_of(value)]
    if isinstance(node, list):
        return [one for value in node for one in expressions_of(value)]
    return [node] if isinstance(node, str) and "{{" in node else []
