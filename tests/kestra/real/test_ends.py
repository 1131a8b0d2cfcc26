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
"""Each flow of the recipe ends in a real Kestra 2 as its README says.

The flows are the recipe's, with shorter waits.
"""

import json
import time

import pytest

# Gates in no hurry wait beside these, see test_waits.py.
pytestmark = [pytest.mark.real, pytest.mark.usefixtures("patient")]

WELL = [{"error_rate": 0.01, "requests": 500}] * 2
QUIET = [{"error_rate": 0.01, "requests": 3}]
BAD = [{"error_rate": 0.01, "requests": 500}, {"error_rate": 0.6, "requests": 500}]

RELEASE = {"service": "shop", "version": "v2"}


def said(decision: str) -> str:
    return json.dumps({"decision": decision, "message": f"says {decision}"})


@pytest.fixture
def filled_in(take, set_up):
    """Has Kestra take a team's own step in place of one that refuses: `filled_in("roll-back")`."""

    def fill(name: str) -> str:
        flow = set_up(name, "")
        flow["tasks"] = [{"id": "done", "type": "io.kestra.plugin.core.log.Log", "message": "done"}]
        return take(flow, name)

    return fill


def test_continue_goes_on_and_is_in_the_log(kestra, take, set_up, service):
    ask = take(set_up("ask", service.url), "ask-well")
    ended = kestra.run(ask, **RELEASE, observations=WELL)
    assert ended["state"] == "SUCCESS"
    assert ended["labels"]["decision"] == "CONTINUE"
    assert ["go_on", "SUCCESS"] in ended["tasks"]
    (logged,) = service.get("/v1/decisions", rollout=ended["id"])["decisions"]
    assert (logged["decision"], logged["service"], logged["version"]) == ("CONTINUE", "shop", "v2")


def test_rollback_runs_the_teams_own_flow_and_lets_nobody_go_on(
    kestra, take, set_up, service, filled_in
):
    filled_in("roll-back")
    before = len(kestra.executions("roll-back"))
    ended = kestra.run(take(set_up("ask", service.url), "ask-bad"), **RELEASE, observations=BAD)
    assert ended["state"] == "FAILED"
    assert ended["labels"]["decision"] == "ROLLBACK"
    assert ["roll_back", "SUCCESS"] in ended["tasks"]
    assert any("Rolled back" in message for message in ended["messages"])
    rolled_back = kestra.executions("roll-back")
    assert len(rolled_back) == before + 1
    assert {one["state"] for one in rolled_back} == {"SUCCESS"}
    (logged,) = service.get("/v1/decisions", rollout=ended["id"])["decisions"]
    assert rolled_back[-1]["inputs"] | RELEASE == rolled_back[-1]["inputs"]
    assert logged["decision"] == "ROLLBACK"


def test_a_rollback_that_nobody_filled_in_does_not_pass_for_done(
    kestra, take, set_up, service, recipe
):
    flow = set_up("ask", service.url)
    (way_back,) = [task for task in flow["tasks"][-1]["cases"]["ROLLBACK"] if "flowId" in task]
    way_back["flowId"] = take(recipe("roll-back"), "roll-back-empty")
    ended = kestra.run(take(flow, "ask-bad-empty"), **RELEASE, observations=BAD)
    assert ended["state"] == "FAILED"
    assert ["roll_back", "FAILED"] in ended["tasks"]
    assert not any("Rolled back" in message for message in ended["messages"])
    (refused,) = kestra.executions("roll-back-empty")
    assert any("shop v2 was NOT rolled back" in message for message in refused["messages"])


def test_pause_to_the_end_is_held(kestra, take, set_up, service):
    ended = kestra.run(take(set_up("ask", service.url), "ask-quiet"), **RELEASE, observations=QUIET)
    assert ended["state"] == "FAILED"
    assert ended["labels"]["decision"] == "PAUSE"
    assert ["held", "FAILED"] in ended["tasks"]
    assert any("Held, neither on nor back" in message for message in ended["messages"])


def test_pause_asks_again_about_the_same_rollout(kestra, take, set_up, script):
    script.answers = [said("PAUSE"), said("PAUSE"), said("CONTINUE")]
    ended = kestra.run(take(set_up("ask", script.url), "ask-thrice"), **RELEASE)
    assert ended["state"] == "SUCCESS"
    assert [(a.service, a.version, a.rollout) for a in script.asked] == [
        ("shop", "v2", ended["id"])
    ] * 3
    for asked in script.asked:
        assert (asked.observations, asked.canary_share, asked.last) == (None, None, False)


def test_asking_again_has_an_end(kestra, take, set_up, script):
    script.answers = [said("PAUSE")]
    ended = kestra.run(take(set_up("ask", script.url), "ask-on-and-on"), **RELEASE)
    assert ended["state"] == "FAILED"
    assert ["held", "FAILED"] in ended["tasks"]
    # Kestra 2.0.0 takes one turn more than the three of maxIterations.
    assert len(script.asked) in (3, 4)


def test_a_slow_service_lets_nobody_go_on(kestra, take, set_up, script):
    script.answers, script.delay = [said("CONTINUE")], 4.0
    ended = kestra.run(take(set_up("ask", script.url), "ask-slow"), **RELEASE)
    assert len(script.asked) == 2, "asked again once, as often as the retry says"
    assert_unanswered(ended)


def test_a_service_that_is_down_lets_nobody_go_on(kestra, take, set_up, down_url):
    assert_unanswered(kestra.run(take(set_up("ask", down_url), "ask-down"), **RELEASE))


