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

"""Rules of thumb, worked by hand."""

import numpy as np
import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.baselines import checks, rules
from oumi_deploy.evaluation.baselines.fitting import Context, best_setting, some_episodes
from oumi_deploy.evaluation.folds import assign_folds, codes_by
from oumi_deploy.problem.rewards import Action, Rewards

NAN = float("nan")
CONTEXT = Context(Rewards(), ("error_rate",))


@pytest.fixture
def two(make_episodes):
    """Two releases, the second of which reports little."""
    return make_episodes(
        {"error_rate": [0.0, 0.03, 0.0, 0.05, 0.06], "label": "bad"},
        {"error_rate": [0.04, NAN, NAN, NAN, NAN, NAN, 0.04], "label": "good"},
    )


def test_constants_and_thresholds(two):
    assert rules.always(two, Action.ROLLBACK).tolist() == [1] * 12
    assert rules.error_threshold(two, 0.05).tolist() == [0, 0, 0, 1, 1] + [0] * 7
    first, second = [0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0]
    assert rules.patient_check(two).tolist() == first + second


def test_argo_counts_failures_in_total_and_aborts_at_the_fifth_error_in_a_row(two):
    first, second = [0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]
    assert checks.argo_check(two, 0.02, 0).tolist() == first + second
    first, second = [0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1]
    assert checks.argo_check(two, 0.02, 1).tolist() == first + second


def test_failures_in_a_row_start_again_after_a_success_and_after_a_gap(two):
    first, second = [0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0]
    assert checks.consecutive_check(two, 0.02, 2).tolist() == first + second


def test_flagger_counts_a_missing_value_as_failed(two):
    first, second = [0, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1, 1]
    assert checks.flagger_check(two, 0.02, 2).tolist() == first + second


@pytest.mark.parametrize("fit", [checks.fit_argo, checks.fit_consecutive, checks.fit_flagger])
def test_a_fitted_check_tells_a_blip_from_a_fault(make_episodes, fit):
    blip = {"error_rate": [0.0, 0.3, 0.0, 0.0, 0.0], "label": "good"}
    fault = {"error_rate": [0.0, 0.3, 0.3, 0.3, 0.3], "label": "bad"}
    rule = fit(make_episodes(blip, fault), CONTEXT)
    assert rule(make_episodes(blip)).tolist() == [0] * 5
    assert rule(make_episodes(fault)).tolist().index(1) == 2


def test_the_best_threshold_differs_where_waiting_costs(make_episodes):
    """At 0.5 both bad releases are caught late and the good one kept; at 0.1 it is the reverse."""
    bad = {"error_rate": [0.1] * 9 + [0.5], "label": "bad"}
    good = {"error_rate": [0.1] * 10, "label": "good"}
    releases = make_episodes(bad, bad, good)
    # Waiting nine steps costs 9 a bad release: 2 * (100 - 9 * 9) + 50 is below 2 * 100 - 50.
    rewards = Rewards(step_cost=9.0)
    assert 0.1 < rules.best_threshold(releases, rewards) <= 0.5
    assert rules.best_threshold(releases, rewards, "reward_with_delay") == 0.1
    rule = rules.fit_threshold(releases, Context(rewards, ()))
    assert rule(releases).tolist() == [1] * 30


def test_without_a_known_error_rate_no_threshold_rolls_back(make_episodes):
    silent = make_episodes({"step": [0, 1], "label": "good"}, {"step": [0, 1], "label": "bad"})
    assert rules.fit_threshold(silent, CONTEXT)(silent).tolist() == [0] * 4


def test_of_equally_good_settings_the_first_is_taken(make_episodes):
    releases = make_episodes({"error_rate": [0.1, 0.2], "label": "good"})
    tried = [("b", np.zeros(2)), ("a", np.zeros(2)), ("worse", np.ones(2))]
    assert best_setting(releases, tried, Rewards()) == "b"


def test_fitting_to_releases_without_an_outcome_is_refused(make_episodes):
    unlabelled = make_episodes({"error_rate": [0.1], "label": None})
    with pytest.raises(DeployError, match="known outcome; label some"):
        rules.fit_threshold(unlabelled, CONTEXT)


def test_a_sample_is_of_labelled_releases_and_the_same_for_a_seed(make_episodes):
    labels = ["good", "bad", None] * 10
    releases = make_episodes(*({"error_rate": [0.1], "label": label} for label in labels))
    drawn = some_episodes(releases, 8, seed=3)
    assert len(drawn) == 8
    assert set(drawn.labels) <= {0, 1}
    assert drawn.ids.tolist() == some_episodes(releases, 8, seed=3).ids.tolist()
    assert len(some_episodes(releases, 100, seed=3)) == 20


def test_folds_never_tear_a_group_and_refuse_too_many():
    codes = np.array([0, 1, 1, 2, 3, 3])
    folds = assign_folds(codes, 2, seed=0)
    assert folds[1] == folds[2]
    assert folds[4] == folds[5]
    assert sorted(np.unique(assign_folds(codes, 0, seed=0))) == [0, 1, 2, 3]
    with pytest.raises(DeployError, match="allow 2 to 4 folds"):
        assign_folds(codes, 5, seed=0)


def test_releases_are_left_out_by_a_text_column(make_episodes):
    releases = make_episodes(
        {"error_rate": [0.1], "service": "web", "label": "good"},
        {"error_rate": [0.1], "service": "cart", "label": "good"},
        {"error_rate": [0.1], "service": "web", "label": "good"},
    )
    assert codes_by(releases, "service").tolist() == [1, 0, 1]
    with pytest.raises(DeployError, match="--by team"):
        codes_by(releases, "team")
