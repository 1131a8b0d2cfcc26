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

"""Sums of trees, asked all at once, are what a walk from root to leaf gives."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.trees import MOST_LEAVES, NODES, Trees, together

NAN = float("nan")
LEAF = {"feature": -1, "threshold": 0.0, "missing_left": False, "left": 0, "right": 0, "value": 0.0}

# Below 0.5 it is 1; else by the second feature, in which missing goes left: 2 up to 3, 4 above.
TREE = [
    {**LEAF, "feature": 0, "threshold": 0.5, "left": 1, "right": 2},
    {**LEAF, "value": 1.0},
    {**LEAF, "feature": 1, "threshold": 3.0, "missing_left": True, "left": 3, "right": 4},
    {**LEAF, "value": 2.0},
    {**LEAF, "value": 4.0},
]


def lists_of(*trees: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: [node[name] for node in tree] for name in NODES} for tree in trees]


def test_a_tree_worked_by_hand():
    trees = Trees.from_lists([lists_of(TREE), lists_of([{**LEAF, "value": -7.0}], TREE)], 2)
    states = np.array(
        [[0.5, 9], [0.6, 3], [0.6, 3.1], [0.6, NAN], [NAN, 3.1], [NAN, NAN], [-1e300, NAN]]
    )
    expected = np.array([1.0, 2, 4, 2, 4, 2, 1])
    np.testing.assert_array_equal(trees.sums(states), np.stack([expected, expected - 7], axis=1))


def chance_tree(random: np.random.Generator, n_leaves: int, n_features: int) -> list[dict]:
    """A tree of any shape: leaves are split one after the other, wherever they stand."""
    nodes = [{**LEAF, "value": float(random.normal())}]
    for _ in range(n_leaves - 1):
        at = random.choice([i for i, node in enumerate(nodes) if node["feature"] < 0])
        edge = float(random.choice([*random.integers(-2, 3, 4), np.finfo(float).max]))
        nodes[at] = {
            **LEAF,
            "feature": int(random.integers(n_features)),
            "threshold": edge,
            "missing_left": bool(random.integers(2)),
            "left": len(nodes),
            "right": len(nodes) + 1,
        }
        nodes += [{**LEAF, "value": float(random.normal())} for _ in range(2)]
    return nodes


def walk(tree: list[dict], state: np.ndarray) -> float:
    node = tree[0]
    while node["feature"] >= 0:
        x = state[node["feature"]]
        is_left = node["missing_left"] if np.isnan(x) else x <= node["threshold"]
        node = tree[node["left" if is_left else "right"]]
    return node["value"]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(
        st.lists(st.integers(1, MOST_LEAVES), min_size=1, max_size=4), min_size=1, max_size=3
    ),
)
def test_all_trees_at_once_are_a_walk_through_each(seed, sizes):
    random, n_features = np.random.default_rng(seed), 3
    plain = [[chance_tree(random, n, n_features) for n in output] for output in sizes]
    trees = Trees.from_lists([lists_of(*output) for output in plain], n_features)
    states = random.integers(-3, 4, (40, n_features)).astype(float)
    states[random.random(states.shape) < 0.3] = NAN
    sums = trees.sums(states)
    expected = [[sum(walk(tree, s) for tree in output) for output in plain] for s in states]
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-12)
    # One by itself is answered as among many, bit by bit.
    np.testing.assert_array_equal(np.concatenate([trees.sums(s[None]) for s in states]), sums)
    again = Trees.from_lists(trees.as_lists(), n_features)
    np.testing.assert_array_equal(again.sums(states), sums)
    alone = together([trees.of_output(number) for number in range(len(sizes))])
    np.testing.assert_array_equal(alone.sums(states), sums)


def test_more_states_than_are_held_at_once_are_answered_alike(monkeypatch):
    trees = Trees.from_lists([lists_of(TREE, TREE)], 2)
    states = np.random.default_rng(0).uniform(-1, 5, (50, 2))
    whole = trees.sums(states)
    monkeypatch.setattr("oumi_deploy.problem.trees._AT_ONCE", 30)
    np.testing.assert_array_equal(trees.sums(states), whole)
    assert trees.sums(states[:0]).shape == (0, 1)


def changed(at: int, **node: Any) -> list[dict[str, Any]]:
    return [{**n, **node} if i == at else n for i, n in enumerate(TREE)]


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (changed(2, feature=2), "a node looks at a feature that the state does not have"),
        (changed(2, feature=-2), "a node looks at a feature that the state does not have"),
        (changed(0, threshold=NAN), "a threshold or value is not finite"),
        (changed(3, value=float("inf")), "a threshold or value is not finite"),
        (changed(2, left=2), "the nodes of one do not hang together"),
        (changed(2, right=3), "the nodes of one do not hang together"),
        (changed(2, right=5), "the nodes of one do not hang together"),
        (changed(2, feature=-1), "the nodes of one do not hang together"),
        ([*TREE, LEAF], "the nodes of one do not hang together"),
        (
            chance_tree(np.random.default_rng(0), MOST_LEAVES + 1, 2),
            f"one has more than {MOST_LEAVES} leaves",
        ),
    ],
)
def test_what_is_no_tree_is_refused(tree, says):
    with pytest.raises(DeployError, match=f"^trees: {re.escape(says)}"):
        Trees.from_lists([lists_of(TREE, tree)], 2)


def test_lists_of_another_length_and_outputs_without_trees_are_refused():
    (plain,) = lists_of(TREE)
    with pytest.raises(DeployError, match=r"^trees: the lists of one differ in length"):
        Trees.from_lists([[{**plain, "value": plain["value"][:-1]}]], 2)
    with pytest.raises(DeployError, match=r"^trees: an output has none"):
        Trees.from_lists([[plain], []], 2)