def test_a_token_may_be_one_of_kestras_secrets(kestra, take, set_up, service):
    ask = take(set_up("ask", service.url, ask="{{ secret('OUMI_DEPLOY_ASK') }}"), "ask-secret")
    ended = kestra.run(ask, **RELEASE, observations=WELL)
    assert ended["state"] == "SUCCESS"


def test_a_service_that_refuses_says_why(kestra, take, set_up, service):
    ask = take(set_up("ask", service.url, ask="not-a-token-0123456789"), "ask-unknown")
    ended = kestra.run(ask, **RELEASE, observations=WELL)
    assert_unanswered(ended)
    assert any("401" in message for message in ended["messages"])


@pytest.mark.parametrize("page", ["<html>back soon</html>", "{}", '{"decision": "YES"}', "null"])
def test_an_answer_that_is_none_lets_nobody_go_on(kestra, take, set_up, script, page):
    script.answers = [page]
    ended = kestra.run(take(set_up("ask", script.url), "ask-a-page"), **RELEASE)
    assert ended["state"] == "FAILED"
    assert "go_on" not in [task for task, _ in ended["tasks"]]


def assert_unanswered(ended) -> None:
    assert ended["state"] == "FAILED"
    assert ["decide", "FAILED"] in ended["tasks"]
    assert "decision" not in ended["labels"]
    assert not {"go_on", "roll_back", "held"} & {task for task, _ in ended["tasks"]}


@pytest.mark.parametrize(("label", "noted"), [("good", "good"), ("bad", "bad"), ("unknown", None)])
def test_an_outcome_reaches_the_log(kestra, take, set_up, service, label, noted):
    report = take(set_up("report-outcome", service.url), "report")
    release = {**RELEASE, "rollout": f"r-{label}"}
    note = 'orders "failed"\nfor three minutes'
    ended = kestra.run(report, **release, label=label, source="review", by="ann", note=note)
    assert ended["state"] == "SUCCESS"
    (told,) = service.get("/v1/outcomes", environment="production", **release)
    assert (told["label"], told["source"], told["note"]) == (noted, "review", note)
    assert abs(told["at"] - time.time()) < 60


@pytest.fixture
def release(take, set_up, script, filled_in, checked_as):
    """The recipe's release, with all in place that it calls."""
    for name in ("ask", "soak", "report-outcome"):
        take(set_up(name, script.url), name)
    for name in ("shift-traffic", "roll-back"):
        filled_in(name)
    checked_as("good")
    return take(set_up("release", script.url), "release")


def test_a_good_release_is_shipped_and_reported_once_it_has_soaked(kestra, release, script):
    script.answers = [said("CONTINUE")]
    before = len(kestra.executions("shift-traffic"))
    ended = kestra.run(release, **RELEASE, soak="PT3S")
    assert ended["state"] == "SUCCESS", ended["messages"]
    assert len(kestra.executions("shift-traffic")) == before + 3
    assert [asked.rollout for asked in script.asked] == [ended["id"]] * 2
    stated = [(asked.canary_share, asked.last) for asked in script.asked]
    assert stated == [(0.1, False), (0.5, True)]
    assert script.reported == [], "the release is out, and nobody knows yet whether it is good"
    kestra.await_end("soak")
    (outcome,) = script.reported
    assert (outcome.label, outcome.source) == ("good", "pipeline")
    assert (outcome.service, outcome.version, outcome.rollout) == ("shop", "v2", ended["id"])


def test_a_bad_release_ends_at_its_gate_and_gets_no_label(kestra, release, script):
    script.answers = [said("CONTINUE"), said("ROLLBACK")]
    flows = ("shift-traffic", "roll-back", "soak")
    shifts, ways_back, soaks = (len(kestra.executions(flow)) for flow in flows)
    ended = kestra.run(release, **RELEASE)
    assert ended["state"] == "FAILED"
    assert len(kestra.executions("shift-traffic")) == shifts + 2
    assert len(kestra.executions("roll-back")) == ways_back + 1
    assert len(kestra.executions("soak")) == soaks
    assert script.reported == []


def test_a_soak_that_is_no_time_is_refused_before_anything_is_shipped(kestra, release):
    before = len(kestra.executions("shift-traffic"))
    with pytest.raises(AssertionError, match="soak"):
        kestra.begin(release, **RELEASE, soak="30 minutes")
    assert len(kestra.executions("shift-traffic")) == before


def test_restart_asks_again_at_the_gate_that_held(kestra, release, script):
    script.answers = [said("PAUSE")]
    before = len(kestra.executions("shift-traffic"))
    held = kestra.run(release, **RELEASE, soak="PT1S")
    assert held["state"] == "FAILED"
    script.answers = [said("CONTINUE")]
    ended = kestra.restart(held["id"])
    assert ended["state"] == "SUCCESS"
    assert len(kestra.executions("shift-traffic")) == before + 3, "none was shifted to twice"
    assert {asked.rollout for asked in script.asked} == {held["id"]}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("ask", RELEASE),
        ("soak", {**RELEASE, "soak": "PT0S"}),
        ("report-outcome", {**RELEASE, "label": "good", "source": "other"}),
        ("learn", {}),
    ],
)
def test_a_flow_that_is_not_set_up_refuses_to_run(kestra, take, recipe, name, inputs):
    ended = kestra.run(take(recipe(name), f"{name}-not-set-up"), **inputs)
    assert ended["state"] == "FAILED"
    assert ended["tasks"] == [["check_settings", "FAILED"]]
    assert any(f"variables of the flow {name}" in message for message in ended["messages"])
