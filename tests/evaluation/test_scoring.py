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
"""The scoring rules, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.policy.answers import PAUSED, Answers
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.problem.rewards import Rewards

NAN = float("nan")
CONTINUE, ROLLBACK = 0, 1


@pytest.fixture
def releases(make_episodes) -> Episodes:
    """Decisions 0-2 of a bad release, 3-4 of a good one, 5-6 unlabelled, 7-8 rolled back."""
    minutes = [0.0, 10.0, 13.0, 20.0]
    return make_episodes(
        {
            "phase": ["baseline", "canary", "canary", "canary"],
            "timestamp": [60.0 * minute for minute in minutes],
            "canary_share": [0.0, 0.1, 0.5, 1.0],
            "label": "bad",
        },
        {"step": [0, 1], "timestamp": [None, None], "canary_share": 0.5, "label": "good"},
        {"step": [0, 1], "label": None},
        {"step": [0, 1], "label": "bad", "action": ["CONTINUE", "ROLLBACK"]},
    )


def scored(episodes: Episodes, rolled_back_at: set[int], **options) -> Scores:
    n = int(episodes.canary_offsets[-1])
    actions = np.array([ROLLBACK if at in rolled_back_at else CONTINUE for at in range(n)])
    return score(episodes, actions, Rewards(), **options)


def test_a_bad_release_is_rolled_back_at_the_first_rollback_and_pays_for_the_wait(releases):
    scores = scored(releases, {1, 2})
    assert scores.episode[0] == 0
    assert scores.bad[0]
    assert scores.rolled_back[0]
    # One decision and 13 - 10 minutes after the first canary row; waiting cost 2 * 0.1.
    assert scores.delay_steps[0] == 1
    assert scores.delay_minutes[0] == pytest.approx(3.0)
    assert scores.reward[0] == 100
    assert scores.reward_with_delay[0] == pytest.approx(99.8)


def test_a_rollback_at_the_first_canary_row_has_no_delay_and_no_cost(releases):
    scores = scored(releases, {0})
    assert (scores.delay_steps[0], scores.delay_minutes[0]) == (0, 0)
    assert scores.reward_with_delay[0] == 100


def test_a_missed_release_pays_every_wait_but_the_last(releases):
    scores = scored(releases, set())
    assert not scores.rolled_back[0]
    assert np.isnan([scores.delay_steps[0], scores.delay_minutes[0]]).all()
    assert scores.reward[0] == -200
    # 2 * 0.1 + 2 * 0.5; nothing follows the last CONTINUE.
    assert scores.reward_with_delay[0] == pytest.approx(-201.2)


def test_a_good_release_never_pays_for_waiting(releases):
    kept = scored(releases, set())
    assert (kept.reward[1], kept.reward_with_delay[1]) == (50, 50)
    stopped = scored(releases, {4})
    assert (stopped.reward[1], stopped.reward_with_delay[1]) == (-50, -50)
    assert stopped.rolled_back[1]
    assert stopped.delay_steps[1] == 1
    assert np.isnan(stopped.delay_minutes[1])


def test_unlabelled_episodes_are_not_scored(releases):
    for actions in ({5}, set()):
        scores = scored(releases, actions)
        assert 2 not in scores.episode
        assert scores.n_unlabelled == 1


def test_what_passes_a_logged_rollback_is_censored_and_not_scored(releases):
    passed = scored(releases, set())
    assert passed.episode.tolist() == [0, 1]
    assert passed.n_censored == 1
    for at in (7, 8):
        caught = scored(releases, {at})
        assert caught.episode.tolist() == [0, 1, 3]
        assert caught.n_censored == 0
        assert caught.reward[2] == 100
        # The share is unknown: a wait costs the whole 2.
        assert caught.reward_with_delay[2] == 100 - 2 * (at - 7)


def test_an_unlabelled_logged_rollback_is_unlabelled_and_not_censored(make_episodes):
    episodes = make_episodes({"step": [0, 1], "action": [None, "ROLLBACK"], "label": None})
    scores = scored(episodes, set())
    assert (scores.n_unlabelled, scores.n_censored, len(scores.episode)) == (1, 0, 0)


def test_a_rollback_in_one_release_does_not_end_the_one_before(make_episodes):
    episodes = make_episodes(*[{"step": [0, 1], "label": "bad"}] * 3)
    scores = scored(episodes, {2})
    assert scores.rolled_back.tolist() == [False, True, False]
    np.testing.assert_array_equal(scores.delay_steps, [NAN, 0, NAN])


def test_per_observation_each_canary_row_is_one_decision(releases):
    scores = scored(releases, {1, 3}, per_observation=True)
    # Decision 8 is censored: CONTINUE where the log rolled back.
    assert scores.episode.tolist() == [0, 0, 0, 1, 1, 3]
    assert scores.rolled_back.tolist() == [False, True, False, True, False, False]
    assert scores.reward.tolist() == [-200, 100, -200, -50, 50, -200]
    assert scores.reward_with_delay.tolist() == scores.reward.tolist()
    np.testing.assert_array_equal(scores.delay_steps, [NAN, 0, NAN, 0, NAN, NAN])
    assert scores.n_censored == 1
    assert scores.n_unlabelled == 2


def test_no_step_cost_means_no_difference(releases):
    actions = np.zeros(9, dtype=int)
    scores = score(releases, actions, Rewards(step_cost=0))
    assert scores.reward_with_delay.tolist() == scores.reward.tolist()


def answered(said: str, risk: list[float] | float = 0.5, watching: str = "") -> Answers:
    """Answers in letters, a decision each: C, R, P, and H for a PAUSE that a person must end.

    A letter w in `watching` marks a watch.
    """
    n = len(said)
    watch = [Reason.WATCHING.value * (mark == "w") for mark in watching.ljust(n)]
    return Answers(
        decision=np.array([{"C": CONTINUE, "R": ROLLBACK}.get(x, PAUSED) for x in said]),
        risk=np.broadcast_to(np.array(risk, dtype=float), n),
        reasons=np.array(watch),
        fell_back=np.zeros(n, dtype=bool),
        held=np.array([letter == "H" for letter in said]),
    )


def scored_answers(episodes: Episodes, answers: Answers, rewards=None, **options) -> Scores:
    return score(episodes, answers.actions, rewards or Rewards(), answers=answers, **options)


@pytest.fixture
def bad_and_good(make_episodes) -> Episodes:
    """Decisions 0-3 of a bad release at half the traffic, 4-7 of a good one."""
    columns = {"step": [0, 1, 2, 3], "canary_share": 0.5}
    return make_episodes({**columns, "label": "bad"}, {**columns, "label": "good"})


def test_a_release_is_held_from_the_first_time_that_nothing_decides_it_any_more(bad_and_good):
    scores = scored_answers(bad_and_good, answered("CPHH" + "PPPH"))
    assert scores.held.tolist() == [True, True]
    assert not scores.rolled_back.any()
    assert scores.end.tolist() == [2, 7]
    # A person's time once, and on the bad one two waits at half the traffic until then.
    assert scores.reward.tolist() == [-10, -10]
    assert scores.reward_with_delay.tolist() == [-10 - 2 * 2 * 0.5, -10]
    dear = scored_answers(bad_and_good, answered("CPHH" + "PPPH"), Rewards(held=-35))
    assert dear.reward.tolist() == [-35, -35]


def test_a_later_decision_means_that_nobody_was_held(bad_and_good):
    scores = scored_answers(bad_and_good, answered("HHCR" + "HPHC"))
    assert scores.held.tolist() == [False, False]
    assert scores.rolled_back.tolist() == [True, False]
    assert scores.end.tolist() == [3, 7]
    assert scores.reward.tolist() == [100, 50]
    # A decision in between: it is held from the first time after that.
    again = scored_answers(bad_and_good, answered("HCPH" + "CHPP"))
    assert again.held.tolist() == [True, True]
    assert again.end.tolist() == [3, 5]
    assert again.reward_with_delay.tolist() == [-10 - 3 * 2 * 0.5, -10]


def test_a_pause_that_no_limit_ends_is_no_hold(bad_and_good):
    # The log ends while the policy still waits: it goes on as a CONTINUE does.
    scores = scored_answers(bad_and_good, answered("CPPP" + "PPPP"))
    assert not scores.held.any()
    assert scores.reward.tolist() == [-200, 50]
    assert scores.paused.tolist() == [True, True]


def test_what_is_still_held_where_the_log_rolled_back_is_censored(make_episodes):
    logged = {"step": [0, 1], "label": "bad", "action": ["CONTINUE", "ROLLBACK"]}
    scores = scored_answers(make_episodes(logged, logged), answered("HP" + "HR"))
    # A later observation, which the log does not have, might have decided the first.
    assert scores.episode.tolist() == [1]
    assert scores.held.tolist() == [False]
    assert scores.n_censored == 1


def test_per_observation_each_may_be_held(bad_and_good):
    scores = scored_answers(bad_and_good, answered("HCRP" + "CHHC"), per_observation=True)
    assert scores.held.tolist() == [True, *[False] * 4, True, True, False]
    assert scores.reward.tolist() == [-10, -200, 100, -200, 50, -10, -10, 50]


@pytest.fixture
def rising(make_episodes) -> Episodes:
    """Two bad releases whose traffic rises at the third look, and a good one."""
    columns = {"step": [0, 1, 2, 3], "canary_share": [0.1, 0.1, 0.5, 1.0]}
    return make_episodes(*({**columns, "label": label} for label in ("bad", "bad", "good")))


def test_traffic_that_rose_during_a_watch_is_counted_and_withheld(rising):
    watches = answered("CPPR" + "PCCR" + "CPPC", risk=0.5, watching=" ww " + "w   " + " ww ")
    scores = scored_answers(rising, watches)
    # The second release was watched only while its traffic stayed at 0.1.
    assert scores.share_rose.tolist() == [True, False, True]
    assert scores.reward_with_delay.tolist() == pytest.approx(
        [100 - 2 * (0.1 + 0.1 + 0.5), 100 - 2 * (0.1 + 0.1 + 0.5), 50]
    )
    # At the watch before the rise, decision 1, a ROLLBACK at a risk of 0.5 pays more than a person
    # (25 to -10): it would be the end, after one wait at 0.1.
    assert scores.withheld.tolist() == pytest.approx(
        [100 - 2 * 0.1, 100 - 2 * (0.1 + 0.1 + 0.5), -50]
    )
    # At a risk of 0.26 it pays -11: a person it would be.
    timid = replace(watches, risk=np.full(12, 0.26))
    assert scored_answers(rising, timid).withheld.tolist() == pytest.approx(
        [-10 - 2 * 0.1, 100 - 2 * (0.1 + 0.1 + 0.5), -10]
    )


def test_traffic_that_rises_after_the_end_or_for_another_reason_is_not_counted(rising):
    # Rolled back before the rise; paused for another reason; the last look of a release.
    scores = scored_answers(
        rising, answered("PRPP" + "CPPC" + "CCCP", watching="w ww" + "       w")
    )
    assert scores.share_rose.tolist() == [False, False, False]
    assert scores.withheld.tolist() == scores.reward_with_delay.tolist()


def test_without_answers_nothing_is_held_or_watched(releases):
    scores = scored(releases, {1})
    assert not scores.held.any()
    assert not scores.share_rose.any()
    assert scores.withheld.tolist() == scores.reward_with_delay.tolist()
