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
"""At the last look CONTINUE promotes: a release that is too risky for that is a person's to decide.

The policy knows no plan, as those of the recipes: `last` changes none of its Q-values.
"""

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.policy.qfunctions import TableQ

SURE, RISKY, BAD = 0.1, 0.3, 0.6
"""Error rates of releases to promote, to wait with, and to roll back."""


@pytest.fixture
def patient(policy):
    """Waits with a risk of 30 %: a rollback pays -5 there, and another look may tell more."""
    table = np.array([[20.0, -30.0], [0.0, -5.0], [-150.0, 80.0], [20.0, -30.0]])
    edges = [np.array([0.2, 0.4])]
    return replace(policy, q_function=TableQ(edges, table, np.ones_like(table)))


@pytest.fixture
def started(serve, patient, policy_file):
    def start(rewards=None, **settings):
        replace(patient, rewards=rewards or patient.rewards).save(policy_file)
        return serve(**settings)

    return start


def newest(client):
    return client.get("/v1/decisions").json()["decisions"][0]


@pytest.mark.parametrize("explore", [0.0, 0.9])
def test_what_is_too_risky_to_promote_is_held_for_a_person(started, ask, explore):
    client = started(explore=explore)
    assert ask(client, RISKY)["decision"] == "CONTINUE"
    said = ask(client, RISKY, last=True)
    assert (said["decision"], said["reasons"]) == ("PAUSE", ["too_risky_to_promote"])
    assert said["risk"] == pytest.approx(0.3, abs=1e-3)
    assert said["confidence"] == 1 - said["risk"], "of the likelier outcome"
    assert "too high to promote" in said["message"]
    logged = newest(client)
    assert (logged["preferred"], logged["decision"]) == ("CONTINUE", "PAUSE")
    assert (logged["propensity"], logged["explored"]) == (1.0, False), "nothing was drawn"


@pytest.mark.parametrize(("rate", "decision"), [(SURE, "CONTINUE"), (BAD, "ROLLBACK")])
def test_other_answers_at_the_last_look_stay_the_policys(started, ask, rate, decision):
    said = ask(started(), rate, last=True)
    assert (said["decision"], said["reasons"]) == (decision, [])


def test_what_is_too_risky_depends_on_the_rewards_of_the_policy(started, ask, patient):
    # Where a missed rollback costs nothing, one pays from a risk of one half on.
    client = started(rewards=replace(patient.rewards, missed_rollback=0.0))
    assert ask(client, RISKY, last=True)["decision"] == "CONTINUE"


def test_in_shadow_mode_the_caller_gets_its_default(started, ask):
    client = started(shadow=True)
    said = ask(client, RISKY, last=True)
    assert (said["decision"], said["would_be"]) == ("CONTINUE", "PAUSE")
    assert said["reasons"] == ["too_risky_to_promote"]
    logged = newest(client)
    assert (logged["answered"], logged["decision"]) == ("CONTINUE", "PAUSE")
