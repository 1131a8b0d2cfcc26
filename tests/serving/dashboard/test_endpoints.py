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
"""What the dashboard is told, and to whom."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.serving.auth import Tokens, read_tokens
from oumi_deploy.serving.dashboard import counting
from oumi_deploy.serving.dashboard.files import FILES
from oumi_deploy.serving.dashboard.lines import QUIET_AFTER, status_of, tally
from oumi_deploy.serving.log.endings import Ending
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog, LogUnavailable

ASK, REPORT = "ask-" + "a" * 16, "report-" + "b" * 16
INTERVAL = 60.0
HELD = ["paused_too_long", "held_for_a_person"]


def entry(**changes: Any) -> DecisionEntry:
    values: dict[str, Any] = {
        "id": "1" * 32,
        "name": RolloutName("shop", "", "v1"),
        "at": 0.0,
        "asked_by": "api",
        "policy_version": "abc",
        "base": None,
        "kept": 0,
        "observations": [],
        "last": False,
        "preferred": "CONTINUE",
        "decision": "CONTINUE",
        "propensity": 1.0,
        "explored": False,
        "shadow": False,
        "risk": 0.1,
        "confidence": 0.9,
        "q_values": {},
        "reasons": [],
    }
    values |= changes
    return DecisionEntry(**{"answered": values["decision"], **values})


@pytest.mark.parametrize(
    ("latest", "label", "is_quiet", "expected"),
    [
        (entry(), None, False, "deploying"),
        (entry(decision="PAUSE"), None, False, "paused"),
        (entry(), None, True, "undecided"),
        (entry(decision="PAUSE"), None, True, "undecided"),
        (entry(last=True), None, False, "healthy"),
        (entry(last=True, decision="PAUSE"), None, False, "undecided"),
        (entry(last=True, decision="PAUSE", asks_again=True), None, False, "paused"),
        (entry(last=True, asks_again=True), None, False, "healthy"),
        (entry(last=True, decision="PAUSE", reasons=HELD), None, False, "for_a_person"),
        (entry(decision="PAUSE", reasons=HELD), None, True, "for_a_person"),
        (entry(decision="PAUSE", reasons=HELD), "bad", True, "held"),
        (
            entry(decision="PAUSE", reasons=HELD, answered="CONTINUE", shadow=True),
            *(None, False, "deploying"),
        ),
        (entry(decision="ROLLBACK"), None, False, "rolled_back"),
        (entry(decision="ROLLBACK"), "good", True, "rolled_back"),
        (entry(), "good", True, "healthy"),
        (entry(), "bad", True, "failed"),
        (entry(decision="PAUSE"), "bad", True, "held"),
        (entry(decision="PAUSE"), "good", True, "healthy"),
        (entry(decision="PAUSE", answered="CONTINUE", shadow=True), "bad", True, "failed"),
        (entry(decision="ROLLBACK", answered="CONTINUE", shadow=True), None, False, "deploying"),
        (entry(decision="ROLLBACK", answered="CONTINUE", shadow=True), "bad", True, "failed"),
        (entry(last=True, shadow=True), None, False, "undecided"),
    ],
)
def test_a_status_says_what_is_known_and_no_more(latest, label, is_quiet, expected):
    assert status_of(latest, label, is_quiet) == expected


def test_no_rollout_is_counted_as_good_or_bad_without_a_label():
    endings = [
        Ending(decision, False, paused, None, 1)
        for decision, paused in product(("CONTINUE", "PAUSE", "ROLLBACK"), (False, True))
    ]
    counts = tally(endings).model_dump()
    assert counts.pop("unknown_rolled_back") == 2
    assert counts.pop("unknown_went_on") == 4
    assert not any(counts.values())


def test_good_releases_are_disturbed_by_a_rollback_or_a_pause():
    counts = tally(
        [
            Ending("ROLLBACK", False, True, "good", 2),
            Ending("ROLLBACK", False, False, "good", 1),
            Ending("CONTINUE", False, True, "good", 5),
            Ending("CONTINUE", False, False, "good", 7),
            Ending("CONTINUE", False, True, "bad", 11),
        ]
    )
    assert (counts.good_rolled_back, counts.good_paused, counts.good_undisturbed) == (3, 5, 7)
    assert (counts.bad_stopped, counts.bad_missed) == (0, 11)


def test_a_bad_release_that_was_held_at_the_end_did_not_go_on(serve, ask):
    client = serve()
    assert ask(client, 0.1, None, None)["decision"] == "PAUSE"
    review = {"service": "shop", "label": "bad", "source": "review"}
    assert client.post("/v1/outcomes", json=review).is_success
    acted = client.get("/v1/summary").json()["acted"]
    assert (acted["bad_held"], acted["bad_missed"], acted["bad_stopped"]) == (1, 0, 0)


def test_rollouts_stand_with_their_latest_decision_and_newest_metrics(serve, ask):
    client = serve()
    first = ask(client, 0.1, version="v1", environment="production")
    ask(client, 0.1, version="v2")
    second = ask(client, 0.1, 0.9, version="v1", environment="production")
    page = client.get("/v1/rollouts").json()
    assert [line["version"] for line in page["rollouts"]] == ["v1", "v2"]
    line = page["rollouts"][0]
    assert line["status"] == "rolled_back"
    assert line["latest"]["id"] == second["id"]
    assert line["latest"]["message"] == second["message"]
    assert line["metrics"]["error_rate"] == 0.9
    course = client.get(f"/v1/rollouts/{line['id']}").json()
    assert [made["id"] for made in course["decisions"]] == [first["id"], second["id"]]
    assert [seen["error_rate"] for seen in course["observations"]][-1] == 0.9
    assert course["decisions"][-1]["n_inputs"] == len(course["observations"])


def test_a_rollout_that_is_not_asked_about_any_more_is_not_under_way(serve, ask, monkeypatch):
    client = serve(interval=INTERVAL)
    ask(client, 0.1)

    def status_after(seconds: float) -> str:
        later = time.time() + seconds
        monkeypatch.setattr("oumi_deploy.serving.dashboard.routes.time.time", lambda: later)
        found = client.get("/v1/rollouts").json()["rollouts"][0]["status"]
        monkeypatch.undo()
        return found

    assert status_after((QUIET_AFTER - 1) * INTERVAL) == "deploying"
    assert status_after((QUIET_AFTER + 1) * INTERVAL) == "undecided"


def test_times_as_text_are_told_in_unix_seconds(serve):
    client = serve()
    seen = [
        {"timestamp": "2026-01-01T00:00:00Z", "error_rate": 0.1, "phase": "baseline"},
        {"timestamp": "2026-01-01T00:01:00Z", "error_rate": 0.1},
    ]
    client.post("/v1/decide", json={"service": "shop", "observations": seen})
    key = client.get("/v1/rollouts").json()["rollouts"][0]["id"]
    times = [o["timestamp"] for o in client.get(f"/v1/rollouts/{key}").json()["observations"]]
    assert times[1] - times[0] == 60


def test_the_explanation_is_the_one_that_the_caller_had(serve, ask):
    client = serve()
    ask(client, 0.1)
    said = ask(client, 0.1, 0.9, last=True, explain=True)
    (line,) = client.get("/v1/rollouts").json()["rollouts"]
    told = client.get(f"/v1/rollouts/{line['id']}/explanation").json()
    assert told["decision_id"] == said["id"]
    assert told["explanation"] == said["explanation"]
    assert "error_rate" in told["explanation"]["sentence"]


def test_of_a_policy_that_is_not_in_use_any_more_nothing_is_explained(serve, ask, policy_file):
    client = serve()
    said = ask(client, 0.1)
    policy_file.write_text(policy_file.read_text() + "\n")
    assert client.post("/v1/policy/reload").json()["changed"]
    (line,) = client.get("/v1/rollouts").json()["rollouts"]
    told = client.get(f"/v1/rollouts/{line['id']}/explanation").json()
    assert told["explanation"] is None
    assert said["policy_version"] in told["problem"]


@pytest.mark.parametrize("path", ["", "/explanation"])
def test_an_unknown_rollout_is_named_in_the_refusal(serve, path):
    refused = serve().get("/v1/rollouts/" + "0" * 32 + path)
    assert refused.status_code == 404
    assert "no decision on it is logged" in refused.json()["error"]


def test_the_summary_counts_only_what_was_decided_on_since(serve, ask):
    client = serve()
    ask(client, 0.9)
    review = {"service": "shop", "label": "bad", "source": "review"}
    assert client.post("/v1/outcomes", json=review).is_success
    assert client.get("/v1/summary").json()["acted"]["bad_stopped"] == 1
    later = client.get(f"/v1/summary?since={int(time.time()) + 60}").json()
    assert later["acted"]["bad_stopped"] == 0


def test_what_another_process_notes_is_counted_at_once(serve, ask, tmp_path, policy_file):
    client = serve()
    ask(client, 0.9)
    assert client.get("/v1/summary").json()["acted"]["unknown_rolled_back"] == 1
    other = DecisionLog.open(f"sqlite:///{tmp_path / 'log.db'}")
    name, now = RolloutName("shop", "", ""), time.time()
    asyncio.run(other.record_outcome(OutcomeEntry("1", name, now, "review", "bad", "", "", {})))
    other.close()
    assert client.get("/v1/summary").json()["acted"]["bad_stopped"] == 1


def test_many_who_look_have_the_rollouts_counted_once(serve, ask, monkeypatch):
    client, counted = serve(), []
    ask(client, 0.9)
    count = DecisionLog.endings

    def slowly(log, since):
        counted.append(since)
        time.sleep(0.2)
        return count(log, since)

    monkeypatch.setattr(DecisionLog, "endings", slowly)
    with ThreadPoolExecutor(8) as tabs:
        told = list(tabs.map(lambda _: client.get("/v1/summary").json(), range(8)))
    assert counted == [0.0]
    assert all(summary == told[0] for summary in told)


def test_a_count_is_not_told_for_ever(serve, ask, monkeypatch):
    monkeypatch.setattr(counting, "KEPT", 0.1)
    monkeypatch.setattr(counting, "SHARE", 1.0)
    client = serve()
    assert not any(client.get("/v1/summary").json()["acted"].values())
    ask(client, 0.9)
    time.sleep(0.1)
    assert client.get("/v1/summary").json()["acted"]["unknown_rolled_back"] == 1


def test_a_count_that_failed_is_tried_again(serve, ask, monkeypatch):
    client = serve()
    ask(client, 0.9)

    def away(*_):
        raise LogUnavailable("the decision log is not available: gone")

    with monkeypatch.context() as outage:
        outage.setattr(DecisionLog, "endings", away)
        assert client.get("/v1/summary").status_code == 503
    assert client.get("/v1/summary").json()["acted"]["unknown_rolled_back"] == 1


def test_who_counts_from_ever_new_times_takes_no_place_of_decisions(serve, ask, monkeypatch):
    monkeypatch.setattr(counting, "AT_ONCE", 0.3)
    client, count = serve(), DecisionLog.endings
    ask(client, 0.9)
    client.get("/v1/summary")
    monkeypatch.setattr(
        DecisionLog, "endings", lambda log, since: time.sleep(0.3) or count(log, since)
    )
    with ThreadPoolExecutor(24) as tabs:
        told = list(tabs.map(lambda n: client.get(f"/v1/summary?since={n + 1}"), range(24)))
    refused = [answer for answer in told if answer.status_code == 429]
    assert len(told) - len(refused) <= counting.MOST_COUNTS
    assert all("ask again" in answer.json()["error"] for answer in refused)
    # What was counted before is told meanwhile, without what came in since.
    review = {"service": "shop", "label": "bad", "source": "review"}
    assert client.post("/v1/outcomes", json=review).is_success
    assert client.get("/v1/summary").json()["acted"]["unknown_rolled_back"] == 1


def test_counting_from_several_times_takes_its_share_in_all(serve, ask, monkeypatch):
    monkeypatch.setattr(counting, "AT_ONCE", 0.05)
    client, count = serve(), DecisionLog.endings
    ask(client, 0.9)
    monkeypatch.setattr(
        DecisionLog, "endings", lambda log, since: time.sleep(0.1) or count(log, since)
    )
    assert client.get("/v1/summary?since=1").is_success
    assert client.get("/v1/summary?since=2").status_code == 429
    monkeypatch.setattr(counting, "SHARE", 1000.0)
    assert client.get("/v1/summary?since=2").is_success


def test_in_shadow_mode_what_would_have_been_is_counted_apart(serve, ask):
    client = serve(shadow=True)
    ask(client, 0.9)
    summary = client.get("/v1/summary").json()
    assert summary["shadow"]["unknown_rolled_back"] == 1
    assert not any(summary["acted"].values())


def test_the_policy_is_told_with_its_history_newest_first(serve, policy_file):
    client = serve()
    assert client.get("/v1/policy").json()["history"] == []
    history = policy_file.with_name("history.jsonl")
    history.write_text('{"event": "begun"}\n{"event": "promoted"}\n')
    told = client.get("/v1/policy").json()
    assert [line["event"] for line in told["history"]] == ["promoted", "begun"]
    assert told["version"] == client.get("/v1/state").json()["policy"]["version"]
    assert told["calibration"]["slope"] == 1.0


def test_the_groups_that_a_policy_was_calibrated_on_are_neither_told_nor_copied(
    serve, policy, policy_file, monkeypatch
):
    fitted = Calibration(0.0, 1.0, fitted_on={"n_groups": 1, "group_digests": ["a" * 12]})
    replace(policy, calibration=fitted).save(policy_file)
    client, copied, copy = serve(), [], Calibration.as_dict
    monkeypatch.setattr(Calibration, "as_dict", lambda c: copied.append(c.fitted_on) or copy(c))
    assert client.get("/v1/policy").json()["calibration"]["fitted_on"] == {"n_groups": 1}
    assert copied == [{"n_groups": 1}]


@pytest.mark.parametrize("broken", [b'{"event": "begun"}\nno json\n', b"[1]\n", b"\xff\xfe"])
def test_a_broken_history_is_named_and_does_not_hide_the_policy(serve, policy_file, broken):
    policy_file.with_name("history.jsonl").write_bytes(broken)
    told = serve().get("/v1/policy").json()
    assert "history.jsonl" in told["history_problem"]
    assert told["version"]


@pytest.fixture
def tokens(tmp_path) -> Tokens:
    path = tmp_path / "tokens"
    path.write_text(f"ask {ASK}\nreport {REPORT}\n")
    return read_tokens(path, {})


def test_the_page_is_open_and_its_data_is_not(serve, tokens):
    client = serve(tokens=tokens)
    for path in ("/", *(f"/dashboard/{file.name}" for file in FILES.iterdir())):
        if not path.endswith("index.html"):
            assert client.get(path).status_code == 200, path
    for path in ("/v1/rollouts", "/v1/rollouts/" + "0" * 32, "/v1/summary", "/v1/policy"):
        assert client.get(path).status_code == 401, path
        refused = client.get(path, headers={"Authorization": f"Bearer {REPORT}"})
        assert refused.status_code == 403, path
    headers = {"Authorization": f"Bearer {ASK}"}
    assert client.get("/v1/rollouts", headers=headers).status_code == 200


def test_nothing_but_its_own_files_runs_on_the_page(serve):
    client = serve()
    page = client.get("/")
    rules = page.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in rules
    assert "script-src 'self'" in rules
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    for inline in ("<style", " style=", " onclick=", "javascript:", "//"):
        assert inline not in page.text.replace("<!doctype", "")


def test_only_files_of_the_page_are_given(serve):
    client = serve()
    for path in ("/dashboard/..%2f..%2fengine.py", "/dashboard/%2e%2e/app.py", "/dashboard/"):
        assert client.get(path).status_code == 404


def test_the_page_is_small():
    assert sum(file.stat().st_size for file in FILES.iterdir()) < 300_000
