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
"""A release is called good only after it was out for a while, by what it did there."""

import time
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest

pytestmark = pytest.mark.real


@pytest.fixture
def soaked(kestra, take, set_up, service):
    """Returns what executes the flow to its end."""
    take(set_up("report-outcome", service.url), "report-outcome")

    def run(name, url=service.url, **inputs):
        given = {"service": "shop", "version": "v2", "rollout": name, "soak": "PT1S", **inputs}
        return kestra.run(take(set_up("soak", url), "soak"), **given)

    return run


@pytest.fixture
def soak(soaked, checked_as):
    """Returns what executes the flow to its end, with a check that always finds the same."""

    def run(name, label, **given):
        checked_as(label)
        return soaked(name, **given)

    return run


@pytest.fixture
def said(service):
    """Reads what the log knows of a rollout."""

    def read(rollout):
        name = {"service": "shop", "environment": "production", "version": "v2"}
        return [
            (told["label"], told["source"])
            for told in service.get("/v1/outcomes", **name, rollout=rollout)
        ]

    return read


def test_it_is_called_good_once_it_has_soaked(soak, said):
    began = time.monotonic()
    assert soak("soak-good", "good", soak="PT4S")["state"] == "SUCCESS"
    assert time.monotonic() - began >= 4
    assert said("soak-good") == [("good", "pipeline")]


def test_what_turned_bad_with_all_traffic_is_bad(soak, said):
    ended = soak("soak-bad", "bad")
    assert ended["state"] == "FAILED"
    assert any("shop v2 turned bad" in message for message in ended["messages"])
    assert said("soak-bad") == [("bad", "pipeline")]


def test_what_nobody_can_tell_gets_no_label(soak, said):
    assert soak("soak-unknown", "unknown")["state"] == "SUCCESS"
    assert said("soak-unknown") == [(None, "pipeline")]


@pytest.mark.parametrize("label", ["", "fine", "GOOD"])
def test_a_check_that_says_anything_else_labels_nothing(soak, said, label):
    ended = soak(f"soak-else-{label}", label)
    assert ended["state"] == "FAILED"
    assert said(f"soak-else-{label}") == []


def test_a_check_that_nobody_filled_in_labels_nothing_until_it_is(
    kestra, take, recipe, soaked, said, checked_as
):
    take(recipe("check-health"), "check-health")
    ended = soaked("soak-unchecked")
    assert ended["state"] == "FAILED"
    assert ["check", "FAILED"] in ended["tasks"]
    refusals = [one["messages"] for one in kestra.executions("check-health")]
    assert any("shop v2 was NOT checked" in message for said in refusals for message in said)
    assert said("soak-unchecked") == []
    checked_as("good")
    assert kestra.restart(ended["id"])["state"] == "SUCCESS"
    assert said("soak-unchecked") == [("good", "pipeline")]


def test_who_saw_it_fail_meanwhile_is_not_outdone(soak, said, service):
    incident = {"service": "shop", "environment": "production", "version": "v2"}
    service.report(**incident, rollout="soak-incident", label="bad", source="incident")
    ended = soak("soak-incident", "good")
    assert ended["state"] == "FAILED"
    assert any("reported as bad while it soaked" in message for message in ended["messages"])
    assert said("soak-incident") == [("bad", "incident")]


def test_a_log_that_cannot_be_read_labels_nothing(soak, said, down_url):
    ended = soak("soak-down", "good", url=down_url)
    assert ended["state"] == "FAILED"
    assert said("soak-down") == []


@pytest.mark.parametrize(
    ("found", "label"),
    [
        ('[{"metric": {}, "value": [1795371120, "0"]}]', "good"),
        ('[{"metric": {}, "value": [1795371120, "2"]}]', "bad"),
        ("[]", None),
    ],
)
def test_the_pages_look_at_the_alerts_tells_good_from_bad(
    take, recipe, page_flows, alerts, soaked, said, found, label
):
    alerts.found = f'{{"status": "success", "data": {{"result": {found}}}}}'
    flow = {**recipe("check-health"), **page_flows["alerts"]}
    flow["tasks"][0]["uri"] = f"{alerts.url}/api/v1/query"
    take(flow, "check-health")
    soaked(f"soak-alerts-{label}")
    assert said(f"soak-alerts-{label}") == [(label, "pipeline")]
    assert 'ALERTS{alertstate="firing", service="shop"}[30m]' in alerts.asked


@pytest.fixture
def alerts(stand_in):
    """Prometheus, as far as a query goes: its `url`, what is `found`, what was `asked` last."""
    one = SimpleNamespace(found="", asked="")

    def answer(asked):
        (one.asked,) = parse_qs(asked.body.decode())["query"]
        return 200, one.found

    with stand_in(answer) as one.url:
        yield one
