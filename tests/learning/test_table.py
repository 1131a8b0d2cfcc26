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
"""Tabular Q-learning, against numbers worked by hand and against value iteration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from oumi_deploy.learning.table import (
    ReplayedTable,
    fill_unvisited,
    keep_order,
    q_learning_update,
)
from oumi_deploy.learning.transitions import Transitions, make_transitions
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.rewards import Rewards


def empty_table(n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((n_cells, 2), np.float32), np.zeros((n_cells, 2), np.float32)


def two_releases(make_episodes) -> Transitions:
    """Decisions 0 and 1 of a bad release, 2 and 3 of a good one; waiting at 0 costs 2."""
    bad, good = {"load": [0.0, 1.0], "label": "bad"}, {"load": [0.0, 1.0], "label": "good"}
    return make_transitions(make_episodes(bad, good), Rewards(), "sequential", discount=0.5)


def test_two_sweeps_worked_by_hand(make_episodes):
    table, counts = empty_table(4)
    # Cell 0: both first decisions. Cell 1: the bad one's last. Cell 2: the good one's last.
    replayed = ReplayedTable(table, counts, np.array([0, 1, 0, 2]), two_releases(make_episodes))
    assert counts.tolist() == [[2, 2], [1, 1], [1, 1], [0, 0]]
    # Targets: cell 0 (-2 + 0) / 2 = -1 and (100 - 50) / 2 = 25; cell 1 -200 and 100; cell 2 50
    # and -50; all Q-values are 0 yet, so that nothing follows.
    assert replayed.sweep(0.5) == pytest.approx((1 + 25 + 200 + 100 + 50 + 50) / 6)
    np.testing.assert_allclose(table, [[-0.5, 12.5], [-100, 50], [25, -25], [0, 0]])
    # Cell 0 continues to cells 1 (best 50) and 2 (best 25): -1 + 0.5 * (50 + 25) / 2 = 17.75.
    error = replayed.sweep(0.5)
    np.testing.assert_allclose(table[0], [-0.5 + (17.75 + 0.5) / 2, 12.5 + 12.5 / 2])
    np.testing.assert_allclose(table[1:], [[-150, 75], [37.5, -37.5], [0, 0]])
    assert error == pytest.approx((18.25 + 12.5 + 100 + 50 + 25 + 25) / 6)


def test_unknown_outcomes_are_not_learnt(make_episodes):
    episodes = make_episodes(
        {"load": [0.0, 1.0], "label": "bad", "action": ["CONTINUE", "ROLLBACK"]},
        {"load": [0.0, 1.0], "label": None, "action": None},
    )
    table, counts = empty_table(4)
    transitions = make_transitions(episodes, Rewards(), "sequential")
    replayed = ReplayedTable(table, counts, np.arange(4), transitions)
    for _ in range(3):
        replayed.sweep(1.0)
    # Decision 1: CONTINUE is censored. 2: only CONTINUE is known. 3: nothing is.
    assert counts.tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    # The known share of bad is 1, so that waiting costs 2 also without a label.
    assert table.tolist() == [[98, 100], [0, 100], [-2, 0], [0, 0]]


def value_iteration(t: Transitions, cells: np.ndarray, n_cells: int) -> np.ndarray:
    """Solves the averaged problem cell by cell, with nothing vectorised."""
    table = np.zeros((n_cells, 2))
    for _ in range(500):
        targets: dict[tuple[int, int], list[float]] = {}
        for i, cell in enumerate(cells):
            following = t.continue_discount[i] * table[cells[t.next_decision[i]]].max()
            if t.learn_continue[i]:
                targets.setdefault((cell, 0), []).append(t.continue_reward[i] + following)
            if t.learn_rollback[i]:
                targets.setdefault((cell, 1), []).append(t.rollback_reward[i])
        for at, values in targets.items():
            table[at] = sum(values) / len(values)
    return table


@settings(max_examples=25)
@given(st.data())
def test_sweeps_converge_to_value_iteration(make_episodes, data):
    label = st.sampled_from(["good", "bad", None])
    episodes = [
        {
            "load": [0.0] * data.draw(st.integers(1, 4)),
            "label": data.draw(label),
            "canary_share": data.draw(st.sampled_from([0.0, 0.5, 1.0])),
        }
        for _ in range(data.draw(st.integers(1, 5)))
    ]
    transitions = make_transitions(make_episodes(*episodes), Rewards(), "sequential", discount=0.9)
    n = len(transitions)
    cells = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    table, counts = empty_table(4)
    replayed = ReplayedTable(table, counts, cells, transitions)
    for _ in range(500):
        replayed.sweep(1.0)
    np.testing.assert_allclose(table, value_iteration(transitions, cells, 4), atol=1e-3)


def test_a_chain_learns_when_to_roll_back(make_episodes):
    # The bad one shows itself at its second observation: wait once there, then act.
    transitions = make_transitions(
        make_episodes(
            {"load": [0.0, 1.0], "label": "bad"},
            *[{"load": [0.0, 2.0], "label": "good"}] * 3,
        ),
        Rewards(),
        "sequential",
    )
    cells = np.array([0, 1, 0, 2, 0, 2, 0, 2])
    table, counts = empty_table(3)
    replayed = ReplayedTable(table, counts, cells, transitions)
    for _ in range(200):
        replayed.sweep(0.5)
    # Cell 0: CONTINUE (-2 + 100 + 3 * 50) / 4 = 62, ROLLBACK (100 - 3 * 50) / 4 = -12.5.
    np.testing.assert_allclose(table, [[62, -12.5], [-200, 100], [50, -50]], atol=1e-4)


def test_the_textbook_update_worked_by_hand():
    table, counts = empty_table(2)
    table[:] = [[1, 2], [10, 30]]
    # 5 + 0.5 * 30 - 1 = 19; half of that is learnt.
    assert q_learning_update(table, counts, 0, 0, 5.0, 1, 0.5, 0.5) == 19.0
    assert table.tolist() == [[10.5, 2], [10, 30]]
    # At the end nothing follows: 100 - 30 = 70.
    assert q_learning_update(table, counts, 1, 1, 100.0, None, 0.1, 0.5) == 70.0
    np.testing.assert_allclose(table, [[10.5, 2], [10, 37]])
    assert counts.tolist() == [[1, 0], [0, 1]]


def test_cells_never_visited_take_the_mean_of_the_nearest_that_were():
    # One feature with bins 0..3 and missing (4). Bins 0 and 3 are known.
    table, counts = empty_table(5)
    table[[0, 3], 0] = [10, 40]
    counts[[0, 3], 0] = 1
    fill_unvisited(table, counts, (5,))
    # Bin 1 is next to 0, bin 2 next to 3; missing is one step from every bin: (10 + 40) / 2.
    assert table[:, 0].tolist() == [10, 10, 40, 40, 25]
    # Nothing is known of the other action: it stays.
    assert table[:, 1].tolist() == [0] * 5


def test_a_known_missing_bin_is_next_to_every_bin():
    table, counts = empty_table(4)
    table[3], counts[3] = 7, 1
    fill_unvisited(table, counts, (4,))
    assert table.tolist() == [[7, 7]] * 4


def test_neighbours_count_along_every_feature_and_known_entries_stay():
    # Bins (2 + missing) x (2 + missing); cell = 3 * first + second.
    table, counts = empty_table(9)
    table[0], counts[0] = 10, 3  # (0, 0)
    table[4], counts[4] = 20, 1  # (1, 1)
    fill_unvisited(table, counts, (3, 3))
    grid = table[:, 0].reshape(3, 3)
    # (0, 1) and (1, 0) touch both; (0, m), (m, 0) touch (0, 0) only, (1, m), (m, 1) (1, 1) only;
    # (m, m) is reached in the second round from the four cells beside it.
    np.testing.assert_allclose(grid, [[10, 15, 10], [15, 20, 20], [10, 20, 15]])


@given(st.data())
def test_filling_never_leaves_the_range_of_what_was_learnt(data):
    shape = tuple(data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=3)))
    n = int(np.prod(shape))
    values = data.draw(st.lists(st.floats(-100, 100, width=32), min_size=n, max_size=n))
    known = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    table = np.zeros((n, 2), np.float32)
    counts = np.zeros((n, 2), np.float32)
    table[:, 1], counts[:, 1] = values, known
    before = table.copy()
    fill_unvisited(table, counts, shape)
    learnt = before[known, 1]
    np.testing.assert_array_equal(table[known, 1], learnt)
    assert (table[:, 1] >= learnt.min() - 1e-4).all()
    assert (table[:, 1] <= learnt.max() + 1e-4).all()


BOUNDS = Bounds(rollback=(-50, 100), going_on=(-220, 100))


def in_order(
    q_rollback: np.ndarray, lead: np.ndarray, counts: np.ndarray, signs: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Q(ROLLBACK) and lead of a table that was put in order, arrays of the shape of the bins."""
    shape = q_rollback.shape
    q = np.stack([q_rollback - lead, q_rollback], axis=-1)
    # In double precision, so that a test can tell the nearest table from one near it.
    table = q.reshape(-1, 2).astype(np.float64)
    both = np.repeat(counts.reshape(-1, 1), 2, axis=1).astype(np.float64)
    keep_order(table, both, shape, np.array(signs), BOUNDS)
    back = table.reshape(*shape, 2)
    return back[..., 1], back[..., 1] - back[..., 0]


