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
"""Figures and their intervals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation import metrics
from oumi_deploy.evaluation.evaluate import evaluate, judge
from oumi_deploy.evaluation.metrics import point_figures, summarise
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards

FIGURES = {
    *("accuracy", "precision", "recall", "f1", "false_rollback_rate"),
    *("mean_reward", "mean_reward_with_delay", "median_delay_steps", "median_delay_minutes"),
    *("mean_reward_with_delay_of_decided", "mean_reward_with_delay_withheld"),
    *("share_held", "share_watched_while_traffic_rose"),
    *("share_ever_paused", "share_ended_by_fallback"),
}


def threshold_policy(episodes: Episodes, edge: float = 0.5) -> DeploymentPolicy:
    """Rolls back where load is at or above the edge; says PAUSE where it is missing."""
    table = np.array([[50.0, -50.0], [-200.0, 100.0], [50.0, -50.0]])
    encoder = fit_encoder(["load"], episodes)
    q_function = TableQ([np.array([edge])], table, np.ones((3, 2)))
    return DeploymentPolicy(encoder, q_function, "sequential", Rewards(), 1.0, {}, {})


def evaluated(episodes: Episodes, **options) -> dict[str, Any]:
    return evaluate(threshold_policy(episodes), episodes, **options)


def release(label: str | None, at: int | None, **columns: Any) -> dict[str, Any]:
    """A release of four decisions, rolled back by the threshold policy at `at`, or never."""
    load = [0.0] * 4 if at is None else [0.0] * at + [1.0] * (4 - at)
    return {"load": load, "label": label, "canary_share": 0.5, **columns}


def test_figures_worked_by_hand(make_episodes):
    times = {"timestamp": [0.0, 60.0, 180.0, 600.0]}
    result = evaluated(
        make_episodes(
            release("bad", 0, **times),
            release("bad", 2, **times),
            release("bad", 3, **times),
            release("bad", None),
            release("good", None),
            release("good", None),
            release("good", 1, **times),
            release(None, 0),
        )
    )
    figures = {name: figure["value"] for name, figure in result["metrics"].items()}
    assert figures.keys() == FIGURES
    # Three of four bad ones caught, one of three good ones rolled back.
    assert figures["accuracy"] == pytest.approx(5 / 7)
    assert figures["precision"] == pytest.approx(3 / 4)
    assert figures["recall"] == pytest.approx(3 / 4)
    assert figures["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert figures["false_rollback_rate"] == pytest.approx(1 / 3)
    # 3 * 100 - 200 + 2 * 50 - 50 = 150. Waits on bad ones cost 2 * 0.5: 0 + 2 + 3 + 3 of them.
    assert figures["mean_reward"] == pytest.approx(150 / 7)
    assert figures["mean_reward_with_delay"] == pytest.approx(142 / 7)
    # Nothing was held, nor watched.
    assert figures["mean_reward_with_delay_of_decided"] == figures["mean_reward_with_delay"]
    assert figures["mean_reward_with_delay_withheld"] == figures["mean_reward_with_delay"]
    assert figures["share_held"] == figures["share_watched_while_traffic_rose"] == 0
    # Delays of the bad ones caught: 0, 2, 3 steps and 0, 3, 10 minutes.
    assert figures["median_delay_steps"] == 2
    assert figures["median_delay_minutes"] == 3
    for figure in result["metrics"].values():
        assert figure.keys() == {"value", "low", "high"}
        assert figure["low"] <= figure["value"] <= figure["high"]
    counts = ("n_episodes", "n_groups", "n_good", "n_bad", "n_held", "n_unlabelled", "n_censored")
    assert [result[name] for name in counts] == [8, 8, 3, 4, 0, 1, 0]


def test_a_held_release_is_paid_and_is_no_decision(make_episodes):
    silent = [np.nan] * 4
    result = evaluated(
        make_episodes(
            release("bad", 1),
            release("good", None),
            {"load": silent, "label": "bad", "canary_share": 0.5},
            {"load": [0.0, *silent[1:]], "label": "good", "canary_share": 0.5},
        )
    )
    figures = {name: figure["value"] for name, figure in result["metrics"].items()}
    # Two of four end without a word of how they fare: a person must decide, and nothing is wrong.
    assert figures["share_held"] == 0.5
    assert result["n_held"] == 2
    assert figures["accuracy"] == figures["recall"] == figures["f1"] == 1
    # 100 and 50, and -10 for each that is held; the bad ones waited once and three times at 1.
    assert figures["mean_reward"] == pytest.approx((100 + 50 - 20) / 4)
    assert figures["mean_reward_with_delay"] == pytest.approx((100 + 50 - 20 - 1 - 3) / 4)
    assert figures["mean_reward_with_delay_of_decided"] == pytest.approx((100 + 50 - 1) / 2)
    of_them = [entry for entry in result["episodes"] if entry["held"]]
    assert [(e["decision"], e["correct"]) for e in of_them] == [("PAUSE", None)] * 2


def test_the_table_has_an_entry_for_each_scored_episode(make_episodes):
    times = {"timestamp": [0.0, 90.0, 180.0, 270.0]}
    result = evaluated(
        make_episodes(
            release("bad", 2, group="g", service="pay", **times),
            release("good", None, group=None, service=None),
            release(None, 0),
        )
    )
    assert result["episodes"] == [
        {
            "episode_id": "e0",
            "group": "g",
            "service": "pay",
            "label": "bad",
            "decision": "ROLLBACK",
            "held": False,
            "paused": False,
            "fell_back": False,
            "correct": True,
            "delay_steps": 2.0,
            "delay_minutes": 3.0,
            "reward": 100.0,
            "reward_with_delay": 98.0,
        },
        {
            "episode_id": "e1",
            "group": None,
            "service": None,
            "label": "good",
            "decision": "CONTINUE",
            "held": False,
            "paused": False,
            "fell_back": False,
            "correct": True,
            "delay_steps": None,
            "delay_minutes": None,
            "reward": 50.0,
            "reward_with_delay": 50.0,
        },
    ]


def test_per_observation_worked_by_hand(make_episodes):
    episodes = make_episodes(release("bad", 2), release("good", 3))
    result = evaluated(episodes, per_observation=True)
    figures = {name: figure["value"] for name, figure in result["metrics"].items()}
    # Bad: two CONTINUEs missed, two ROLLBACKs right. Good: three right, one rolled back.
    assert figures["accuracy"] == pytest.approx(5 / 8)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == pytest.approx(2 / 4)
    assert figures["false_rollback_rate"] == pytest.approx(1 / 4)
    assert figures["mean_reward"] == pytest.approx((-400 + 200 + 150 - 50) / 8)
    assert figures["mean_reward_with_delay"] == figures["mean_reward"]
    assert figures["median_delay_steps"] == 0
    assert len(result["episodes"]) == 8


def undefined(result: dict[str, Any]) -> dict[str, str]:
    figures = result["metrics"].items()
    for _, figure in figures:
        if figure["value"] is None:
            assert figure["low"] is figure["high"] is None
    return {name: figure["note"] for name, figure in figures if figure["value"] is None}


def test_what_is_undefined_is_null_and_says_why(make_episodes):
    good_only = evaluated(make_episodes(release("good", None), release("good", None)))
    not_rolled_back = "no bad release was rolled back"
    assert undefined(good_only) == {
        "precision": "nothing was rolled back",
        "recall": "no bad release was scored",
        "f1": "no bad release was scored and nothing rolled back",
        "median_delay_steps": not_rolled_back,
        "median_delay_minutes": not_rolled_back,
    }
    bad_only = evaluated(make_episodes(release("bad", 0), release("bad", 1)))
    assert undefined(bad_only) == {
        "false_rollback_rate": "no good release was scored",
        "median_delay_minutes": "the episodes have no timestamps",
    }
    missed = evaluated(make_episodes(release("bad", None), release("good", None)))
    assert missed["metrics"]["f1"]["value"] == 0
    assert undefined(missed).keys() == {"precision", "median_delay_steps", "median_delay_minutes"}


def test_where_everything_is_censored_no_figure_is_defined(make_episodes):
    stopped = release("bad", None, action=["CONTINUE"] * 3 + ["ROLLBACK"])
    result = evaluated(make_episodes(stopped, stopped))
    assert undefined(result).keys() == FIGURES
    assert result["n_censored"] == 2
    assert result["episodes"] == []


def test_without_any_label_there_is_nothing_to_score(make_episodes):
    with pytest.raises(DeployError, match="no episode is labelled"):
        evaluated(make_episodes(release(None, 0)))


def test_one_group_has_figures_and_no_interval(make_episodes):
    episodes = make_episodes(release("bad", 0, group="g"), release("good", 0, group="g"))
    accuracy = evaluated(episodes)["metrics"]["accuracy"]
    assert (accuracy["value"], accuracy["low"], accuracy["high"]) == (0.5, None, None)
    assert accuracy["note"] == "one group only: there is nothing to resample"


def mixed(n_groups: int) -> list[dict[str, Any]]:
    times = {"timestamp": [0.0, 60.0, 180.0, 600.0]}
    kinds = [("bad", 0), ("bad", 2), ("bad", None), ("good", None), ("good", 1), ("bad", 3)]
    return [release(*kinds[i % 6], group=f"g{i % n_groups}", **times) for i in range(24)]


def test_copies_inside_a_group_do_not_narrow_the_intervals(make_episodes):
    once = evaluated(make_episodes(*mixed(12)))["metrics"]
    copied = evaluated(make_episodes(*mixed(12), *mixed(12), *mixed(12)))["metrics"]
    for name in FIGURES:
        for end in ("value", "low", "high"):
            assert copied[name][end] == pytest.approx(once[name][end]), name
    # The same copies as groups of their own are more evidence.
    own = [{**one, "group": f"own{i}"} for i, one in enumerate(mixed(12) * 3)]
    alone = evaluated(make_episodes(*own))["metrics"]["mean_reward"]
    width = alone["high"] - alone["low"]
    assert width < 0.75 * (once["mean_reward"]["high"] - once["mean_reward"]["low"])


def test_an_interval_is_the_middle_of_what_drawn_groups_give(make_episodes):
    # Four groups of one release, half of them right: the accuracy of a drawn set is binomial,
    # 0 or 1 with probability 1/16 each, so that the middle 95 % reaches from 0 to 1.
    kinds = [("bad", 0), ("bad", None), ("good", None), ("good", 0)]
    few = evaluated(make_episodes(*[release(*kind) for kind in kinds]))["metrics"]["accuracy"]
    assert few == {"value": 0.5, "low": 0.0, "high": 1.0}
    # A hundred such groups: 0.5 +- 1.96 * sqrt(0.25 / 100) = 0.5 +- 0.098.
    many = evaluated(make_episodes(*[release(*kinds[i % 4]) for i in range(100)]))
    accuracy = many["metrics"]["accuracy"]
    assert accuracy["low"] == pytest.approx(0.402, abs=0.015)
    assert accuracy["high"] == pytest.approx(0.598, abs=0.015)


def test_intervals_repeat_with_the_seed(make_episodes):
    episodes = make_episodes(*mixed(12))
    assert evaluated(episodes, seed=1) == evaluated(episodes, seed=1)
    assert evaluated(episodes, seed=1) != evaluated(episodes, seed=2)


def test_groups_that_are_not_scored_are_not_drawn(make_episodes):
    unlabelled = [release(None, 0, group=f"u{i}") for i in range(50)]
    with_them = evaluated(make_episodes(*mixed(12), *unlabelled))["metrics"]
    assert with_them == evaluated(make_episodes(*mixed(12)))["metrics"]


@settings(max_examples=60)
@given(st.data())
def test_resampled_medians_are_those_of_the_drawn_delays_written_out(data):
    n_groups, n = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    delays = np.array(data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)), dtype=float)
    groups = np.array(data.draw(st.lists(st.integers(0, n_groups - 1), min_size=n, max_size=n)))
    drawn = metrics.drawn_sets(n_groups, seed=data.draw(st.integers(0, 9)))
    weights = np.concatenate(list(drawn()))[:50]
    medians = metrics._resampled_medians(lambda: iter([weights]), delays, groups)
    for row, median in zip(weights, medians, strict=True):
        written_out = np.repeat(delays, row[groups])
        expected = np.median(written_out) if len(written_out) else np.nan
        np.testing.assert_equal(median, expected)


def test_medians_do_not_depend_on_how_many_sets_are_held_at_a_time(make_episodes, monkeypatch):
    episodes = make_episodes(*mixed(12))
    whole = evaluated(episodes)["metrics"]
    monkeypatch.setattr(metrics, "_BLOCK", 24)
    assert evaluated(episodes)["metrics"].keys() == whole.keys()
    for name in ("median_delay_steps", "median_delay_minutes", "accuracy"):
        assert evaluated(episodes)["metrics"][name] == whole[name]


def testdrawn_sets_have_as_many_groups_as_there_are():
    weights = np.concatenate(list(metrics.drawn_sets(7, seed=0)()))
    assert weights.shape == (metrics.RESAMPLES, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert list(metrics.drawn_sets(0, seed=0)()) == []


def test_point_figures_agree_with_the_summary(make_episodes):
    for episodes in (make_episodes(*mixed(6)), make_episodes(release("good", None))):
        actions = (episodes.column("load") >= 0.5).astype(int)
        scores = score(episodes, actions, Rewards())
        points = point_figures(scores)
        for name, figure in summarise(scores, episodes).items():
            if name in points:
                value = np.nan if figure["value"] is None else figure["value"]
                np.testing.assert_equal(points[name], value)
        assert FIGURES - points.keys() == {"median_delay_minutes"}


def test_rewards_of_the_caller_are_paid(make_episodes):
    episodes = make_episodes(release("bad", 1), release("good", None))
    actions = (episodes.column("load") >= 0.5).astype(int)
    figures = judge(episodes, actions, Rewards(7, 5, -9, -3, step_cost=4))["metrics"]
    # (7 + 5) / 2; the wait at share 0.5 costs 4 * 0.5.
    assert figures["mean_reward"]["value"] == 6
    assert figures["mean_reward_with_delay"]["value"] == 5


def test_a_policy_whose_state_the_data_lack_is_refused(make_episodes):
    policy = threshold_policy(make_episodes(release("bad", 0)))
    with pytest.raises(DeployError, match="state: the episodes have no column load"):
        evaluate(policy, make_episodes({"queue": [1.0], "label": "bad"}))
