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

"""The kinds of Q-function as numpy evaluates them, and as the policy file holds them."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.bins import cells, table_shape
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.trees import Trees


class QFunction(Protocol):
    """Q-values of states."""

    def q_values(self, encoder: StateEncoder, features: np.ndarray) -> np.ndarray:
        """Returns Q-values of shape (n, n_actions) for features of shape (n, n_features)."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Returns the Q-function as plain values."""
        ...


@dataclass(frozen=True, eq=False)
class TableQ:
    """Q-values by cell.

    Attributes:
        edges: Inner edges of each feature's bins.
        table: Shape (n_cells, n_actions).
        counts: Decisions that each entry was learnt from, same shape; 0 where it was filled from
            its neighbours.
    """

    edges: Sequence[np.ndarray]
    table: np.ndarray
    counts: np.ndarray

    def q_values(self, encoder: StateEncoder, features: np.ndarray) -> np.ndarray:
        """Looks up the cell of each state."""
        if len(features) == 1:
            cell = self._cell(features[0].tolist())
            return self.table[cell : cell + 1]
        return self.table[cells(self.edges, features)]

    def _cell(self, state: Sequence[float]) -> int:
        """Returns what `cells` does for one state, in a tenth of the time."""
        number = 0
        for inner, size, x in zip(self._plain_edges, table_shape(self.edges), state, strict=True):
            number = number * size + (size - 1 if x != x else bisect_right(inner, x))
        return number

    @cached_property
    def _plain_edges(self) -> list[list[float]]:
        return [inner.tolist() for inner in self.edges]

    def as_dict(self) -> dict[str, Any]:
        """Returns the table as nested lists."""
        return {
            "kind": "table",
            "edges": [inner.tolist() for inner in self.edges],
            "q_values": self.table.tolist(),
            "counts": self.counts.tolist(),
        }


@dataclass(frozen=True, eq=False)
class NetworkQ:
    """A multi-layer perceptron with ReLUs between its layers.

    Attributes:
        layers: (weight, bias) of each, shapes (n_out, n_in) and (n_out,).
        bounds: How its two outputs become Q-values; None where they are Q-values themselves, as in
            policy files of version 1.
    """

    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    bounds: Bounds | None = None

    def q_values(self, encoder: StateEncoder, features: np.ndarray) -> np.ndarray:
        """Standardises the features and runs them through the layers."""
        hidden = encoder.standardise(features).astype(np.float64)
        for weight, bias in self.layers[:-1]:
            hidden = hidden @ weight.T
            hidden += bias
            np.maximum(hidden, 0.0, out=hidden)
        weight, bias = self.layers[-1]
        outputs = hidden @ weight.T + bias
        return outputs if self.bounds is None else self.bounds.q_values(outputs)

    def as_dict(self) -> dict[str, Any]:
        """Returns the layers as nested lists."""
        layers = [{"weight": w.tolist(), "bias": b.tolist()} for w, b in self.layers]
        plain = {"kind": "network", "activation": "relu", "layers": layers}
        return plain if self.bounds is None else {**plain, "bounds": self.bounds.as_dict()}


@dataclass(frozen=True, eq=False)
class TreesQ:
    """Sums of decision trees over the state as it is: log odds, and lead.

    Attributes:
        trees: Trees of the two outputs.
        bounds: How the outputs become Q-values.
    """

    trees: Trees
    bounds: Bounds

    def q_values(self, encoder: StateEncoder, features: np.ndarray) -> np.ndarray:
        """Asks the trees; what lies beyond their outermost thresholds makes no difference."""
        return self.bounds.q_values(self.trees.sums(features))

    def as_dict(self) -> dict[str, Any]:
        """Returns the trees of each output, and of each tree the lists of its nodes."""
        trees = dict(zip(_OUTPUTS, self.trees.as_lists(), strict=True))
        return {"kind": "trees", "bounds": self.bounds.as_dict(), "trees": trees}


_OUTPUTS = "log_odds", "lead"
"""What trees give, as `problem.bounds.Bounds` takes it."""


def q_function_of(plain: Mapping[str, Any], encoder: StateEncoder, n_actions: int) -> QFunction:
    """Reads a Q-function from a policy file.

    Raises:
        DeployError: If it is of an unknown kind, or does not fit the encoder and the actions.
    """
    try:
        if plain["kind"] == "table":
            return _read_table(plain, encoder, n_actions)
        if plain["kind"] == "network":
            return _read_network(plain, encoder, n_actions)
        if plain["kind"] == "trees":
            return _read_trees(plain, encoder)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DeployError):
            raise
        raise DeployError(f"q_function: {error} is missing or malformed") from error
    raise DeployError(f"q_function: unknown kind {plain['kind']!r}")


def _read_table(plain: Mapping[str, Any], encoder: StateEncoder, n_actions: int) -> TableQ:
    edges = [np.array(inner, dtype=np.float64) for inner in plain["edges"]]
    if len(edges) != len(encoder.state):
        raise DeployError("q_function: edges and state differ in length")
    _require_finite(*edges)
    if not all(inner.ndim == 1 and (np.diff(inner) > 0).all() for inner in edges):
        raise DeployError("q_function: edges do not rise")
    shape = (int(np.prod(table_shape(edges))), n_actions)
    table, counts = (np.array(plain[key], dtype=np.float64) for key in ("q_values", "counts"))
    if table.shape != shape or counts.shape != shape:
        raise DeployError(f"q_function: expected {shape[0]} cells of {n_actions} actions")
    _require_finite(table)
    return TableQ(edges, table, counts)


def _read_network(plain: Mapping[str, Any], encoder: StateEncoder, n_actions: int) -> NetworkQ:
    layers = [(np.array(x["weight"], float), np.array(x["bias"], float)) for x in plain["layers"]]
    n_inputs = encoder.n_inputs
    for weight, bias in layers:
        if weight.ndim != 2 or weight.shape[1] != n_inputs or bias.shape != weight.shape[:1]:
            raise DeployError("q_function: the layers' shapes do not follow on one another")
        _require_finite(weight, bias)
        n_inputs = len(weight)
    if not layers or n_inputs != n_actions:
        raise DeployError(f"q_function: the network has {n_inputs} outputs for {n_actions} actions")
    bounds = plain.get("bounds")
    return NetworkQ(layers, None if bounds is None else Bounds.from_dict(bounds))


def _read_trees(plain: Mapping[str, Any], encoder: StateEncoder) -> TreesQ:
    try:
        trees = Trees.from_lists([plain["trees"][name] for name in _OUTPUTS], len(encoder.state))
    except DeployError as error:
        raise DeployError(f"q_function: {error}") from error
    return TreesQ(trees, Bounds.from_dict(plain["bounds"]))


def _require_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise DeployError("q_function: holds a number that is not finite")