def test_a_table_is_put_in_order_worked_by_hand():
    # Bins 0, 1, 2 and missing. 40 of three decisions and 20 of one: (3 * 40 + 20) / 4 = 35.
    q, lead = np.array([10.0, 40.0, 20.0, -30.0]), np.array([0.0, -10.0, 6.0, 50.0])
    counts = np.array([5.0, 3.0, 1.0, 9.0])
    ordered, ordered_lead = in_order(q, lead, counts, [1])
    np.testing.assert_allclose(ordered, [10, 35, 35, -30])
    # The leads 0 of five and -10 of three: -30 / 8 = -3.75.
    np.testing.assert_allclose(ordered_lead, [-3.75, -3.75, 6, 50])
    # Where lower is worse, it is 10 and 40 that stand wrong: (5 * 10 + 3 * 40) / 8 = 21.25.
    np.testing.assert_allclose(in_order(q, lead, counts, [-1])[0], [21.25, 21.25, 20, -30])
    # Without an order all stays.
    np.testing.assert_allclose(in_order(q, lead, counts, [0])[0], q)


values = st.floats(-50, 100)
weights = st.sampled_from([1.0, 2.0, 10.0, 1e4])


@given(st.lists(st.tuples(values, weights), min_size=1, max_size=12), st.sampled_from([1, -1]))
def test_along_one_feature_it_is_isotonic_regression(pairs, sign):
    q, counts = (np.array(x) for x in zip(*pairs, strict=True))
    missing = [7.0]
    lead = 0.4 * q
    ordered, leads = in_order(
        np.append(q, missing), np.append(lead, missing), np.append(counts, 3.0), [sign]
    )
    exact = IsotonicRegression(increasing=sign > 0).fit_transform(
        np.arange(len(q)), q, sample_weight=counts
    )
    np.testing.assert_allclose(ordered, [*exact, 7], atol=1e-6)
    np.testing.assert_allclose(leads, [*(0.4 * exact), 7], atol=1e-6)


