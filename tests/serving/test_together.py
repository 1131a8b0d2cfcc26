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

"""Rollouts side by side: what a service answers to one in the light of the others."""

import time
from dataclasses import replace

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.calls import read_calls
from oumi_deploy.serving.log.entries import DecisionEntry, LogUnavailable, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog
from oumi_deploy.serving.settings import ServiceSettings
from oumi_deploy.serving.together import Windows

N = 14


def entry_of(service, face, risk):
    """A ROLLBACK that the policy wants, before the others are looked at."""
    return DecisionEntry(
        id=f"{service} {face}",
        name=RolloutName(service, "", "2"),
        at=time.time(),
        asked_by=face,
        policy_version="v",
        base=None,
        kept=0,
        observations=[],
        last=False,
        preferred="ROLLBACK",
        decision="ROLLBACK",
        answered="ROLLBACK",
        propensity=1.0,
        explored=False,
        shadow=False,
        risk=risk,
        confidence=risk,
        q_values={},
        reasons=[],
    )


def minutes(rates, control):
    """One canary observation a minute, the newest now, after a healthy baseline."""
    newest = time.time()
    rows = [{"phase": "baseline", "timestamp": newest - 60.0 * N, "error_rate": 0.0}]
    for i, (new, old) in enumerate(zip(rates, control, strict=True)):
        at = newest - 60.0 * (len(rates) - 1 - i)
        rows.append({"timestamp": at, "error_rate": new, "control_error_rate": old})
    return rows


@pytest.fixture
def culprit(decide):
    """Fails beside an old version that does well."""
    return lambda client, **more: decide(client, "catalogue", [0.9] * 3, [0.0] * 3, **more)


@pytest.fixture
def dragged(decide):
    """Fails as its old version does, for `n` minutes."""

    def ask(client, n=2, rates=0.6, **more):
        return decide(client, "checkout", [rates] * n, [rates] * n, **more)

    return ask


