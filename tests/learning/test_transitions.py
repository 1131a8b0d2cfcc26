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
"""Logged episodes as transitions, worked by hand."""

import numpy as np
import pytest

from oumi_deploy.learning.transitions import make_transitions, p_bad
from oumi_deploy.problem.rewards import Action, Rewards

BAD = {"load": [1.0, 2.0, 3.0], "canary_share": [0.1, 0.5, 1.0], "label": "bad"}
GOOD = {"load": [1.0, 2.0], "canary_share": [0.5, 0.5], "label": "good"}


def test_single_decisions_end_at_once_with_both_outcomes_known(make_episodes):
    t = make_transitions(make_episodes(BAD, GOOD), Rewards(), "single")
    assert len(t) == 5
    assert t.continue_reward.tolist() == [-200, -200, -200, 50, 50]
    assert t.rollback_reward.tolist() == [100, 100, 100, -50, -50]
    assert t.continue_discount.tolist() == [0.0] * 5
    assert t.next_decision.tolist() == [0, 1, 2, 3, 4]
    assert t.learn_continue.all()
    assert t.learn_rollback.all()


def test_sequential_decisions_lead_on_and_cost_by_share_on_bad_releases(make_episodes):
    t = make_transitions(make_episodes(BAD, GOOD), Rewards(), "sequential", discount=0.9)
    # 2 * 0.1 and 2 * 0.5 for waiting; the last row's share costs nothing, it ends there.
    assert t.continue_reward.tolist() == [-0.2, -1.0, -200.0, 0.0, 50.0]
    assert t.continue_discount.tolist() == [0.9, 0.9, 0.0, 0.9, 0.0]
    assert t.next_decision.tolist() == [1, 2, 2, 4, 4]
    assert t.rollback_reward.tolist() == [100, 100, 100, -50, -50]
    assert t.learn_continue.all()
    assert t.learn_rollback.all()


def test_baseline_rows_are_no_decisions(make_episodes):
    episodes = make_episodes(
        {**BAD, "phase": ["baseline", "canary", "canary"]}, {**GOOD, "phase": "canary"}
    )
    t = make_transitions(episodes, Rewards(), "sequential")
    assert t.continue_reward.tolist() == [-1.0, -200.0, 0.0, 50.0]
    assert t.next_decision.tolist() == [1, 1, 3, 3]


def test_an_unknown_share_costs_the_whole_and_a_step_cost_of_0_nothing(make_episodes):
    episodes = make_episodes({**BAD, "canary_share": [None, 0.5, None]})
    assert make_transitions(episodes, Rewards(), "sequential").continue_reward.tolist() == [
        -2.0,
        -1.0,
        -200.0,
    ]
    free = make_transitions(episodes, Rewards(step_cost=0), "sequential")
    assert free.continue_reward.tolist() == [0.0, 0.0, -200.0]


@pytest.mark.parametrize("form", ["single", "sequential"])
def test_continue_at_the_last_row_of_a_logged_rollback_is_not_learnt(make_episodes, form):
    stopped = {**BAD, "action": ["CONTINUE", "PAUSE", "ROLLBACK"]}
    t = make_transitions(make_episodes(stopped, {**GOOD, "action": "CONTINUE"}), Rewards(), form)
    assert t.learn_continue.tolist() == [True, True, False, True, True]
    assert t.learn_rollback.tolist() == [True] * 5
    back, on = Action.ROLLBACK, Action.CONTINUE
    assert t.logged_action.tolist() == [on, on, back, on, on]


def test_without_a_label_only_steps_that_another_follows_teach_at_the_share_of_bad(make_episodes):
    unknown = {**BAD, "label": None}
    episodes = make_episodes(BAD, GOOD, GOOD, GOOD, unknown)
    # One of four labelled episodes is bad.
    assert p_bad(episodes).tolist() == [1, 0, 0, 0, 0.25]
    t = make_transitions(episodes, Rewards(), "sequential")
    mine = slice(9, 12)
    assert t.learn_continue[mine].tolist() == [True, True, False]
    assert t.learn_rollback[mine].tolist() == [False] * 3
    # 0.25 * 2 * 0.1 and 0.25 * 2 * 0.5.
    np.testing.assert_allclose(t.continue_reward[9:11], [-0.05, -0.25])
    assert t.next_decision[mine].tolist() == [10, 11, 11]
    single = make_transitions(episodes, Rewards(), "single")
    assert not single.learn_continue[mine].any()
    assert not single.learn_rollback[mine].any()


def test_episodes_without_any_label_teach_that_waiting_is_free(make_episodes):
    t = make_transitions(make_episodes({**BAD, "label": None}), Rewards(), "sequential")
    np.testing.assert_array_equal(t.continue_reward[:2], [0.0, 0.0])
    assert t.learn_continue.tolist() == [True, True, False]


def test_two_steps_worked_by_hand(make_episodes):
    t = make_transitions(make_episodes(BAD, GOOD), Rewards(), "sequential", 0.5, n_steps=2)
    # Row 0: -0.2 + 0.5 * -1.0, then 0.25 of what follows row 2.
    # Row 1: -1.0 + 0.5 * -200 ends it. Row 2 ends at once. Row 3: 0 + 0.5 * 50. Row 4: 50.
    np.testing.assert_allclose(t.continue_reward, [-0.7, -101.0, -200.0, 25.0, 50.0])
    assert t.continue_discount.tolist() == [0.25, 0.0, 0.0, 0.0, 0.0]
    assert t.next_decision[0] == 2
    assert t.rollback_reward.tolist() == [100, 100, 100, -50, -50]


@pytest.mark.parametrize("n_steps", [3, 4, 10**9])
def test_as_many_steps_as_there_are_is_the_whole_return(make_episodes, n_steps):
    t = make_transitions(make_episodes(BAD, GOOD), Rewards(), "sequential", 0.5, n_steps)
    # Row 0: -0.2 - 0.5 * 1.0 - 0.25 * 200.
    np.testing.assert_allclose(t.continue_reward, [-50.7, -101.0, -200.0, 25.0, 50.0])
    assert t.continue_discount.tolist() == [0.0] * 5


def test_looking_ahead_stops_where_the_next_outcome_is_unknown(make_episodes):
    stopped = {**BAD, "action": ["CONTINUE", "CONTINUE", "ROLLBACK"]}
    unknown = {**BAD, "label": None}
    t = make_transitions(make_episodes(stopped, unknown, GOOD), Rewards(), "sequential", 0.5, 5)
    # Row 0 looks two steps ahead to row 2, whose CONTINUE is censored; row 1 one step.
    np.testing.assert_allclose(t.continue_reward[:2], [-0.7, -1.0])
    assert t.continue_discount[:2].tolist() == [0.25, 0.5]
    assert t.next_decision[:2].tolist() == [2, 2]
    # One of two labelled is bad: half of the cost, and the end of it is never rewarded.
    np.testing.assert_allclose(t.continue_reward[3:5], [-0.35, -0.5])
    assert t.continue_discount[3:5].tolist() == [0.25, 0.5]
    assert t.next_decision[3:5].tolist() == [5, 5]
