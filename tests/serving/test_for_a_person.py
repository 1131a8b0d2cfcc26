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
"""What cannot be decided is held for a person, and never promotes itself."""

from dataclasses import replace

import pytest

from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules

HELD = "held_for_a_person"


@pytest.fixture
def started(serve, policy, policy_file):
    def start(fallback="PAUSE", **settings):
        rules = PauseRules(pause_fallback=fallback)
        replace(policy, calibration=Calibration(0.0, 1.0, rules)).save(policy_file)
        return serve(interval=60.0, **settings)

    return start


def post(client, observations, **more):
    body = {"service": "shop", "observations": observations, **more}
    return client.post("/v1/decide", json=body).json()


def test_pauses_are_counted_and_after_the_limit_a_person_must_decide(started, rows):
    client = started()
    told = [post(client, rows(0.1, *[None] * n)) for n in range(1, 17)]
    assert {said["decision"] for said in told} == {"PAUSE"}
    assert [HELD in said["reasons"] for said in told] == [False] * 4 + [True] * 12
    messages = [said["message"] for said in told]
    assert [f"PAUSE {n} of 5" in m for n, m in enumerate(messages[:4], 1)] == [True] * 4
    assert "held: a person must decide, because no metric has a value" in messages[-1]
    assert "nothing was decided for 16 observations running" in messages[-1]
    assert not any(" of 5" in message for message in messages[4:])


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_a_later_observation_that_carries_a_decision_is_answered_by_itself(started, rows, rate):
    client, seen = started(), rows(0.1, *[None] * 9, rate)
    assert HELD in post(client, seen[:-1])["reasons"]
    said = post(client, seen)
    assert (said["decision"], said["reasons"]) == ("ROLLBACK" if rate > 0.5 else "CONTINUE", [])


@pytest.mark.parametrize("told", [{}, {"last": True}, {"last": True, "asks_again": True}])
@pytest.mark.parametrize("fallback", ["CONTINUE", "PAUSE", "ROLLBACK"])
def test_what_was_not_seen_is_never_promoted(started, rows, fallback, told):
    """Telemetry that is lost, as missing values and as observations that do not come."""
    client = started(fallback)
    for n in range(1, 11):
        said = post(client, rows(0.1, 0.1, *[None] * n), **told)
        assert said["decision"] != "CONTINUE"
    for minutes in (3, 5, 60):
        said = post(client, rows(0.1, 0.1, age=60.0 * minutes + 1), service="late", **told)
        assert said["decision"] == "PAUSE"
        assert said["would_be"] == "PAUSE"


def test_what_does_not_come_counts_as_pauses(started, rows):
    client = started()
    told = [post(client, rows(0.1, age=60.0 * n + 1)) for n in (2, 3, 4, 5, 60)]
    assert [HELD in said["reasons"] for said in told] == [False] * 3 + [True] * 2
    assert "PAUSE 3 of 5" in told[1]["message"]
    assert len({said["id"] for said in told}) == 5, "the log says that it goes on"


def test_a_tool_that_asks_again_at_its_last_look_is_told_to_wait(started, rows):
    client, seen = started("ROLLBACK"), rows(0.1, None)
    asks = {"last": True, "asks_again": True}
    waits, ends = post(client, seen, **asks), post(client, seen, last=True)
    assert (waits["decision"], waits["reasons"]) == ("PAUSE", ["telemetry_missing"])
    assert ends["decision"] == "ROLLBACK"
    assert waits["id"] != ends["id"]
    assert post(client, [*seen, *rows(0.1)], **asks)["decision"] == "CONTINUE"


def test_a_last_look_that_cannot_be_decided_is_for_a_person(started, rows):
    said = post(started(), rows(0.1, None), last=True)
    assert (said["decision"], HELD in said["reasons"]) == ("PAUSE", True)
    assert said["message"].endswith("no later observation will come")
    late = post(started(), rows(0.1, age=130), last=True)
    assert late["reasons"] == ["telemetry_missing", HELD]
    assert late["message"].endswith("no later observation will come")


def test_a_rollback_held_by_chance_at_the_last_look_is_for_a_person(started, rows):
    client = started(explore=0.999, seed=1)
    assert post(client, rows(0.9), last=True)["reasons"] == ["explored", HELD]
    assert post(client, rows(0.9), last=True, asks_again=True)["reasons"] == ["explored"]
