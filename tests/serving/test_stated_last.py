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
"""At the last look CONTINUE promotes: above break-even it is never said, there or before.

The policy knows no plan, as those of the recipes: `last` changes none of its Q-values.
"""

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import TableQ

SURE, RISKY, BAD = 0.1, 0.3, 0.6
"""Error rates of releases to promote, to watch, and to roll back."""


@pytest.fixture
def patient(policy):
    """Waits with a risk of 30 %: a rollback pays -5 there, and another look may tell more."""
    table = np.array([[20.0, -30.0], [0.0, -5.0], [-150.0, 80.0], [20.0, -30.0]])
    edges = [np.array([0.2, 0.4])]
    return replace(policy, q_function=TableQ(edges, table, np.ones_like(table)))


@pytest.fixture
def started(serve, patient, policy_file):
    """Starts a service with a policy of these rewards, and of a version of the policy file."""

    def start(version=2, rewards=None, **settings):
        rewards = replace(patient.rewards, **(rewards or {}))
        # Watched for longer than a test takes.
        calibration = Calibration(0.0, 1.0, PauseRules(watch_limit=9, pause_limit=9))
        fresh = replace(patient, rewards=rewards, version=version, calibration=calibration)
        fresh.save(policy_file)
        return serve(**settings)

    return start


def newest(client):
    return client.get("/v1/decisions").json()["decisions"][0]


def test_what_is_too_risky_to_promote_is_watched_and_ended_at_the_last_look(started, ask):
    client = started()
    watched = ask(client, RISKY)
    assert (watched["decision"], watched["reasons"]) == ("PAUSE", ["watching"])
    assert "same traffic, look again" in watched["message"]
    ended = ask(client, RISKY, last=True)
    assert (ended["decision"], "watch_ended" in ended["reasons"]) == ("ROLLBACK", True)
    assert "the watch has ended" in ended["message"]
    assert "look again" not in ended["message"]


def test_where_a_rollback_pays_less_than_a_persons_time_a_person_decides(started, ask):
    said = ask(started(rewards={"held": -1.0}), RISKY, last=True)
    assert said["decision"] == "PAUSE"
    assert said["reasons"][-1] == "held_for_a_person"
    assert "a person must decide, because no later observation will come" in said["message"]


def test_a_tool_that_asks_again_goes_on_watching_at_its_last_look(started, ask):
    client = started()
    said = ask(client, RISKY, last=True, asks_again=True)
    assert (said["decision"], said["reasons"]) == ("PAUSE", ["watching"])
    logged = newest(client)
    assert (logged["last"], logged["asks_again"]) == (True, True)
    assert (logged["pauses"], logged["pause_limit"]) == (1, 9)


@pytest.mark.parametrize(
    "told", [{}, {"last": True}, {"asks_again": True}, {"last": True, "asks_again": True}]
)
def test_the_service_answers_by_the_rules_of_the_policy_alone(started, policy_file, rows, told):
    client = started()
    policy = DeploymentPolicy.load(policy_file)
    rates = [SURE, RISKY, None, RISKY, *[None] * 12, RISKY, BAD, SURE]
    seen = []
    for n in range(1, len(rates) + 1):
        observations = rows(*rates[:n])
        body = {"service": "shop", "observations": observations, **told}
        said, alone = (
            client.post("/v1/decide", json=body).json(),
            policy.decide(observations, **told),
        )
        assert (said["decision"], said["risk"]) == (alone.decision, alone.risk), n
        assert (said["confidence"], tuple(said["reasons"])) == (alone.confidence, alone.reasons)
        seen.append(said["decision"])
    assert {"CONTINUE", "PAUSE", "ROLLBACK"} == {*seen}


@pytest.mark.parametrize("asks_again", [False, True])
@pytest.mark.parametrize(("rate", "decision"), [(SURE, "CONTINUE"), (BAD, "ROLLBACK")])
def test_what_carries_a_decision_gets_it_at_the_last_look(started, ask, rate, decision, asks_again):
    said = ask(started(), rate, last=True, asks_again=asks_again)
    assert (said["decision"], said["reasons"]) == (decision, [])


def test_what_is_too_risky_depends_on_the_rewards_of_the_policy(started, ask):
    # Where a missed rollback costs nothing, one pays from a risk of one half on.
    client = started(rewards={"missed_rollback": 0.0})
    assert ask(client, RISKY, last=True)["decision"] == "CONTINUE"


def test_in_shadow_mode_the_caller_gets_its_default(started, ask):
    client = started(shadow=True)
    said = ask(client, RISKY, last=True)
    assert (said["decision"], said["would_be"]) == ("CONTINUE", "ROLLBACK")
    logged = newest(client)
    assert (logged["answered"], logged["decision"]) == ("CONTINUE", "ROLLBACK")


class TestAPolicyFileOfVersion1:
    """It goes on where another look is worth more, and the service holds it at the last one."""

    @pytest.mark.parametrize("explore", [0.0, 0.9])
    def test_what_is_too_risky_to_promote_is_held(self, started, ask, explore):
        client = started(version=1, explore=explore)
        assert ask(client, RISKY)["decision"] == "CONTINUE"
        said = ask(client, RISKY, last=True)
        assert said["decision"] == "PAUSE"
        assert said["reasons"] == ["too_risky_to_promote", "held_for_a_person"]
        assert said["confidence"] == 1 - said["risk"], "of the likelier outcome"
        assert "too high to promote" in said["message"]
        logged = newest(client)
        assert (logged["propensity"], logged["explored"]) == (1.0, False), "nothing was drawn"

    def test_also_where_the_tool_asks_again(self, started, ask):
        said = ask(started(version=1), RISKY, last=True, asks_again=True)
        assert (said["decision"], said["reasons"]) == ("PAUSE", ["too_risky_to_promote"])

    def test_what_is_safe_is_promoted(self, started, ask):
        assert ask(started(version=1), SURE, last=True)["decision"] == "CONTINUE"
