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
"""Argo Rollouts' web metric: what it sends, and an answer that its conditions can work with."""

import json
from math import isfinite

import pytest

from oumi_deploy.serving.schema import Answer

ROLLOUT = {"service": "checkout", "environment": "shop", "version": "7d9f8c6b5", "rollout": "12"}
WORDS = ("CONTINUE", "PAUSE", "ROLLBACK")


def measure(client, **body):
    return client.post("/v1/argo", json={**ROLLOUT, **body})


@pytest.mark.parametrize("decision", WORDS)
def test_every_field_is_there_and_every_number_is_finite(serve, see, decision):
    see(decision)
    response = measure(serve())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON, and Go refuses it")

    result = json.loads(response.text, parse_constant=refuse)["data"]
    assert result["decision"] == decision
    assert result.keys() == Answer.model_fields.keys()
    for name in ("confidence", "risk", "at"):
        assert isfinite(result[name]), name
    assert result["q_values"].keys() == {"CONTINUE", "ROLLBACK"}
    assert all(isfinite(q) for q in result["q_values"].values())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1795371120", 1795371120.0),
        ("2026-11-22T15:32:00Z", 1795361520.0),
        (1795371120, 1795371120),
    ],
)
def test_a_start_may_be_text_as_every_arg_is(serve, telemetry, text, seconds):
    assert measure(serve(), started_at=text).status_code == 200
    assert telemetry.asked[-1][1] == seconds


def test_what_is_left_out_and_what_is_empty_is_the_same(serve, telemetry):
    client = serve()
    unset = ("started_at", "planned_steps", "canary_share", "last", "asks_again", "explain")
    told = measure(client, **dict.fromkeys(unset, "")).json()["data"]
    left_out = measure(client).json()["data"]
    assert told["id"] == left_out["id"], "the same question is the same decision"
    ids = {
        measure(client, **more).json()["data"]["id"]
        for more in ({}, {"last": "true"}, {"last": "true", "asks_again": "true"})
    }
    assert len(ids) == 3, "another question is another decision"


def test_at_the_last_step_a_pause_waits_for_the_next_measurement(serve, see, recipe):
    """The body of the recipe's template, with what its last step fills in."""
    (metric,) = recipe("argo-rollouts/analysis-template.yaml")["spec"]["metrics"]
    body = dict(metric["provider"]["web"]["jsonBody"])
    body |= {"last": "true", "canary_share": "0.6"}
    client = serve()
    see("PAUSE")
    waits = client.post("/v1/argo", json=body).json()["data"]
    assert (waits["decision"], waits["reasons"]) == ("PAUSE", ["few_requests"])
    (logged,) = client.get("/v1/decisions").json()["decisions"]
    assert (logged["last"], logged["asks_again"]) == (True, True)
    once = client.post("/v1/argo", json={**body, "asks_again": "false"}).json()["data"]
    assert "held_for_a_person" in once["reasons"]


def test_what_a_template_knows_of_its_rollout_may_be_text(serve, telemetry):
    client = serve()
    said = measure(client, planned_steps="6", canary_share="0.1").json()["data"]
    *_, newest = client.get(f"/v1/decisions/{said['id']}/inputs").json()
    assert (newest["planned_steps"], newest["canary_share"]) == (6, 0.1)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"started_at": "yesterday"}, "started_at"),
        ({"started_at": "nan"}, "started_at"),
        ({"last": "perhaps"}, "last"),
        ({"planned_steps": "0"}, "planned_steps"),
        ({"canary_share": "10"}, "canary_share"),
        ({"service": ""}, "service"),
        ({"observation": []}, "observation"),
    ],
)
def test_a_mistake_in_a_template_is_an_error_that_names_it(serve, telemetry, body, named):
    response = measure(serve(), **body)
    assert response.status_code == 422
    assert response.json()["error"].startswith(named)


def test_the_rollout_is_logged_under_its_name(serve, telemetry):
    client = serve()
    measure(client)
    (logged,) = client.get("/v1/decisions", params=ROLLOUT).json()["decisions"]
    assert logged["asked_by"] == "argo"


def test_a_service_that_cannot_collect_is_an_error_and_no_success(serve):
    response = measure(serve())
    assert response.status_code == 422
    assert "--telemetry" in response.json()["error"]


@pytest.mark.parametrize(
    ("file", "crd"),
    [
        ("analysis-template.yaml", "argo-analysis-template-crd.yaml"),
        ("rollout.yaml", "argo-rollout-crd.yaml"),
    ],
)
def test_the_manifests_are_valid(recipe, check_manifest, file, crd):
    check_manifest(recipe(f"argo-rollouts/{file}"), crd)


def test_the_rollout_gives_the_template_what_it_needs(recipe):
    template = recipe("argo-rollouts/analysis-template.yaml")
    secret = recipe("argo-rollouts/secret.yaml")
    needed = {arg["name"] for arg in template["spec"]["args"] if arg.keys() == {"name"}}
    steps = recipe("argo-rollouts/rollout.yaml")["spec"]["strategy"]["canary"]["steps"]
    analyses = [step["analysis"] for step in steps if "analysis" in step]
    assert analyses
    weights = [step["setWeight"] for step in steps if "setWeight" in step]
    for number, (analysis, weight) in enumerate(zip(analyses, weights, strict=True), 1):
        args = {arg["name"]: arg for arg in analysis["args"]}
        # Only at the last step to go on is to promote.
        is_last = number == len(weights)
        assert args.keys() == needed | ({"last"} if is_last else set())
        assert args.get("last", {"value": "false"})["value"] == str(is_last).lower()
        assert float(args["canary_share"]["value"]) == weight / 100
        assert [t["templateName"] for t in analysis["templates"]] == [template["metadata"]["name"]]
    (wanted,) = (
        arg["valueFrom"]["secretKeyRef"] for arg in template["spec"]["args"] if "valueFrom" in arg
    )
    assert wanted["name"] == secret["metadata"]["name"]
    assert wanted["key"] in secret["stringData"]


def test_pauses_alone_never_end_a_step_as_a_success(recipe):
    # With a count and no consecutiveSuccessLimit, Argo Rollouts calls a metric Successful as soon
    # as it was measured that often and no limit is passed.
    (metric,) = recipe("argo-rollouts/analysis-template.yaml")["spec"]["metrics"]
    assert metric["consecutiveSuccessLimit"] > 0
    assert metric["failureLimit"] == 0
    assert metric["inconclusiveLimit"] <= metric["count"], "else Argo refuses the template"
