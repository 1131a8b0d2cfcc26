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

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes, concatenate
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.calibrate import calibrate, cross_fit
from oumi_deploy.evaluation.evaluate import policy_answers
from oumi_deploy.evaluation.reliability import end_risk, reliability
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.evaluation.seen_groups import group_digests, of_seen_groups
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import NetworkQ
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards


@pytest.fixture(scope="module")
def make_releases(make_episodes):
    """Releases of one observation whose `load` is their probability of being bad."""

    def make(n: int, seed: int, groups: int | None = None, **columns) -> Episodes:
        random = np.random.default_rng(seed)
        load = random.random(n)
        bad = random.random(n) < load
        return make_episodes(
            *(
                {
                    "load": [load[i]],
                    "label": "bad" if bad[i] else "good",
                    "group": f"{seed}-{i % (groups or n)}",
                    **columns,
                }
                for i in range(n)
            )
        )

    return make


def believer(episodes: Episodes, stretch: float = 1.0) -> DeploymentPolicy:
    """A policy that believes 0.5 + stretch (load - 0.5), linear through its encoder's middle."""
    encoder = replace(
        fit_encoder(["load"], episodes),
        center=np.array([0.5]),
        # asinh(x) is x to one part in a million for x below a thousandth.
        scale=np.array([1000.0]),
        low=np.array([0.0]),
        high=np.array([1.0]),
    )
    slope = 1000.0 * stretch
    # Q(CONTINUE) = 50 - 250 p and Q(ROLLBACK) = 150 p - 50.
    weight, bias = np.array([[-250 * slope, 0], [150 * slope, 0]]), np.array([-75.0, 25.0])
    return DeploymentPolicy(
        encoder,
        NetworkQ([(weight, bias)]),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={"fingerprint": "of others", "group_digests": []},
        metrics={},
    )


def error_of(policy: DeploymentPolicy, episodes: Episodes) -> float:
    answers = policy_answers(policy, episodes)
    scores = score(episodes, answers.actions, policy.rewards, answers=answers)
    held = reliability(end_risk(scores, episodes, answers.risk))
    return held["calibration_error"]["value"]


def test_a_boasting_policy_is_taught_modesty(make_releases):
    held_out, fresh = make_releases(1500, 1), make_releases(1500, 2)
    boaster = believer(held_out, stretch=1.9)
    calibrated = calibrate(boaster, held_out)
    assert calibrated.calibration is not None
    assert calibrated.calibration.slope < 0.7
    assert error_of(calibrated, fresh) < 0.05
    # A rollback pays from a risk of 0.25 on. The boaster believes that of a load of 0.37; once
    # calibrated it rolls back from where it is so.
    load = fresh.column("load")[fresh.canary_rows]
    before = policy_answers(boaster, fresh).actions
    np.testing.assert_array_equal(before, load > 0.5 - 0.25 / 1.9)
    after = policy_answers(calibrated, fresh).actions
    assert after[load > 0.34].all()
    assert not after[load < 0.2].any()


def test_an_honest_policy_is_left_as_it_is(make_releases):
    calibrated = calibrate(believer(make_releases(50, 3)), make_releases(1500, 4))
    assert calibrated.calibration is not None
    assert calibrated.calibration.slope == pytest.approx(1, abs=0.15)
    assert calibrated.calibration.intercept == pytest.approx(0, abs=0.15)
    assert calibrated.calibration.fitted_on["calibration_error"]["value"] < 0.05


def test_with_two_releases_the_prior_holds(make_releases):
    few = make_releases(4, 5)
    few = replace(few, labels=np.array([0, 1, 0, 1], dtype=np.int8))
    calibration = calibrate(believer(few), few).calibration
    assert calibration is not None
    # Four releases against a prior worth one: the map may move, but not run away.
    assert abs(calibration.intercept) < 1.5
    assert 0 < calibration.slope < 3


def test_groups_of_the_training_split_are_left_out(make_releases):
    seen, new = make_releases(100, 6, groups=10), make_releases(400, 7)
    policy = believer(seen)
    policy = replace(policy, training_data={"group_digests": group_digests(seen)})
    both = calibrate(policy, concatenate([seen, new]))
    assert both.calibration is not None
    assert both.calibration.fitted_on["n_left_out_as_trained_on"] == 100
    alone = calibrate(policy, new).calibration
    assert alone is not None
    assert both.calibration.slope == alone.slope
    # What it was fitted on is known again, and only that.
    assert of_seen_groups(both.calibration.fitted_on, new).all()
    assert not of_seen_groups(both.calibration.fitted_on, seen).any()
    with pytest.raises(DeployError, match="100 are of groups that it was trained on"):
        calibrate(policy, seen)


