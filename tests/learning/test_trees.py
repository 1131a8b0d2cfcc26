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

"""Fitted Q iteration with trees, against what it must solve, and its order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.transitions import Transitions, make_transitions
from oumi_deploy.learning.trees import Boosting, FittedTrees, as_trees
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.trees import Trees

NAN = float("nan")
REWARDS = Rewards()
EXACT = Boosting(trees=60, leaves=8, learning_rate=0.5, l2=0.0, min_leaf=1)
"""Trees that learn few states by heart."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another take most of the time of fits this small."""
    with threadpool_limits(1, "openmp"):
        yield


@dataclass
class Kept:
    """Keeps the trees, as a model does."""

    trees: Any = None


def learner_of(features, transitions, boosting=EXACT, signs=None, seed=0):
    """Returns a learner and what keeps its trees."""
    bounds, model = Bounds.of(REWARDS, 5), Kept()
    signs = np.zeros(features.shape[1], dtype=int) if signs is None else np.asarray(signs)
    learner = FittedTrees(model, features, transitions, signs, bounds, boosting, REWARDS, seed)
    return learner, model, bounds


def learnt(features, transitions, n_steps, boosting=EXACT, signs=None) -> np.ndarray:
    """Returns Q-values after so many steps, as numpy works them out from the trees."""
    learner, model, bounds = learner_of(features, transitions, boosting, signs)
    for number in range(n_steps):
        learner.step(number, 0.0, 0.0)
    return bounds.q_values(model.trees.sums(features))


@pytest.fixture
def five_releases(make_episodes):
    """Three good and two bad ones of three looks; from the second on, two bad ones show it."""
    good, bad = [0.0, 0.0, 0.0], [0.0, 0.7, 0.9]
    return make_episodes(
        *({"load": good, "label": "good"} for _ in range(3)),
        *({"load": bad, "label": "bad"} for _ in range(2)),
    )


def states_of(episodes) -> np.ndarray:
    return np.stack([episodes.column("load"), episodes.column("step")], axis=1)


def test_q_values_are_those_of_value_iteration_by_hand(five_releases):
    transitions = make_transitions(five_releases, REWARDS, "sequential", discount=0.5)
    q = learnt(states_of(five_releases), transitions, n_steps=4)
    good, bad = q[:3], q[9:12]
    # At the end it is known: 50 or -50 of a good one, -200 or 100 of a bad one.
    np.testing.assert_allclose(good[2], [50, -50], atol=0.5)
    np.testing.assert_allclose(bad[2], [-200, 100], atol=0.5)
    # One look before, too: 0.5 * 50, and -2 + 0.5 * 100 with the step cost.
    np.testing.assert_allclose(good[1], [25, -50], atol=0.5)
    np.testing.assert_allclose(bad[1], [48, 100], atol=0.5)
    # First they look alike: 2 of 5 are bad, so ROLLBACK is worth 40 - 30, and CONTINUE
    # 0.5 * (3/5 * 25 + 2/5 * 100) - 2/5 * 2.
    np.testing.assert_allclose(q[0], [0.5 * 55 - 0.8, 10], atol=0.5)
    np.testing.assert_array_equal(q[0], q[9])


def test_without_anything_that_follows_one_step_is_all(five_releases):
    transitions = make_transitions(five_releases, REWARDS, "single")
    states = states_of(five_releases)
    first, third = (learnt(states, transitions, n_steps=n) for n in (1, 3))
    np.testing.assert_array_equal(first, third)
    # 2 of 5 are bad: 30 - 80, and 40 - 30.
    np.testing.assert_allclose(first[0], [-50, 10], atol=0.5)


def test_unknown_outcomes_are_not_learnt(make_episodes):
    known = [{"load": [0.1], "label": "good"}, {"load": [0.9], "label": "bad"}]
    # Of the first, neither end is known; of the second, CONTINUE is not.
    unknown = [
        {"load": [0.1], "label": None, "action": None},
        {"load": [0.9], "label": "bad", "action": ["ROLLBACK"]},
    ]
    episodes = make_episodes(*known * 3, *unknown * 9)
    transitions = make_transitions(episodes, REWARDS, "sequential")
    q = learnt(episodes.column("load")[:, None], transitions, n_steps=2)
    np.testing.assert_allclose(q[:2], [[50, -50], [-200, 100]], atol=0.5)


def chance_problem(seed: int, n_releases: int = 60) -> tuple[np.ndarray, Transitions]:
    """States with gaps of releases whose failures show in some of three features."""
    random = np.random.default_rng(seed)
    length = 4
    bad = random.random(n_releases) < 0.4
    bad[:2] = [True, False]
    n = n_releases * length
    shown = np.repeat(bad, length) * random.random(n)
    features = random.normal(size=(n, 4)).round(1)
    features[:, 0] += 2 * shown
    features[:, 1] -= shown
    features[random.random(features.shape) < 0.15] = NAN
    at = np.arange(n)
    last = at % length == length - 1
    of = np.repeat(bad, length).astype(int)
    pays = REWARDS.table()[of]
    always = np.ones(n, dtype=bool)
    return features, Transitions(
        continue_reward=np.where(last, pays[:, 0], -1.0 * of),
        continue_discount=np.where(last, 0.0, 0.9),
        next_decision=np.where(last, at, at + 1),
        learn_continue=always,
        rollback_reward=pays[:, 1],
        learn_rollback=always,
        logged_action=np.zeros(n, dtype=np.int64),
    )


