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

"""The Q-functions as Oumi models: `save_pretrained` writes them, `load_pretrained_weights` reads.

A model made from a config is empty: bins and input size follow from the training split, which
Oumi shows to the trainer alone. The trainer calls `build`; a model loaded from a folder is built.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from oumi.core.models.base_model import BaseModel
from oumi.core.registry import RegistryType, register
from oumi.utils.logging import logger
from torch import nn

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.network import QEnsemble, QNetwork, side_by_side
from oumi_deploy.learning.table import fill_unvisited, keep_order
from oumi_deploy.learning.trees import Boosting
from oumi_deploy.plugin.errors import as_config_error
from oumi_deploy.policy.calibration import read_calibration
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import NetworkQ, QFunction, TableQ, TreesQ
from oumi_deploy.problem.bins import cells, make_edges, table_shape
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import ACTIONS, Rewards
from oumi_deploy.problem.trees import Trees

TABLE_NAME = "deployment:table"
NETWORK_NAME = "deployment:network"
TREES_NAME = "deployment:trees"
# Oumi asks the model hub about every name that could be one of its own; none holds a colon.


class DeploymentModel(BaseModel):
    """What tables, networks and trees have in common: an encoder and where they come from.

    Attributes:
        encoder: Encoder of the state, None until built.
        about: What the policy file says beside encoder and Q-function.
    """

    def __init__(self, kwargs: dict[str, Any], built: Mapping[str, Any] | None):
        super().__init__(**kwargs)
        self.about: dict[str, Any] = {}
        self.encoder: StateEncoder | None = None
        if built is not None:
            try:
                self.encoder = StateEncoder.from_dict(built["encoder"])
                self.about = dict(built["about"])
            except (KeyError, TypeError, ValueError) as error:
                raise DeployError(
                    f"built: {error} is missing or malformed; only a saved model's config has it"
                ) from error

    @property
    def criterion(self) -> Callable:
        """The loss of a temporal difference."""
        return nn.functional.huber_loss

    def describe(self, **about: Any) -> None:
        """Adds to what the policy file says, and to the config that is saved."""
        self.about.update(about)
        if self.encoder is not None:
            self._init_kwargs["built"] = {
                **(self._init_kwargs.get("built") or {}),
                "encoder": self.encoder.as_dict(),
                "about": self.about,
            }

    def require_order(self) -> None:
        """Raises DeployError where the model is one of a release that knew no order of values."""
        if self.encoder is not None and self.encoder.directions is None:
            raise DeployError(
                "the loaded model was made by an earlier release, which let risk fall where a "
                "metric got worse; it can be evaluated, but not trained on: train it anew"
            )

    def made_of(self) -> dict[str, Any]:
        """Returns all but the weights: layers or bins, and the encoder; plain values."""
        return self._init_kwargs

    def q_function(self) -> QFunction:
        """Returns the Q-function as numpy evaluates it."""
        raise NotImplementedError

    def policy(self) -> DeploymentPolicy:
        """Returns the policy that the model is.

        Raises:
            DeployError: If the model was never trained.
        """
        if self.encoder is None or "rewards" not in self.about:
            raise DeployError("the model holds no trained policy; train it with `oumi train`")
        about = {
            "version": 1,
            **self.about,
            "rewards": Rewards(**self.about["rewards"]),
            "calibration": read_calibration(self.about["calibration"]),
        }
        return DeploymentPolicy(encoder=self.encoder, q_function=self.q_function(), **about)


@register(TABLE_NAME, RegistryType.MODEL)
@register("DeploymentQTable", RegistryType.MODEL)
class DeploymentQTable(DeploymentModel):
    """A table of Q-values over the binned state.

    Args:
        bins: Bins of each feature, missing values apart; edges are quantiles of the training
            split.
        edges: Inner edges of single features, by name, instead of quantiles.
        built: What a saved model knows of its training; not for configs.
    """

    def __init__(
        self,
        bins: int = 5,
        edges: Mapping[str, Sequence[float]] | None = None,
        built: Mapping[str, Any] | None = None,
        **unknown: Any,
    ):
        with as_config_error("model.model_kwargs"):
            _refuse(unknown, "bins and edges")
            if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
                raise DeployError(f"bins: {bins!r} is not a whole number of 2 or more")
            plain_edges = _plain_edges(edges or {})
            kwargs: dict[str, Any] = {"bins": bins, "edges": plain_edges, "built": built}
            super().__init__(kwargs, built)
        self.bins, self.fixed_edges = bins, plain_edges
        self.edges = [np.array(e, dtype=np.float64) for e in (built or {}).get("edges", [])]
        self.bounds = _read_bounds(built)
        n_cells = int(np.prod(table_shape(self.edges))) if built else 0
        self.table = nn.Parameter(torch.zeros(n_cells, len(ACTIONS)))
        self.counts = nn.Buffer(torch.zeros(n_cells, len(ACTIONS)))

    def build(self, encoder: StateEncoder, features: np.ndarray, bounds: Bounds) -> None:
        """Makes the table for a state, with edges from the training split's features."""
        self.encoder, self.bounds = encoder, bounds
        self.edges = make_edges(encoder.names, features, self.bins, self.fixed_edges)
        n_cells = int(np.prod(table_shape(self.edges)))
        self.table = nn.Parameter(torch.zeros(n_cells, len(ACTIONS)))
        self.counts = nn.Buffer(torch.zeros(n_cells, len(ACTIONS)))
        self._init_kwargs["built"] = {
            "edges": [inner.tolist() for inner in self.edges],
            "bounds": bounds.as_dict(),
        }
        self.describe()

    def cells(self, features: np.ndarray) -> np.ndarray:
        """Returns the cell of each state, int64 of shape (n,)."""
        return cells(self.edges, features)

    def finish(self) -> None:
        """Fills what was never learnt from its neighbours, and puts all in order, in place."""
        assert self.encoder is not None
        assert self.bounds is not None
        table, counts = self.table.detach().numpy(), self.counts.numpy()
        shape = table_shape(self.edges)
        fill_unvisited(table, counts, shape)
        keep_order(table, counts, shape, self.encoder.signs, self.bounds)

    def forward(self, *, features: torch.Tensor, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Returns Q-values (n, n_actions) of features (n, n_features), NaN where missing."""
        which = self.cells(features.detach().cpu().double().numpy())
        return {"q_values": self.table[torch.from_numpy(which).to(self.table.device)]}

    def q_function(self) -> TableQ:
        """Returns the table as numpy looks it up."""
        table, counts = (x.detach().cpu().double().numpy() for x in (self.table, self.counts))
        return TableQ(self.edges, table, counts)


@register(NETWORK_NAME, RegistryType.MODEL)
@register("DeploymentQNetwork", RegistryType.MODEL)
class DeploymentQNetwork(DeploymentModel):
    """A multi-layer perceptron over the standardised state and its marks.

    Args:
        hidden_sizes: Units of each hidden layer.
        dueling: Without effect, and said to be: a network's outputs are what ROLLBACK is worth and
            its lead, which keeps value and advantage apart already. Old configs have it.
        members: Networks whose mean is the Q-function; more than one steady what few releases
            teach. On `logged` experience only.
        built: What a saved model knows of its training; not for configs.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        dueling: bool = False,
        members: int = 1,
        built: Mapping[str, Any] | None = None,
        **unknown: Any,
    ):
        with as_config_error("model.model_kwargs"):
            _refuse(unknown, "hidden_sizes, dueling and members")
            listed = isinstance(hidden_sizes, Sequence) and not isinstance(hidden_sizes, str)
            sizes = list(hidden_sizes) if listed else []
            if not sizes or not all(type(size) is int and size > 0 for size in sizes):
                raise DeployError(f"hidden_sizes: {hidden_sizes!r} is not a list of sizes above 0")
            if not isinstance(dueling, bool):
                raise DeployError(f"dueling: {dueling!r} is not true or false")
            if type(members) is not int or members < 1:
                raise DeployError(f"members: {members!r} is not a whole number above 0")
            kwargs = {"hidden_sizes": sizes, "dueling": dueling, "members": members}
            super().__init__({**kwargs, "built": built}, built)
        self.hidden_sizes, self.dueling, self.members = sizes, dueling, members
        bounds, scale = _read_bounds(built), (built or {}).get("scale", 1.0)
        self.network: QNetwork | QEnsemble | UnorderedNetwork
        if self.encoder is not None and bounds is None:
            shape = (self.encoder.n_inputs, sizes, len(ACTIONS), dueling, scale)
            self.network = UnorderedNetwork.of(shape, members)
            return
        signs = np.zeros(1) if self.encoder is None else input_signs(self.encoder)
        self.network = self._make_network(signs, bounds or Bounds.of(Rewards(), 1), scale)

    @property
    def ordered(self) -> QNetwork | QEnsemble:
        """The network to train; see `require_order`."""
        assert not isinstance(self.network, UnorderedNetwork)
        return self.network

    def build(self, encoder: StateEncoder, bounds: Bounds, scale: float, seed: int) -> None:
        """Makes the network for a state, with weights drawn from `seed`."""
        self.encoder = encoder
        if self.dueling:
            logger.warning("model_kwargs.dueling has no effect any more: take it out")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self._make_network(input_signs(encoder), bounds, scale)
        self._init_kwargs["built"] = {"scale": scale, "bounds": bounds.as_dict()}
        self.describe()

    def _make_network(
        self, signs: np.ndarray, bounds: Bounds, scale: float
    ) -> QNetwork | QEnsemble:
        networks = [QNetwork(signs, self.hidden_sizes, bounds, scale) for _ in range(self.members)]
        return networks[0] if self.members == 1 else QEnsemble(networks)

    def forward(self, *, features: torch.Tensor, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Returns Q-values (n, n_actions) of features (n, n_features), NaN where missing."""
        if self.encoder is None:
            raise DeployError("the network has no state yet; the trainer builds it")
        inputs = self.encoder.standardise(features.detach().cpu().double().numpy())
        device = next(self.network.parameters()).device
        return {"q_values": self.network(torch.from_numpy(inputs).to(device))}

    def q_function(self) -> NetworkQ:
        """Returns the layers as numpy runs them."""
        bounds = None if isinstance(self.network, UnorderedNetwork) else self.network.bounds
        return NetworkQ(self.network.plain_layers(), bounds)


@register(TREES_NAME, RegistryType.MODEL)
@register("DeploymentTrees", RegistryType.MODEL)
class DeploymentTrees(DeploymentModel):
    """Gradient-boosted trees over the state as it is: of the log odds of "bad", and of the lead.

    Args:
        trees: Trees of each.
        leaves: Leaves of a tree at most.
        learning_rate: Share of the way to its target that each tree goes.
        l2: Weight of the penalty on the leaves' values.
        min_leaf: Decisions that a leaf must hold.
        built: What a saved model knows of its training; not for configs.
    """

    def __init__(
        self,
        trees: int = Boosting.trees,
        leaves: int = Boosting.leaves,
        learning_rate: float = Boosting.learning_rate,
        l2: float = Boosting.l2,
        min_leaf: int = Boosting.min_leaf,
        built: Mapping[str, Any] | None = None,
        **unknown: Any,
    ):
        with as_config_error("model.model_kwargs"):
            _refuse(unknown, ", ".join(f.name for f in fields(Boosting)))
            self.boosting = Boosting(trees, leaves, learning_rate, l2, min_leaf)
            super().__init__({**asdict(self.boosting), "built": built}, built)
        self.bounds = _read_bounds(built)
        # Leaves' values stand for what is learnt; an optimiser needs something to hold.
        self.value = nn.Parameter(torch.zeros(0, dtype=torch.float64))
        for name, kind in _ARRAYS.items():
            self.register_buffer(name, torch.zeros(0, dtype=kind))

    def build(self, encoder: StateEncoder, bounds: Bounds) -> None:
        """Prepares for a state; there is no tree yet."""
        self.encoder, self.bounds = encoder, bounds
        self._init_kwargs["built"] = {"bounds": bounds.as_dict()}
        self.describe()

    @property
    def trees(self) -> Trees | None:
        """The trees, None before the first step."""
        if self.encoder is None or not len(self.value):
            return None
        arrays = {name: x.detach().cpu().numpy() for name, x in self.state_dict().items()}
        return Trees(len(self.encoder.state), **arrays)

    @trees.setter
    def trees(self, trees: Trees) -> None:
        self.load_state_dict(
            {name: torch.from_numpy(getattr(trees, name)) for name in self.state_dict()}
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # How many nodes there are is known when they have been learnt.
        for name, tensor in self.state_dict().items():
            if prefix + name in state_dict:
                empty = torch.empty(state_dict[prefix + name].shape, dtype=tensor.dtype)
                getattr(self, name).data = empty.to(tensor.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, *, features: torch.Tensor, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Returns Q-values (n, n_actions) of features (n, n_features), NaN where missing."""
        if self.encoder is None:
            raise DeployError("the trees have no state yet; the trainer builds them")
        values = features.detach().cpu().double().numpy()
        return {"q_values": torch.from_numpy(self.q_function().q_values(self.encoder, values))}

    def q_function(self) -> TreesQ:
        """Returns the trees as numpy asks them."""
        if self.trees is None or self.bounds is None:
            raise DeployError("the model holds no trees yet; train it with `oumi train`")
        return TreesQ(self.trees, self.bounds)


_ARRAYS = {
    "output": torch.int64,
    "first": torch.int64,
    "feature": torch.int32,
    "threshold": torch.float64,
    "missing_left": torch.bool,
    "left": torch.int32,
    "right": torch.int32,
}
"""Arrays of trees beside their leaves' values, see `problem.trees.Trees`."""


class UnorderedNetwork(nn.Module):
    """The network of a model folder from before Q-values were bounded, to be read, not trained.

    Its outputs are Q-values, or with `dueling` a value and advantages; several networks have their
    mean.
    """

    def __init__(
        self, n_inputs: int, sizes: Sequence[int], n_actions: int, dueling: bool, scale: float
    ):
        super().__init__()
        widths = [n_inputs, *sizes, n_actions + dueling]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.members = nn.ModuleList()
        actions = torch.eye(n_actions)
        advantages = torch.cat([torch.ones(1, n_actions), actions - 1.0 / n_actions])
        self.combine = (advantages if dueling else actions) * scale

    @classmethod
    def of(cls, shape: tuple[Any, ...], members: int) -> "UnorderedNetwork":
        """Returns one network, or one that holds the members."""
        network = cls(*shape)
        if members > 1:
            network.layers = nn.ModuleList()
            network.members.extend(cls(*shape) for _ in range(members))
        return network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns Q-values of shape (n, n_actions) in double precision."""
        hidden = inputs.double().numpy()
        *before, (weight, bias) = self.plain_layers()
        for w, b in before:
            hidden = np.maximum(hidden @ w.T + b, 0.0)
        return torch.from_numpy(hidden @ weight.T + bias)

    def plain_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (weight, bias) of one equal plain network."""
        if not len(self.layers):
            return side_by_side([member.plain_layers() for member in self._members()])
        layers = [
            (x.weight.detach().double().numpy(), x.bias.detach().double().numpy())
            for x in self.layers
            if isinstance(x, nn.Linear)
        ]
        fold, (weight, bias) = self.combine.double().numpy().T, layers[-1]
        return [*layers[:-1], (fold @ weight, fold @ bias)]

    def _members(self) -> list["UnorderedNetwork"]:
        return [member for member in self.members if isinstance(member, UnorderedNetwork)]


def input_signs(encoder: StateEncoder) -> np.ndarray:
    """Returns the sign of each network input: of the values as of the features, of marks 0."""
    return np.concatenate([encoder.signs, np.zeros_like(encoder.signs)])


def _read_bounds(built: Mapping[str, Any] | None) -> Bounds | None:
    plain = (built or {}).get("bounds")
    return None if plain is None else Bounds.from_dict(plain)


def _plain_edges(edges: Any) -> dict[str, list[float]]:
    if not isinstance(edges, Mapping):
        raise DeployError(f"edges: expected features and their edges, got {edges!r}")
    try:
        return {str(name): [float(x) for x in inner] for name, inner in edges.items()}
    except (TypeError, ValueError) as error:
        raise DeployError(f"edges: expected a list of numbers a feature: {error}") from error


def _refuse(unknown: Mapping[str, Any], known: str) -> None:
    if unknown:
        raise DeployError(f"unknown {', '.join(unknown)}; there are {known}")
