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
"""What the decision log says by its propensities is reported, and promotes nobody.

Half of the releases are bad, by their memory, which the challenger watches; the champion watches
errors, of which there are none. Whoever decided tossed a coin, or is said to have known.
"""

from pathlib import Path

import pytest

from oumi_deploy.loop.judging import HeldOut, judge
from oumi_deploy.loop.settings import LoopSettings

SETTINGS = LoopSettings(Path(), Path(), ("review",))


def logged(number: int, propensity: float, reviewed: bool) -> dict:
    """Returns a release of the log; without a review, who was rolled back has no label."""
    bad, stops = number % 2 == 0, number % 4 < 2
    return {
        "error_rate": 0.1,
        "memory_usage": 0.9 if bad else 0.1,
        "action": "ROLLBACK" if stops else "CONTINUE",
        "propensity": propensity,
        "label": None if stops and not reviewed else "bad" if bad else "good",
        "group": f"new-{number}",
    }


@pytest.fixture
def verdict(policy_on, make_episodes):
    def judged(propensity: float, reviewed: bool = False):
        trusted = make_episodes(
            *(
                {"error_rate": x, "memory_usage": x, "label": label, "group": f"{label} {number}"}
                for number in range(10)
                for x, label in ((0.9, "bad"), (0.1, "good"))
            )
        )
        new = make_episodes(*(logged(number, propensity, reviewed) for number in range(200)))
        champion, challenger = policy_on("error_rate"), policy_on("memory_usage")
        return judge(champion, challenger, HeldOut(trusted, new), SETTINGS)

    return judged


def test_however_well_it_speaks_of_a_challenger(verdict):
    said = verdict(0.5)
    completed = said.log_alone["families"]["completed"]
    # The champion lets all through: a mean of -200 and 50.
    for estimate in completed["mean_reward_with_delay"]:
        assert estimate["lower_bound"] > -75
    assert not said.promotes
    assert said.figures["together"] == said.figures["trusted"]
    # Reviews of what was rolled back show the same, and promote.
    assert verdict(0.5, reviewed=True).promotes


def test_where_its_propensities_leave_no_overlap_it_says_nothing(verdict):
    said = verdict(1.0)
    assert said.log_alone.keys() == {"refused"}
    assert not said.promotes
    assert said.figures["together"] == said.figures["trusted"]
    assert verdict(1.0, reviewed=True).promotes