@settings(max_examples=8)
@given(st.integers(0, 1000), st.sampled_from([(1, -1, 0, 1), (1, 0, 0, 0), (-1, -1, 1, 1)]))
def test_a_worse_value_lowers_neither_output_whatever_else_is_known(seed, signs):
    features, transitions = chance_problem(seed)
    boosting = Boosting(trees=15, leaves=6, learning_rate=0.3, l2=0.1, min_leaf=3)
    learner, model, bounds = learner_of(features, transitions, boosting, signs)
    for number in range(3):
        learner.step(number, 0.0, 0.0)
    random = np.random.default_rng(seed)
    states = np.concatenate([features, 3 * random.normal(size=(200, 4))])
    worse = states + np.array(signs) * random.exponential(1.0, states.shape) ** 3
    worse = np.where(random.random(states.shape) < 0.5, worse, states)
    worse = np.where(np.array(signs) == 0, states, worse)
    outputs, others = model.trees.sums(states), model.trees.sums(worse)
    assert (others >= outputs).all()
    q, r = bounds.q_values(outputs), bounds.q_values(others)
    assert (r[:, 1] >= q[:, 1]).all()
    assert (r[:, 1] - r[:, 0] >= q[:, 1] - q[:, 0] - 1e-9).all()
    assert (q >= [bounds.going_on[0], bounds.rollback[0]]).all()
    assert (q <= [bounds.going_on[1], bounds.rollback[1]]).all()


def test_a_missing_value_stands_outside_of_the_order(make_episodes):
    """Where a value is missing release after release is good, though low and high ones are."""
    episodes = make_episodes(
        *({"load": [0.1], "label": "good"} for _ in range(10)),
        *({"load": [None], "label": "bad"} for _ in range(10)),
        *({"load": [0.9], "label": "good"} for _ in range(10)),
        *({"load": [2.0], "label": "bad"} for _ in range(10)),
    )
    transitions = make_transitions(episodes, REWARDS, "single")
    q = learnt(episodes.column("load")[:, None], transitions, n_steps=1, signs=[1])
    np.testing.assert_allclose(q[::10, 1], [-50, 100, -50, 100], atol=1)


@given(st.integers(0, 1000), st.integers(2, 20), st.booleans())
@settings(max_examples=15)
def test_plain_arrays_give_what_scikit_learn_does(seed, leaves, is_ordered):
    random = np.random.default_rng(seed)
    features, transitions = chance_problem(seed)
    features[:, 3] = np.where(random.random(len(features)) < 0.5, NAN, 1.0)
    bad = transitions.rollback_reward > 0
    kwargs = {
        "max_iter": 12,
        "max_leaf_nodes": leaves,
        "min_samples_leaf": 3,
        "monotonic_cst": [1, -1, 0, 0] if is_ordered else None,
        "early_stopping": False,
    }
    odds = HistGradientBoostingClassifier(**kwargs).fit(features, bad)
    number = HistGradientBoostingRegressor(**kwargs).fit(features, bad * 300.0 - 100.0)
    states = np.concatenate([features, 5 * random.normal(size=(100, 4)), np.full((1, 4), NAN)])
    # On the edges themselves, where a rounding would be seen.
    edges = as_trees(odds, 4).threshold
    states = np.concatenate([states, np.repeat(edges[abs(edges) < 1e3][:50, None], 4, axis=1)])
    for model, expected in (
        (odds, odds.decision_function(states)),
        (number, number.predict(states)),
    ):
        trees = as_trees(model, 4)
        trees.check()
        np.testing.assert_allclose(trees.sums(states)[:, 0], expected, rtol=1e-12, atol=1e-12)
        again = Trees.from_lists(trees.as_lists(), 4)
        np.testing.assert_array_equal(again.sums(states), trees.sums(states))


def test_a_learner_that_takes_its_state_back_goes_on_exactly(five_releases):
    transitions = make_transitions(five_releases, REWARDS, "sequential", discount=0.9)
    states, boosting = states_of(five_releases), Boosting(trees=5, min_leaf=1)
    whole, kept, _ = learner_of(states, transitions, boosting)
    for number in range(2):
        whole.step(number, 0.0, 0.0)
    resumed, other, _ = learner_of(states, transitions, boosting)
    for name, tensor in resumed.tensors().items():
        tensor.copy_(whole.tensors()[name])
    other.trees = kept.trees
    resumed.restore(whole.state(), 2)
    for number in range(2, 4):
        assert resumed.step(number, 0.0, 0.0) == whole.step(number, 0.0, 0.0)
    np.testing.assert_array_equal(other.trees.value, kept.trees.value)
    np.testing.assert_array_equal(other.trees.threshold, kept.trees.threshold)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"trees": 0}, "trees: 0 is not a whole number of 1 or more"),
        ({"trees": 2.0}, "trees: 2.0 is not a whole number"),
        ({"leaves": 1}, "leaves: 1 is not a whole number of 2 or more"),
        ({"leaves": 65}, "leaves: 65 is more than 64"),
        ({"min_leaf": True}, "min_leaf: True is not a whole number"),
        ({"learning_rate": 0}, "learning_rate: 0 is not above 0 and at most 1"),
        ({"learning_rate": 1.5}, "learning_rate: 1.5 is not above 0"),
        ({"learning_rate": "x"}, "learning_rate: 'x' is not a number"),
        ({"l2": -1}, "l2: -1 is not a number of 0 or more"),
        ({"l2": NAN}, "l2: nan is not a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(settings, says):
    with pytest.raises(DeployError, match=f"^{says}"):
        Boosting(**settings)