def test_the_training_split_itself_is_known_by_its_fingerprint(make_releases):
    split = make_releases(100, 8)
    policy = replace(believer(split), training_data={"fingerprint": split.fingerprint()})
    with pytest.raises(DeployError, match="trained on"):
        calibrate(policy, split)


def test_what_teaches_nothing_is_refused(make_releases):
    releases = make_releases(200, 9)
    with pytest.raises(DeployError, match="needs good and bad releases"):
        calibrate(believer(releases), releases.select(releases.labels == 0))
    with pytest.raises(DeployError, match="two groups or more, and these are of one"):
        calibrate(believer(releases), make_releases(50, 10, groups=1))
    wrong = replace(releases, labels=1 - releases.labels)
    with pytest.raises(DeployError, match="no worse where the policy expects more of ROLLBACK"):
        calibrate(believer(releases), wrong)
    with pytest.raises(DeployError, match=r"alpha: 2 is not between 0 and 1"):
        calibrate(believer(releases), releases, alpha=2)


def test_unlabelled_releases_are_left_out(make_releases):
    releases = make_releases(300, 11)
    hidden = replace(releases, labels=np.where(np.arange(300) < 100, -1, releases.labels))
    known = releases.select(np.arange(300) >= 100)
    policy = believer(releases)
    one, other = calibrate(policy, hidden).calibration, calibrate(policy, known).calibration
    assert one is not None
    assert other is not None
    assert (one.intercept, one.slope) == (other.intercept, other.slope)


def test_doubt_and_a_bound_are_fitted_on_different_groups(make_releases):
    releases = make_releases(800, 12)
    rules = PauseRules(max_doubt=0.45, pause_fallback="CONTINUE")
    both = calibrate(believer(releases), releases, pauses=rules, alpha=0.05).calibration
    alone = calibrate(believer(releases), releases, pauses=rules).calibration
    assert both is not None
    assert alone is not None
    assert both.slope != alone.slope
    assert both.rollback_from > 0.25


def in_folds(episodes: Episodes, n_folds: int) -> np.ndarray:
    return episodes.group_codes() % n_folds


def test_folds_of_one_policy_give_what_all_of_them_give(make_releases):
    releases = make_releases(300, 13)
    boaster = believer(releases, stretch=1.9)
    rules = PauseRules(range_margin=0.5)
    whole = calibrate(boaster, releases, pauses=rules).calibration
    folded = cross_fit([boaster] * 3, releases, in_folds(releases, 3), rules)
    assert whole is not None
    for name in ("intercept", "slope"):
        assert getattr(folded, name) == pytest.approx(getattr(whole, name), rel=1e-4)
    assert folded.pauses == rules
    assert folded.alpha is None


def test_each_fold_is_asked_of_the_policy_that_never_saw_it(make_releases):
    releases = make_releases(1200, 14)
    folds = in_folds(releases, 2)
    honest, ignorant = believer(releases), believer(releases, stretch=0.0)
    told = cross_fit([honest, honest], releases, folds, PauseRules())
    assert told.slope == pytest.approx(1, abs=0.2)
    # What is not known of a fold shows in the figures, whichever fold it is.
    one = cross_fit([honest, ignorant], releases, folds, PauseRules()).fitted_on["brier"]["value"]
    other = cross_fit([ignorant, honest], releases, folds, PauseRules()).fitted_on["brier"]["value"]
    assert one != other
    assert min(one, other) > told.fitted_on["brier"]["value"] + 0.02
    wrong = believer(releases, stretch=-1.0)
    with pytest.raises(DeployError, match="no worse where the policy expects more of ROLLBACK"):
        cross_fit([wrong, wrong], releases, folds, PauseRules())


def test_a_fold_without_labels_says_nothing(make_releases):
    releases = make_releases(300, 15)
    folds = in_folds(releases, 3)
    hidden = replace(releases, labels=np.where(folds == 1, -1, releases.labels))
    one = cross_fit([believer(releases)] * 3, hidden, folds, PauseRules())
    known = releases.select(folds != 1)
    other = cross_fit([believer(releases)] * 2, known, folds[folds != 1], PauseRules())
    assert (one.intercept, one.slope) == (other.intercept, other.slope)
    counts = {name: one.fitted_on[name] for name in ("n_groups", "n_good", "n_bad", "n_folds")}
    assert counts == {
        **{name: other.fitted_on[name] for name in counts},
        "n_folds": 3,
    }
