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
from typing import Any

import numpy as np
import torch
from oumi.core.models.base_model import BaseModel
from oumi.core.registry import RegistryType, register
from torch import nn

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.network import QEnsemble, QNetwork
from oumi_deploy.plugin.errors import as_config_error
from oumi_deploy.policy.calibration import read_calibration
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import NetworkQ, QFunction, TableQ
from oumi_deploy.problem.bins import cells, make_edges, table_shape
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import ACTIONS, Rewards

TABLE_NAME = "deployment:table"
NETWORK_NAME = "deployment:network"
# Oumi asks the model hub about every name that could be one of its own; none holds a colon.


class DeploymentModel(BaseModel):
    """What the table and the network have in common: an encoder and where they come from.

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
        n_cells = int(np.prod(table_shape(self.edges))) if built else 0
        self.table = nn.Parameter(torch.zeros(n_cells, len(ACTIONS)))
        self.counts = nn.Buffer(torch.zeros(n_cells, len(ACTIONS)))

    def build(self, encoder: StateEncoder, features: np.ndarray) -> None:
        """Makes the table for a state, with edges from the training split's features."""
        self.encoder = encoder
        self.edges = make_edges(encoder.names, features, self.bins, self.fixed_edges)
        n_cells = int(np.prod(table_shape(self.edges)))
        self.table = nn.Parameter(torch.zeros(n_cells, len(ACTIONS)))
        self.counts = nn.Buffer(torch.zeros(n_cells, len(ACTIONS)))
        self._init_kwargs["built"] = {"edges": [inner.tolist() for inner in self.edges]}
        self.describe()

    def cells(self, features: np.ndarray) -> np.ndarray:
        """Returns the cell of each state, int64 of shape (n,)."""
        return cells(self.edges, features)

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
        dueling: Whether the outputs are a value and the actions' advantages.
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
        n_inputs = self.encoder.n_inputs if self.encoder is not None else 1
        self.network = self._make_network(n_inputs, (built or {}).get("scale", 1.0))

    def build(self, encoder: StateEncoder, scale: float, seed: int) -> None:
        """Makes the network for a state, with weights drawn from `seed`."""
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self._make_network(encoder.n_inputs, scale)
        self._init_kwargs["built"] = {"scale": scale}
        self.describe()

    def _make_network(self, n_inputs: int, scale: float) -> QNetwork | QEnsemble:
        shape = (n_inputs, self.hidden_sizes, len(ACTIONS), self.dueling, scale)
        networks = [QNetwork(*shape) for _ in range(self.members)]
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
        return NetworkQ(self.network.plain_layers())


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
