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

"""Models as baselines: what they are fitted to, when they decide, what they refuse."""

import numpy as np
import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.baselines import hindsight, models
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.problem.rewards import Rewards

NAN = float("nan")
CONTEXT = Context(Rewards(), ("error_rate", "error_rate.missing"))
MODELS = (models.logistic_regression, models.gradient_boosting, models.extra_trees)


@pytest.fixture(scope="module")
def releases(make_episodes):
    """A hundred releases in pairs; the bad ones fail from the third observation on."""
    random = np.random.default_rng(0)

    def one(number):
        errors = random.uniform(0, 0.05, 3 + number % 4)
        errors[2:] += 0.5 * (number % 2)
        return {
            "error_rate": errors.tolist(),
            "label": "bad" if number % 2 else "good",
            "group": f"g{number // 2}",
        }

    return make_episodes(*(one(number) for number in range(100)))


def ends(episodes, actions):
    return np.maximum.reduceat(actions, episodes.canary_offsets[:-1])


@pytest.mark.parametrize("make_model", MODELS)
def test_a_model_rolls_back_what_has_begun_to_fail(releases, make_model):
    some, others = np.arange(100) < 80, np.arange(100) >= 80
    rule = models.fit_online(make_model, releases.select(some), CONTEXT)
    held_out = releases.select(others)
    assert ends(held_out, rule(held_out)).tolist() == [0, 1] * 10
    starts = held_out.canary_offsets[:-1]
    assert rule(held_out)[np.concatenate([starts, starts + 1])].max() == 0


@pytest.mark.parametrize("make_model", MODELS)
def test_in_hindsight_the_last_observation_alone_decides(releases, make_model):
    rule = hindsight.fit_hindsight(make_model, releases, CONTEXT)
    actions = rule(releases)
    last = releases.canary_offsets[1:] - 1
    assert actions[last].mean() > 0
    assert np.delete(actions, last).max() == 0


def test_a_rollback_at_the_end_pays_from_a_quarter_on():
    # At p = 1/4 both are worth -12.5: 100/4 - 50*3/4 and -200/4 + 50*3/4.
    assert Rewards().break_even() == 0.25
    assert Rewards(missed_rollback=0.0).break_even() == 0.5


def test_the_rows_of_a_release_weigh_one_together(releases):
    examples = models.examples_of(releases, np.zeros((int(releases.canary_offsets[-1]), 1)))
    sums = np.add.reduceat(examples.weights, releases.canary_offsets[:-1])
    assert sums == pytest.approx(np.ones(100))


def test_no_release_is_judged_by_a_model_that_saw_its_group(releases):
    """The model hands back the labels it saw, by a number that each group has of its own."""

    class ByHeart:
        def fit(self, inputs, bad, sample_weight):
            self.seen = set(inputs[:, 0])
            return self

        def predict_proba(self, inputs):
            known = np.isin(inputs[:, 0], list(self.seen))
            return np.column_stack([~known, known]).astype(float)

    lengths = releases.canary_lengths
    group_of_row = np.repeat(releases.group_codes(), lengths)[:, None]
    examples = models.examples_of(releases, group_of_row)
    risk = models.cross_fitted_risk(lambda seed: ByHeart(), releases, examples, lengths, CONTEXT)
    assert risk.max() == 0


def test_a_missing_value_is_not_a_middling_one(make_episodes):
    """Only silence tells the bad releases; imputed without a mark it could not."""
    random = np.random.default_rng(1)

    def one(number):
        errors = random.uniform(0.1, 0.2, 4).tolist()
        gone = [NAN] * 4 if number % 2 else errors
        return {"error_rate": gone, "label": "bad" if number % 2 else "good"}

    releases = make_episodes(*(one(number) for number in range(40)))
    for make_model in MODELS:
        rule = models.fit_online(make_model, releases, Context(Rewards(), ("error_rate",)))
        assert ends(releases, rule(releases)).tolist() == [0, 1] * 20


def test_what_no_model_can_be_fitted_to_is_refused(releases, make_episodes):
    good = releases.select(releases.labels == 0)
    with pytest.raises(DeployError, match="needs good and bad episodes"):
        models.fit_online(models.logistic_regression, good, CONTEXT)
    pair = make_episodes(
        {"error_rate": [0.1], "label": "bad", "group": "a"},
        {"error_rate": [0.2], "label": "good", "group": "a"},
    )
    with pytest.raises(DeployError, match="at least two groups"):
        models.fit_online(models.logistic_regression, pair, CONTEXT)
    with pytest.raises(DeployError, match="no column latency"):
        models.fit_online(models.logistic_regression, releases, Context(Rewards(), ("latency",)))


def test_the_best_achievable_value_needs_many_labelled_releases(releases):
    said = hindsight.best_achievable(releases, CONTEXT)
    assert isinstance(said, str)
    assert "300 releases" in said