@pytest.fixture
def decide():
    def one(client, service, rates, control, **more):
        body = {"service": service, "version": "2", "observations": minutes(rates, control), **more}
        response = client.post("/v1/decide", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    return one


def test_the_culprit_goes_and_its_neighbour_waits(serve, culprit, dragged):
    client = serve()
    assert culprit(client)["decision"] == "ROLLBACK"
    said = dragged(client)
    assert said["decision"] == said["would_be"] == "PAUSE"
    assert said["reasons"] == ["held_for_culprit"]
    assert "catalogue 2" in said["message"]
    assert [s["service"] for s in said["suspects"]] == ["catalogue", "checkout"]
    assert [s["waited_for"] for s in said["suspects"]] == [True, False]


def test_the_log_says_what_the_policy_wanted_and_who_was_suspected(serve, culprit, dragged):
    client = serve()
    culprit(client)
    said = dragged(client)
    newest, first = client.get("/v1/decisions").json()["decisions"]
    assert (newest["preferred"], newest["decision"], newest["propensity"]) == (
        "ROLLBACK",
        "PAUSE",
        1,
    )
    assert newest["suspects"] == said["suspects"]
    assert first["suspects"] is None


def test_alone_or_in_another_environment_its_own_rollback_stands(serve, culprit, dragged):
    client = serve()
    assert dragged(client)["decision"] == "ROLLBACK"
    culprit(client, environment="staging")
    assert dragged(client, environment="production")["decision"] == "ROLLBACK"


def test_waiting_ends_with_the_observations_and_a_rollback_stays_one(serve, culprit, dragged):
    client = serve(hold_limit=2)
    culprit(client)
    said = [dragged(client, n)["decision"] for n in (2, 3, 4, 5)]
    assert said == ["PAUSE", "PAUSE", "ROLLBACK", "ROLLBACK"]


def test_the_same_question_again_does_not_use_up_the_wait(serve, culprit):
    client = serve(hold_limit=1)
    culprit(client)
    body = {"service": "checkout", "observations": minutes([0.6] * 2, [0.6] * 2)}
    said = [client.post("/v1/decide", json=body).json() for _ in range(3)]
    assert [s["decision"] for s in said] == ["PAUSE"] * 3
    assert len({s["id"] for s in said}) == 1


def test_a_caller_that_sends_the_latest_only_waits_no_longer(serve, culprit, dragged, monkeypatch):
    client = serve(hold_limit=3, interval=60.0)
    culprit(client)
    now, said = time.time(), []
    for minute in range(6):
        monkeypatch.setattr("time.time", lambda minute=minute: now + 60 * minute)
        said.append(dragged(client, 2)["decision"])
    assert said == ["PAUSE"] * 3 + ["ROLLBACK"] * 3


def test_who_reads_of_a_wait_learns_of_whom_how_long_and_how_it_ended(serve, culprit, dragged):
    client = serve(hold_limit=2)
    culprit(client)
    waits, _, goes = (dragged(client, n) for n in (2, 3, 4))
    assert waits["message"].endswith(": another release is likelier the cause, catalogue 2")
    assert "observation 1 of at most 2" in waits["suspects"][1]["sentence"]
    assert "was told to go back" in waits["suspects"][0]["sentence"]
    assert goes["reasons"] == ["held_too_long"]
    assert goes["message"].endswith(": it has waited for another release as long as it may")


def test_a_wait_ends_when_the_other_one_looks_well_again(serve, culprit, decide, dragged):
    client = serve()
    decide(client, "catalogue", [0.9] * 2, [0.0] * 2)
    assert dragged(client, 2)["decision"] == "PAUSE"
    well = decide(client, "catalogue", [0.0] * 9, [0.0] * 9)
    assert well["risk"] < 0.5
    said = dragged(client, 3)
    assert (said["decision"], said["reasons"]) == ("ROLLBACK", [])


def test_a_wait_for_one_that_nobody_asks_about_any_more_ends(serve, culprit, dragged, monkeypatch):
    client = serve(hold_limit=5)
    now, said = time.time(), []
    culprit(client)
    for minute in range(1, 9):
        monkeypatch.setattr("time.time", lambda minute=minute: now + 60 * minute)
        said.append(dragged(client, minute)["decision"])
    assert said == ["PAUSE"] * 5 + ["ROLLBACK"] * 3


def test_rollouts_of_one_service_do_not_wait_for_each_other(serve, decide):
    client = serve()
    # Neither has an old version left; the second is as bad, and surer of nothing but itself.
    for more in ({"environment": "one"}, {"environment": "two"}, {"rollout": "a"}):
        decide(client, "catalogue", [0.9] * 3, [0.0] * 3, **more)
        said = decide(client, "catalogue", [0.6] * 3, [0.6] * 3, **{**more, "version": "3"})
        assert said["decision"] == "ROLLBACK"


def test_one_service_in_two_environments_stands_twice(serve, culprit, dragged):
    client = serve()
    dragged(client, 1, environment="staging", rates=0.0)
    culprit(client, environment="staging")
    assert dragged(client, environment="staging")["decision"] == "PAUSE"
    assert dragged(client, environment="production")["decision"] == "ROLLBACK"
    assert dragged(client, 3, environment="staging")["decision"] == "PAUSE"


def test_who_was_told_to_pause_by_chance_has_not_gone_back(serve, culprit, dragged):
    client = serve(explore=0.99, seed=1)
    assert dragged(client)["reasons"] == ["explored"]
    culprit(client)
    assert dragged(client, 3)["reasons"] == ["held_for_culprit"]


def test_whose_rollback_could_not_be_logged_has_not_gone_back(serve, culprit, dragged, monkeypatch):
    async def away(*_):
        raise LogUnavailable("away")

    client = serve()
    with monkeypatch.context() as patched:
        patched.setattr(DecisionLog, "record", away)
        assert dragged(client)["reasons"] == ["log_unavailable"]
    culprit(client)
    assert dragged(client, 3)["reasons"] == ["held_for_culprit"]
    with monkeypatch.context() as patched:
        patched.setattr(DecisionLog, "record", away)
        said = dragged(client, 4)["message"]
    assert "likelier the cause, catalogue 2; the decision log cannot be written" in said


def test_who_has_gone_back_and_looked_well_since_may_wait_again(serve, culprit, decide, dragged):
    client = serve()
    assert dragged(client)["decision"] == "ROLLBACK"
    culprit(client)
    assert dragged(client, 3)["decision"] == "ROLLBACK"
    assert decide(client, "checkout", [0.0] * 9, [0.0] * 9)["decision"] == "CONTINUE"
    assert dragged(client, 4)["decision"] == "PAUSE"


@pytest.mark.parametrize("first_alone", [True, False], ids=["went back", "waits"])
def test_a_late_answer_says_nothing_of_who_has_looked_well_since(policy_file, first_alone):
    """Two questions on one rollout at once: the older one's answer is logged after the newer's."""
    windows = Windows(ServiceSettings(policy=policy_file, hold_limit=2))
    culprit = entry_of("catalogue", "api", 0.95), minutes([0.9] * 3, [0.0] * 3)
    bad = minutes([0.6] * 3, [0.6] * 3)
    if not first_alone:
        windows.settle(*culprit)
    older = windows.settle(entry_of("checkout", "api", 0.9), bad)
    assert older.decision == ("ROLLBACK" if first_alone else "PAUSE")
    well = replace(entry_of("checkout", "api", 0.1), preferred="CONTINUE", decision="CONTINUE")
    newer = windows.settle(well, minutes([0.0] * 4, [0.0] * 4))
    windows.note(newer, 4)
    windows.note(older, 3)
    windows.settle(*culprit)
    again = windows.settle(entry_of("checkout", "api", 0.9), minutes([0.6] * 9, [0.6] * 9))
    assert again.reasons == ["held_for_culprit"]


def test_at_the_last_observation_nothing_waits(serve, culprit, dragged):
    client = serve()
    culprit(client)
    waits = dragged(client, last=True, asks_again=True)
    assert waits["reasons"] == ["held_for_culprit"], "another one comes"
    assert dragged(client, last=True)["decision"] == "ROLLBACK"


@pytest.mark.parametrize(
    ("reasons", "waits"),
    [
        (["certain_risk"], True),
        (["watch_ended"], True),
        (["paused_too_long"], True),
        (["guardrail"], False),
    ],
)
def test_a_guardrails_rollback_waits_for_nobody_and_any_other_may(policy_file, reasons, waits):
    windows = Windows(ServiceSettings(policy=policy_file))
    windows.settle(entry_of("catalogue", "api", 0.95), minutes([0.9] * 3, [0.0] * 3))
    entry = replace(entry_of("checkout", "api", 0.9), reasons=reasons)
    told = windows.settle(entry, minutes([0.6] * 3, [0.6] * 3))
    assert told.decision == ("PAUSE" if waits else "ROLLBACK")
    assert told.reasons == [*reasons, *["held_for_culprit"] * waits], "it is held by name"
    assert told.suspects is not None
    assert any(suspect["waited_for"] for suspect in told.suspects) is waits


def test_a_culprit_of_long_ago_is_forgotten(serve, culprit, dragged):
    client = serve(hold_limit=1, interval=0.01)
    culprit(client)
    time.sleep(0.1)
    assert dragged(client)["decision"] == "ROLLBACK"


def test_turned_off_each_is_judged_by_itself(serve, culprit, dragged):
    client = serve(hold_limit=0)
    culprit(client)
    assert dragged(client)["decision"] == "ROLLBACK"


def test_a_window_that_is_over_has_nothing_beside_it(policy_file):
    windows = Windows(ServiceSettings(policy=policy_file))
    rows = minutes([0.6] * 3, [0.6] * 3)
    settled = {}
    for face in ("api", "kayenta"):
        windows.settle(entry_of("catalogue", "api", 0.95), minutes([0.9] * 3, [0.0] * 3))
        settled[face] = windows.settle(entry_of("checkout", face, 0.9), rows).decision
    assert settled == {"api": "PAUSE", "kayenta": "ROLLBACK"}


def test_of_many_suspects_the_likeliest_are_told(policy_file):
    windows = Windows(ServiceSettings(policy=policy_file))
    rows = minutes([0.9] * 3, [0.0] * 3)
    for i in range(30):
        windows.settle(entry_of(f"s{i}", "api", 0.6 + 0.01 * i), rows)
    told = windows.settle(entry_of("cart", "api", 0.5), rows).suspects
    assert told is not None
    assert [s["service"] for s in told] == [*(f"s{i}" for i in range(29, 19, -1)), "cart"]


def test_exploration_does_not_draw_where_a_rollout_waits(serve, culprit, dragged):
    client = serve(explore=0.99, seed=1)
    culprit(client)
    said = dragged(client)
    assert (said["reasons"], said["explored"]) == (["held_for_culprit"], False)
    newest = client.get("/v1/decisions").json()["decisions"][0]
    assert newest["propensity"] == 1


def test_who_calls_a_failing_release_waits_for_it(serve, decide, tmp_path):
    calls = tmp_path / "calls.json"
    calls.write_text('{"checkout": ["catalogue"]}')
    for settings, waits in (({}, False), ({"calls": calls}, True)):
        client = serve(log=f"sqlite:///{tmp_path / str(waits)}.db", **settings)
        # Neither has an old version left to compare with; both are as likely bad.
        decide(client, "catalogue", [0.6] * 3, [None] * 3)
        said = decide(client, "checkout", [0.6] * 3, [None] * 3)
        assert (said["decision"] == "PAUSE") is waits


@pytest.mark.parametrize("text", ["[]", '{"a": "b"}', '{"a": [1]}', "{"])
def test_calls_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "calls.json"
    path.write_text(text)
    with pytest.raises(DeployError, match=r"calls\.json"):
        read_calls(path)


def test_calls_that_are_missing_and_a_limit_below_0_are_refused(tmp_path, policy_file):
    with pytest.raises(DeployError, match=r"none\.json"):
        read_calls(tmp_path / "none.json")
    with pytest.raises(DeployError, match="hold-limit"):
        ServiceSettings(policy=policy_file, hold_limit=-1)
