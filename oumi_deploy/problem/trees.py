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

"""Sums of decision trees over the state, worked out with numpy alone.

All trees are asked at once, without a walk from root to leaf (Lucchese et al., "QuickScorer",
2015). A node that sends a state to its right rules out the leaves under its left. Over the leaves
from left to right, the first that no node of the tree rules out is the one that the state is in:
the nodes on its path leave it, and each leaf further left is ruled out where the paths part. So
every node is compared with the state, the leaves left over are bits of a number, and the answer is
its lowest bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from oumi_deploy.errors import DeployError

MOST_LEAVES = 64
"""Leaves of a tree: as many as a number has bits."""

_EXPONENT_OF_ONE = 1023
_AT_ONCE = 2_000_000
"""Comparisons of nodes with states that are held in memory at a time."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Binary trees, each with a value for every state, and the outputs that they sum up to.

    A state goes to a node's left if its feature is at most the threshold, or is missing and the
    node sends missing values left. The nodes of a tree stand together, parents before children.

    Attributes:
        n_features: Features of a state.
        output: Output that each tree is added to, int of shape (n_trees,), rising from 0.
        first: First node of each tree, and at last the number of nodes, int (n_trees + 1,).
        feature: Feature that each node looks at, -1 of a leaf, int of shape (n_nodes,).
        threshold: Shape (n_nodes,), finite.
        missing_left: Whether missing values go left, bool of shape (n_nodes,).
        left: Left child of each node, counted from the tree's first, int of shape (n_nodes,).
        right: Right child, likewise.
        value: What each leaf adds, shape (n_nodes,), finite.
    """

    n_features: int
    output: np.ndarray
    first: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def sums(self, features: np.ndarray) -> np.ndarray:
        """Returns each output of states: the trees' values, added up one after the other.

        Args:
            features: Shape (n, n_features), NaN where missing.

        Returns:
            Shape (n, n_outputs).
        """
        at_once = max(1, _AT_ONCE // len(self._quick.threshold))
        if len(features) <= at_once:
            return self._sums(features)
        parts = range(0, len(features), at_once)
        return np.concatenate([self._sums(features[at : at + at_once]) for at in parts])

    def _sums(self, features: np.ndarray) -> np.ndarray:
        quick, n, n_features = self._quick, len(features), self.n_features
        both = np.empty((n, 2 * n_features))
        # A missing value is above all thresholds in the first half, and below all in the second.
        np.fmin(features, np.inf, out=both[:, :n_features])
        np.fmax(features, -np.inf, out=both[:, n_features:])
        goes_right = both.take(quick.at, axis=1) > quick.threshold
        shape = n, len(quick.at) // len(self), len(self)
        ruled_out = np.bitwise_or.reduce((goes_right * quick.rules_out).reshape(shape), axis=1)
        lowest = ~ruled_out & (ruled_out + quick.one)
        # The exponent of a power of two, which stands above the 52 bits of its fraction.
        bit = lowest.astype(np.float64).view(np.int64) >> 52
        return np.add.reduceat(quick.values.take(bit + quick.first_leaf), quick.outputs, axis=1)

    def of_output(self, number: int) -> "Trees":
        """Returns the trees of one output by themselves."""
        begin, end = np.searchsorted(self.output, [number, number + 1])
        nodes = slice(self.first[begin], self.first[end])
        arrays = {name: getattr(self, name)[nodes] for name in NODES}
        first = self.first[begin : end + 1] - self.first[begin]
        return Trees(self.n_features, np.zeros(end - begin, dtype=np.int64), first, **arrays)

    @cached_property
    def _quick(self) -> "_Quick":
        return _Quick.of(self)

    def __len__(self) -> int:
        """Returns the number of trees."""
        return len(self.output)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.output[-1]) + 1

    def as_lists(self) -> list[list[dict[str, Any]]]:
        """Returns the trees of each output as plain values."""
        nodes = {name: getattr(self, name) for name in NODES}
        plain: list[list[dict[str, Any]]] = [[] for _ in range(self.n_outputs)]
        for output, start, end in zip(self.output, self.first[:-1], self.first[1:], strict=True):
            plain[output].append({name: x[start:end].tolist() for name, x in nodes.items()})
        return plain

    @classmethod
    def from_lists(cls, plain: Sequence[Sequence[Mapping[str, Any]]], n_features: int) -> "Trees":
        """Reads what `as_lists` returned.

        Raises:
            DeployError: If they are no trees over so many features.
            KeyError: If an entry is missing.
        """
        numbers = [number for number, trees in enumerate(plain) for _ in trees]
        trees = [tree for trees in plain for tree in trees]
        if set(numbers) != set(range(len(plain))):
            raise DeployError("trees: an output has none")
        if any(len({len(tree[name]) for name in NODES}) > 1 for tree in trees):
            raise DeployError("trees: the lists of one differ in length")
        nodes = {
            name: np.concatenate([np.array(tree[name], dtype=kind) for tree in trees])
            for name, kind in NODES.items()
        }
        first = np.cumsum([0, *(len(tree["feature"]) for tree in trees)])
        found = cls(n_features, np.array(numbers), first, **nodes)
        found.check()
        return found

    def check(self) -> None:
        """Raises DeployError unless every tree is one."""
        if not (np.isfinite(self.threshold).all() and np.isfinite(self.value).all()):
            raise DeployError("trees: a threshold or value is not finite")
        if not ((self.feature >= -1) & (self.feature < self.n_features)).all():
            raise DeployError("trees: a node looks at a feature that the state does not have")
        for start, end in zip(self.first[:-1], self.first[1:], strict=True):
            is_node = self.feature[start:end] >= 0
            children = np.concatenate(
                [self.left[start:end][is_node], self.right[start:end][is_node]]
            )
            parents = np.tile(np.flatnonzero(is_node), 2)
            if (children <= parents).any() or sorted(children) != list(range(1, end - start)):
                raise DeployError("trees: the nodes of one do not hang together")
            if end - start - is_node.sum() > MOST_LEAVES:
                raise DeployError(f"trees: one has more than {MOST_LEAVES} leaves")


NODES: dict[str, type] = {
    "feature": np.int32,
    "threshold": np.float64,
    "missing_left": np.bool_,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
}
"""Arrays of nodes, and their types."""


def together(outputs: Sequence[Trees]) -> Trees:
    """Returns trees of one output each, over the same features, as the outputs of one."""
    lengths = np.concatenate([np.diff(trees.first) for trees in outputs])
    arrays = {name: np.concatenate([getattr(x, name) for x in outputs]) for name in NODES}
    numbers = np.repeat(np.arange(len(outputs)), [len(trees) for trees in outputs])
    first = np.concatenate([[0], np.cumsum(lengths)])
    return Trees(outputs[0].n_features, numbers, first, **arrays)


@dataclass(frozen=True, eq=False)
class _Quick:
    """Trees laid out to be asked at once: the first node of every tree, then the second, ...

    A tree with fewer nodes than others has more of them that rule nothing out.

    Attributes:
        at: Where each comparison finds its value: the feature's place among those in which missing
            is above all thresholds, or among those in which it is below, int (n_comparisons,).
        threshold: Above which a value goes right, shape (n_comparisons,).
        rules_out: Bits of the leaves that it rules out then, unsigned of shape (n_comparisons,).
        one: 1 in the type of `rules_out`.
        first_leaf: Place among `values` of the first leaf of each tree, less the exponent of 1 as
            a floating-point number has it, int of shape (n_trees,).
        values: Values of all leaves.
        outputs: First tree of each output.
    """

    at: np.ndarray
    threshold: np.ndarray
    rules_out: np.ndarray
    one: np.unsignedinteger
    first_leaf: np.ndarray
    values: np.ndarray
    outputs: np.ndarray

    @classmethod
    def of(cls, trees: Trees) -> "_Quick":
        bounds = list(zip(trees.first[:-1].tolist(), trees.first[1:].tolist(), strict=True))
        columns = [getattr(trees, name).tolist() for name in NODES]
        # Half of a binary tree's nodes and one more are leaves.
        n_leaves = (np.diff(trees.first) + 1) // 2
        most = int(n_leaves.max())
        shape = (max(most - 1, 1), len(trees))
        kind = next(t for t in (np.uint16, np.uint32, np.uint64) if most <= np.iinfo(t).bits)
        at, threshold = np.zeros(shape, np.int64), np.full(shape, np.inf)
        rules_out, values = np.zeros(shape, kind), []
        for number, (start, end) in enumerate(bounds):
            feature, limit, missing_left, left, right, value = (x[start:end] for x in columns)
            begins, sizes = _leaves_below(feature, left, right)
            for place, node in enumerate(node for node, of in enumerate(feature) if of >= 0):
                at[place, number] = feature[node] + trees.n_features * missing_left[node]
                threshold[place, number] = limit[node]
                rules_out[place, number] = ((1 << sizes[left[node]]) - 1) << begins[left[node]]
            leaves = [node for node, of in enumerate(feature) if of < 0]
            values += [value[node] for node in sorted(leaves, key=begins.__getitem__)]
        return cls(
            at.reshape(-1),
            threshold.reshape(-1),
            rules_out.reshape(-1),
            kind(1),
            np.cumsum(n_leaves) - n_leaves - _EXPONENT_OF_ONE,
            np.array(values),
            np.searchsorted(trees.output, np.arange(trees.n_outputs)),
        )


def _leaves_below(
    feature: Sequence[int], left: Sequence[int], right: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Returns, of each node, its first leaf, counted from the left, and how many it has."""
    begins, sizes = [0] * len(feature), [1] * len(feature)
    nodes = [node for node, of in enumerate(feature) if of >= 0]
    for node in reversed(nodes):
        sizes[node] = sizes[left[node]] + sizes[right[node]]
    for node in nodes:
        begins[left[node]] = begins[node]
        begins[right[node]] = begins[node] + sizes[left[node]]
    return begins, sizes
