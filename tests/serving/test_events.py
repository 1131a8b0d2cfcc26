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
"""Events of delivery platforms, and the release that each is about."""

import json
from pathlib import Path

import pytest

SCHEMAS = Path(__file__).parents[2] / ".." / "shared" / "schemas" / "cdevents"


def cdevent(kind: str, artifact: str = "registry/shop:v2", number: str = "1") -> dict:
    content: dict = {"environment": {"id": "production"}}
    if kind.startswith("incident"):
        content |= {"service": {"id": "shop"}, "description": "checkout fails"}
    if artifact:
        content["artifactId"] = artifact
    return {
        "context": {
            "specversion": "0.6.0-draft",
            "id": number,
            "source": "/delivery",
            "type": f"dev.cdevents.{kind}.0.3.0",
            "timestamp": "2026-11-25T10:00:00Z",
        },
        "subject": {
            "id": "incident-7" if kind.startswith("incident") else "shop",
            "content": content,
        },
    }


def outcomes(client, **name) -> list[dict]:
    return client.get("/v1/outcomes", params=name).json()


@pytest.fixture
def client(serve, ask):
    """A service that was asked about two versions of the shop."""
    client = serve()
    for version in ("v1", "v2", "v3"):
        ask(client, 0.1, environment="production", version=version)
    return client


V2 = {"service": "shop", "environment": "production", "version": "v2"}
V3 = {**V2, "version": "v3"}


def test_an_incident_labels_the_version_that_it_names(client):
    assert client.post("/v1/cdevents", json=cdevent("incident.detected")).json()["new"]
    (told,) = outcomes(client, **V2)
    assert (told["label"], told["source"], told["note"]) == ("bad", "cdevents", "checkout fails")
    assert outcomes(client, **V3) == []


def test_an_incident_that_names_no_version_is_of_none_that_is_known(client):
    noted = client.post("/v1/cdevents", json=cdevent("incident.detected", artifact="")).json()
    assert (noted["new"], noted["matched"]) == (True, False)
    for version in (V2, V3):
        assert outcomes(client, **version) == []


def test_a_version_is_found_in_what_names_an_artifact(client):
    for n, artifact in enumerate(
        ("v2", "shop@v2", "pkg:oci/shop@sha256%3Aab?tag=v2&repository_url=x", "x/shop:v2@sha256:1")
    ):
        event = cdevent("incident.detected", artifact=artifact, number=str(n))
        assert client.post("/v1/cdevents", json=event).json()["matched"], artifact
    assert len(outcomes(client, **V2)) == 4


@pytest.mark.parametrize("kind", ["service.deployed", "service.upgraded", "service.rolledback"])
def test_a_deployment_says_nothing_of_what_was_deployed(client, kind):
    assert client.post("/v1/cdevents", json=cdevent(kind)).json()["new"]
    (told,) = outcomes(client, **V2)
    assert told["label"] is None


def test_an_event_counts_once_in_an_envelope_or_without(client):
    event = cdevent("service.deployed")
    assert client.post("/v1/cdevents", json=event).json()["new"]
    headers = {"content-type": "application/cloudevents+json"}
    enveloped = json.dumps({"specversion": "1.0", "data": event})
    again = client.post("/v1/cdevents", content=enveloped, headers=headers)
    assert again.json()["new"] is False
    assert len(outcomes(client, **V2)) == 1


@pytest.mark.parametrize("kind", ["service.deployed", "incident.detected", "service.rolledback"])
def test_the_events_of_these_tests_are_cdevents(kind):
    if not SCHEMAS.is_dir():
        pytest.skip("the CDEvents schemas are not at hand")
    import jsonschema

    schema = json.loads((SCHEMAS / f"{kind.replace('.', '')}.json").read_text())
    schema["properties"]["context"]["properties"].pop("links")
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(cdevent(kind))) == []


def test_other_events_are_refused_by_name(client):
    refused = client.post("/v1/cdevents", json=cdevent("build.started"))
    assert refused.status_code == 422
    assert "there are service.deployed" in refused.json()["error"]


def github(state: str, ref: str = "v2", number: int = 5) -> dict:
    return {
        "action": "created",
        "deployment_status": {
            "id": number,
            "state": state,
            "created_at": "2026-11-25T10:00:00Z",
            "description": None,
        },
        "deployment": {"id": 3, "environment": "production", "ref": ref, "sha": "0a1b2c"},
        "repository": {"name": "shop", "full_name": "team/shop"},
    }


@pytest.mark.parametrize(
    ("state", "label"),
    [("success", "good"), ("failure", "bad"), ("error", None), ("inactive", None)],
)
def test_a_deployment_status_labels_where_it_tells(client, state, label):
    noted = client.post("/v1/github", json=github(state)).json()
    assert noted["new"]
    assert client.post("/v1/github", json=github(state)).json() == {**noted, "new": False}
    (told,) = outcomes(client, **V2)
    assert (told["label"], told["source"]) == (label, "github")


def test_githubs_other_events_are_noted_nowhere(client):
    headers = {"x-github-event": "ping"}
    assert client.post("/v1/github", json={"zen": "."}, headers=headers).json()["new"] is False


def test_a_version_that_nobody_asked_about_is_kept_under_its_name(client):
    noted = client.post("/v1/github", json=github("failure", ref="v9")).json()
    assert not noted["matched"]
    assert [o["label"] for o in outcomes(client, **{**V2, "version": "v9"})] == ["bad"]
