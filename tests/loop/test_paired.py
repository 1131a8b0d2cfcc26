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
"""What the figures that promote are made of."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.loop.judging import HeldOut, decide, judge
from oumi_deploy.loop.paired import figures_of, join, pair
from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.loop.split import side_of
from oumi_deploy.problem.rewards import Rewards

SETTINGS = LoopSettings(Path(), Path(), ("review",))


def paired(policy_on, episodes: Episodes):
    champion, challenger = policy_on("error_rate"), policy_on("memory_usage")
    return pair(champion, challenger, episodes, np.ones(len(episodes)))


def test_going_on_where_the_log_ends_lets_the_release_through(policy_on, make_episodes):
    """The champion rolled both back by errors; memory, which the challenger watches, is calm."""
    seen = {"error_rate": [0.1, 0.9], "memory_usage": 0.1, "canary_share": 0.5}
    ended = {**seen, "action": ["CONTINUE", "ROLLBACK"], "planned_steps": 4}
    both = paired(policy_on, make_episodes({**ended, "label": "bad"}, {**ended, "label": "good"}))
    # Each CONTINUE on the bad release that another observation follows costs 2 times half.
    assert both.challenger.tolist() == [-200 - 3, 50]
    assert both.champion.tolist() == [100 - 1, -50]
    assert both.challenger_stops.tolist() == [False, False]


def test_a_slower_challenger_is_taken_to_see_the_failure_stay(policy_on, make_episodes):
    """It rolls back once the mean of the errors has risen far enough: two observations later."""
    ended = {"error_rate": [0.3, 0.95], "action": ["CONTINUE", "ROLLBACK"], "canary_share": 0.5}
    champion, slower = policy_on("error_rate"), policy_on("error_rate.mean")

    def both(**more):
        episodes = make_episodes({**ended, "label": "bad", "timestamp": [0.0, 60.0], **more})
        return pair(champion, slower, episodes, np.ones(1))

    # Means of 0.3 and 0.625.
    assert both().challenger.tolist() == [100 - 1]
    ended["error_rate"] = [0.0, 0.95]
    # Means of 0, 0.475 and 0.633.
    assert both().challenger.tolist() == [100 - 2]
    # By plan there would not have been another observation.
    assert both(planned_steps=2).challenger.tolist() == [-200 - 1]


def test_a_challenger_that_never_rolls_back_gains_nothing_by_it(policy_on, make_episodes):
    """All that the champion rolled back is reviewed, and was bad; what went on was good."""
    caught = {"error_rate": 0.9, "memory_usage": 0.1, "action": "ROLLBACK", "label": "bad"}
    passed = {"error_rate": 0.1, "memory_usage": 0.1, "label": "good"}
    new = make_episodes(*([caught, passed] * 20))
    champion, blind = policy_on("error_rate"), policy_on("memory_usage")
    trusted = make_episodes(*([passed] * 20))
    assert not judge(champion, blind, HeldOut(trusted, new), SETTINGS).promotes


def test_what_is_held_is_paid_as_held_and_neither_caught_nor_let_through(policy_on, make_episodes):
    """Memory, which the challenger watches, is not reported: it holds what the champion decides."""
    seen = {"error_rate": [0.1, 0.9], "memory_usage": [None, None], "canary_share": 0.5}
    both = paired(policy_on, make_episodes({**seen, "label": "bad"}, {**seen, "label": "good"}))
    held = Rewards().held
    assert both.challenger.tolist() == [held - 1, held], "paid once, beside a look at half traffic"
    said = figures_of(both, 0)
    assert said["challenger"] == {
        "reward": (2 * held - 1) / 2,
        "recall": None,
        "let_through": 0.0,
        "held": 1.0,
    }
    assert (said["champion"]["recall"], said["champion"]["held"]) == (1.0, 0.0)


@given(st.integers(0, 2**32), st.integers(10, 40))
def test_the_bound_lies_below_the_gain_and_weights_are_releases(policy_on, make_episodes, seed, n):
    """A release of weight two counts as the same release twice, in one group."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "error_rate": random.choice([0.1, 0.9]),
            "memory_usage": random.choice([0.1, 0.9]),
            "label": random.choice(["good", "bad"]),
            "group": str(i),
        }
        for i in range(n)
    ]
    champion, challenger = policy_on("error_rate"), policy_on("memory_usage")
    once = pair(champion, challenger, make_episodes(*rows), np.full(n, 2.0))
    twice = paired(policy_on, make_episodes(*(row for row in rows for _ in range(2))))
    one, other = figures_of(once, 0), figures_of(twice, 0)
    assert one["gain"] == other["gain"]
    assert one["champion"] == other["champion"]
    assert one["gain"]["low"] <= one["gain"]["lower_bound"] <= one["gain"]["value"]


def test_groups_of_different_sets_stay_apart(policy_on, make_episodes):
    episodes = make_episodes({"error_rate": 0.1, "memory_usage": 0.1, "label": "bad", "group": "a"})
    one = paired(policy_on, episodes)
    assert len(np.unique(join([one, one]).groups)) == 2


def figures(bound: float | None, before: float, after: float, n_bad: int = 5) -> dict:
    lost = {"champion": {"let_through": before}, "challenger": {"let_through": after}}
    return {"gain": {"lower_bound": bound}, "n_bad": n_bad, "n_groups": 12, **lost}


@pytest.mark.parametrize(
    ("said", "promotes"),
    [
        (figures(0.1, 0.1, 0.1), True),
        (figures(0.1, 0.1, 0.12), True),
        (figures(0.1, 0.1, 0.13), False),
        (figures(0.0, 0.1, 0.0), False),
        (figures(None, 0.1, 0.0), False),
        (figures(0.1, 0.1, 0.0, n_bad=0), False),
    ],
)
def test_both_conditions_must_hold(said: dict, promotes: bool):
    assert decide(said, 0.02)[0] is promotes


@given(st.text(), st.integers(0, 2**31))
def test_a_group_is_always_on_the_same_side(group: str, seed: int):
    settings = LoopSettings(Path("a"), Path("b"), ("review",), seed=seed)
    again = LoopSettings(Path("c"), Path("d"), ("incident",), seed=seed, window_days=1)
    assert side_of(group, settings) == side_of(group, again)


def test_sides_have_their_shares():
    sides = [side_of(f"production 2026-{i}", SETTINGS) for i in range(4000)]
    # Four standard errors of a share of 0.2.
    for side, share in (("judge", SETTINGS.judge_share), ("calibrate", SETTINGS.calibrate_share)):
        assert sides.count(side) / len(sides) == pytest.approx(share, abs=0.026)
