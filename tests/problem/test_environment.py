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
"""The decision problem as a Gymnasium environment."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.problem.encoder import encode_episodes, fit_encoder
from oumi_deploy.problem.environment import ENVIRONMENT_ID, DeploymentEnvironment
from oumi_deploy.problem.rewards import Action, Rewards

CONTINUE, ROLLBACK = np.int64(Action.CONTINUE), np.int64(Action.ROLLBACK)


@pytest.fixture
def releases(make_episodes) -> Episodes:
    """Three decisions of a bad release, two of a good one, two unlabelled, two censored."""
    return make_episodes(
        {
            "phase": ["baseline", "canary", "canary", "canary"],
            "load": [9.0, 1.0, 2.0, 3.0],
            "canary_share": [0.0, 0.1, 0.5, 1.0],
            "label": "bad",
        },
        {"load": [4.0, 5.0], "label": "good", "canary_share": 0.5, "phase": "canary"},
        {"load": [6.0, 7.0], "label": None, "phase": "canary"},
        {"load": [8.0, 9.0], "label": "bad", "action": ["CONTINUE", "ROLLBACK"], "phase": "canary"},
    )


def environment_of(episodes: Episodes, form: str = "sequential", **options):
    return DeploymentEnvironment(episodes, fit_encoder(["load"], episodes), form, **options)


def play(environment, episode: int, *actions) -> list[tuple[float, bool, bool]]:
    """Plays one release and returns reward, terminated and truncated of each step."""
    environment.reset(options={"episode": episode})
    return [environment.step(action)[1:4] for action in actions]


@pytest.mark.parametrize("form", ["single", "sequential"])
def test_the_environment_passes_gymnasium_s_own_check_without_a_warning(releases, form):
    # Gymnasium's check does not expect an episode that is truncated at its first step.
    releases = releases.select(~releases.rolled_back)
    encoder = fit_encoder(["load"], releases)
    made = gymnasium.make(ENVIRONMENT_ID, episodes=releases, encoder=encoder, form=form)
    assert isinstance(made.unwrapped, DeploymentEnvironment)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made.unwrapped, skip_render_check=True)
    made.reset(seed=0)
    assert made.step(ROLLBACK)[2]


def test_gymnasium_makes_the_environment_in_a_process_that_imported_nothing_of_ours():
    script = (
        "import gymnasium\n"
        "name = 'oumi_deploy.problem.environment:oumi_deploy/Deployment-v1'\n"
        "environment = gymnasium.make(name)\n"
        "first, _ = environment.reset(seed=3)\n"
        "again, _ = environment.reset(seed=3)\n"
        "assert (first == again).all() and first.shape == (8,)\n"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("action", [2, -1])
def test_what_is_no_action_is_refused(releases, action):
    environment = environment_of(releases)
    environment.reset(seed=0)
    with pytest.raises(DeployError, match="is not 0"):
        environment.step(np.int64(action))


@pytest.mark.parametrize("options", [{"episode": "x"}, {"episode": 1.5}, {"episod": 0}])
def test_options_that_are_none_are_refused(releases, options):
    with pytest.raises(DeployError, match="options"):
        environment_of(releases).reset(options=options)


def test_a_bad_release_costs_by_the_share_of_each_row_waited_at(releases):
    environment = environment_of(releases)
    # Waiting at shares 0.1 and 0.5 costs 2 * 0.1 and 2 * 0.5; the last CONTINUE ends it.
    assert play(environment, 0, CONTINUE, CONTINUE, CONTINUE) == [
        (-0.2, False, False),
        (-1.0, False, False),
        (-200.0, True, False),
    ]
    assert play(environment, 0, CONTINUE, ROLLBACK) == [(-0.2, False, False), (100.0, True, False)]


def test_a_good_release_waits_for_nothing(releases):
    environment = environment_of(releases)
    assert play(environment, 1, CONTINUE, CONTINUE) == [(0.0, False, False), (50.0, True, False)]
    assert play(environment, 1, ROLLBACK) == [(-50.0, True, False)]


def test_where_the_log_ends_in_rollback_its_last_continue_is_truncated_and_pays_nothing(releases):
    environment = environment_of(releases)
    # Its share is unknown, so waiting costs the whole 2.
    assert play(environment, 2, CONTINUE, CONTINUE) == [(-2.0, False, False), (0.0, False, True)]
    assert play(environment, 2, CONTINUE, ROLLBACK) == [(-2.0, False, False), (100.0, True, False)]


def test_each_single_decision_pays_from_the_table(releases):
    environment = environment_of(releases, "single")
    # Decisions 0..2 of the bad release, 3 and 4 of the good one, 5 and 6 of the other bad one.
    assert environment.n_starts == 7
    on_continue = [play(environment, start, CONTINUE)[0] for start in range(7)]
    assert [reward for reward, _, _ in on_continue] == [-200, -200, -200, 50, 50, -200, 0]
    assert [terminated for _, terminated, _ in on_continue] == [True] * 6 + [False]
    assert [truncated for _, _, truncated in on_continue] == [False] * 6 + [True]
    on_rollback = [play(environment, start, ROLLBACK)[0] for start in range(7)]
    assert [reward for reward, _, _ in on_rollback] == [100, 100, 100, -50, -50, 100, 100]
    assert all(terminated for _, terminated, _ in on_rollback)


def test_the_rewards_of_the_config_are_paid(releases):
    environment = environment_of(releases, rewards=Rewards(7, 5, -9, -3, step_cost=0))
    assert play(environment, 0, CONTINUE, ROLLBACK) == [(0.0, False, False), (7.0, True, False)]
    assert play(environment, 0, CONTINUE, CONTINUE, CONTINUE)[-1] == (-9.0, True, False)
    assert play(environment, 1, CONTINUE, CONTINUE)[-1] == (5.0, True, False)
    assert play(environment, 1, ROLLBACK) == [(-3.0, True, False)]


def test_writing_to_an_observation_changes_nothing_later(releases):
    environment = environment_of(releases)
    first, _ = environment.reset(options={"episode": 0})
    kept = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(environment.reset(options={"episode": 0})[0], kept)


def test_a_rollout_starts_at_the_first_canary_row_and_shows_each_in_turn(releases):
    environment = environment_of(releases)
    state, info = environment.reset(options={"episode": 0})
    assert info == {"episode_id": "e0", "decision": 0}
    seen = [state]
    seen += [environment.step(CONTINUE)[0] for _ in range(2)]
    loads = np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_array_equal(np.array(seen), environment.encoder.standardise(loads))
    assert environment.features[environment.decision].tolist() == [3.0]


def test_baseline_rows_reach_the_encoder(releases):
    encoder = fit_encoder(["load.baseline"], releases)
    environment = DeploymentEnvironment(releases, encoder)
    # The baseline of e0 is 9; the other releases have none.
    np.testing.assert_array_equal(environment.features[:, 0], [-8, -7, -6] + [np.nan] * 4)


def test_statistics_come_from_the_encoder_that_was_fitted_to_the_training_split(releases):
    encoder = fit_encoder(["load"], releases.select(np.array([0])))
    environment = DeploymentEnvironment(releases, encoder)
    assert encoder.center.tolist() == [2.0]
    expected = encoder.standardise(encode_episodes(encoder.state, environment.episodes))
    np.testing.assert_array_equal(environment.inputs, expected)


def test_unlabelled_releases_are_left_out(releases):
    environment = environment_of(releases)
    assert environment.episodes.ids.tolist() == ["e0", "e1", "e3"]
    assert environment.n_starts == 3
    with pytest.raises(DeployError, match="needs labelled episodes"):
        DeploymentEnvironment(releases.select(np.array([2])), fit_encoder(["load"], releases))


def visits(environment, n: int, seed: int | None = None) -> list[str]:
    names = [environment.reset(seed=seed)[1]["episode_id"]]
    return names + [environment.reset()[1]["episode_id"] for _ in range(n - 1)]


def test_each_pass_visits_every_release_once(make_episodes):
    episodes = make_episodes(*[{"load": [1.0], "label": "bad"}] * 9)
    in_order = environment_of(episodes, shuffle=False)
    assert visits(in_order, 18) == [f"e{i}" for i in range(9)] * 2
    shuffled = environment_of(episodes)
    order = visits(shuffled, 18, seed=3)
    assert sorted(order[:9]) == sorted(order[9:]) == [f"e{i}" for i in range(9)]
    assert order[:9] != order[9:]
    assert visits(shuffled, 18, seed=3) == order
    assert visits(environment_of(episodes), 18, seed=4) != order


def test_visiting_goes_on_where_the_queue_was_saved(make_episodes):
    episodes = make_episodes(*[{"load": [1.0], "label": "bad"}] * 9)
    environment = environment_of(episodes)
    visits(environment, 4, seed=5)
    state = environment.queue_state()
    expected = visits(environment, 20)
    resumed = environment_of(episodes)
    resumed.reset(seed=99)
    resumed.restore_queue(state)
    assert visits(resumed, 20) == expected


def test_a_form_or_release_that_is_not_there_is_refused(releases):
    with pytest.raises(DeployError, match="form: 'both' is not one of single, sequential"):
        environment_of(releases, "both")
    with pytest.raises(DeployError, match=r"options\.episode: 3 is not in 0\.\.2"):
        environment_of(releases).reset(options={"episode": 3})