def nearest_in_order(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The nearest array that rises along all axes, by the min-max formula over all upper sets.

    x(c) is the largest, over upper sets U with c, of the smallest, over lower sets L with c, of the
    weighted mean over what is in both (Robertson, Wright and Dykstra 1988, 1.4.4).
    """
    where = list(product(*map(range, values.shape)))
    n = len(where)
    above = np.array([[all(np.array(p) <= q) for q in where] for p in where])
    sets = (np.array([bits >> i & 1 for i in range(n)], dtype=bool) for bits in range(1, 2**n))
    upper = [u for u in sets if not (above[u].any(axis=0) & ~u).any()]
    lower = [~u for u in upper if not u.all()] + [np.ones(n, dtype=bool)]
    v, w = values.reshape(-1), weights.reshape(-1)
    return np.array(
        [
            max(
                min(np.average(v[u & d], weights=w[u & d]) for d in lower if d[c])
                for u in upper
                if u[c]
            )
            for c in range(n)
        ]
    ).reshape(values.shape)


@settings(max_examples=20)
@given(st.data())
def test_along_several_features_it_is_the_nearest_table_in_order(data):
    shape = data.draw(st.sampled_from([(2, 3), (3, 3), (2, 2, 2)]))
    n, width = int(np.prod(shape)), tuple(size + 1 for size in shape)
    known = tuple(slice(0, size) for size in shape)
    q, counts = np.zeros(width), np.ones(width)
    q[known] = np.reshape(data.draw(st.lists(values, min_size=n, max_size=n)), shape)
    few = st.sampled_from([1.0, 3.0, 30.0])
    counts[known] = np.reshape(data.draw(st.lists(few, min_size=n, max_size=n)), shape)
    signs = data.draw(st.lists(st.sampled_from([1, -1]), min_size=len(shape), max_size=len(shape)))
    ordered, leads = in_order(q, 0.4 * q, counts, signs)
    turn = tuple(slice(None, None, sign) for sign in signs)
    exact = nearest_in_order(q[known][turn], counts[known][turn])[turn]
    np.testing.assert_allclose(ordered[known], exact, atol=1e-3)
    np.testing.assert_allclose(leads[known], 0.4 * exact, atol=1e-3)


@given(st.data())
def test_whatever_the_counts_a_table_is_in_order_and_within_its_bounds(data):
    shape = tuple(data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=3)))
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    n = int(np.prod(shape))
    table = random.uniform(-400, 300, (n, 2)).astype(np.float32)
    counts = np.where(random.random((n, 2)) < 0.5, 0, 10.0 ** random.integers(0, 6, (n, 2)))
    signs = random.integers(-1, 2, len(shape))
    keep_order(table, counts.astype(np.float32), shape, signs, BOUNDS)
    low, high = np.array([BOUNDS.going_on, BOUNDS.rollback]).T
    assert (table >= low - 1e-4).all()
    assert (table <= high + 1e-4).all()
    q = table.reshape(*shape, 2).astype(np.float64)
    for axis, sign in enumerate(signs):
        # Without the bin of missing values, which is the last.
        known = np.moveaxis(q, axis, 0)[:-1]
        steps = sign * np.diff(known, axis=0)
        assert (steps[..., 1] >= 0).all()
        assert (steps[..., 1] - steps[..., 0] >= -1e-4).all()


def test_what_nothing_was_learnt_of_yields_to_what_was():
    # A cell that was filled in from its neighbours stands against one of a hundred decisions.
    q = np.array([100.0, -20.0, 0.0])
    ordered, _ = in_order(q, 0 * q, np.array([0.0, 100.0, 1.0]), [1])
    np.testing.assert_allclose(ordered[:2], -20, atol=0.2)
