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

"""The neural Q-function and its gradient, written out.

For networks this small the bookkeeping of automatic differentiation costs more than the
arithmetic. The chain rule through linear layers and ReLUs is five lines, so it stands here, and
a test holds it against autograd.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import nn


class QNetwork(nn.Module):
    """A multi-layer perceptron with one output an action.

    Dueling (Wang et al., 2016) has a value and the actions' advantages as outputs, on a shared
    trunk: Q(s, a) = V(s) + A(s, a) - mean_b A(s, b).

    Args:
        n_inputs: Length of an encoded state.
        hidden_sizes: Units of each hidden layer.
        n_actions: Number of actions.
        dueling: Whether the outputs are a value and advantages.
        scale: Q-values are the outputs times this, so that the network learns numbers near 1.
    """

    combine: torch.Tensor
    """Outputs to actions, shape (n_outputs, n_actions)."""

    def __init__(
        self,
        n_inputs: int,
        hidden_sizes: Sequence[int],
        n_actions: int = 2,
        dueling: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        sizes = [n_inputs, *hidden_sizes, n_actions + dueling]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.scale = scale
        actions = torch.eye(n_actions)
        advantages = actions - 1.0 / n_actions
        combine = torch.cat([torch.ones(1, n_actions), advantages]) if dueling else actions
        self.register_buffer("combine", combine, persistent=False)

    def networks(self) -> list["QNetwork"]:
        """Returns itself, as an ensemble returns its members."""
        return [self]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns Q-values of shape (n, n_actions) in double precision, inputs (n, n_inputs).

        The doubled precision makes this and the numpy export agree to the last digits shown.
        """
        hidden = inputs.double()
        *before, last = self.linear_layers()
        for layer in before:
            hidden = torch.relu(_double_linear(layer, hidden))
        return _double_linear(last, hidden) @ self.combine.double() * self.scale

    def linear_layers(self) -> list[nn.Linear]:
        """Returns the layers, the first first."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def plain_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (weight, bias) of an equal plain network, dueling and scale folded in.

        Weights are of shape (n_out, n_in), biases of shape (n_out,).
        """
        layers = [
            (
                layer.weight.detach().cpu().double().numpy(),
                layer.bias.detach().cpu().double().numpy(),
            )
            for layer in self.linear_layers()
        ]
        fold = self.combine.cpu().double().numpy().T * self.scale
        weight, bias = layers[-1]
        return [*layers[:-1], (fold @ weight, fold @ bias)]


class QEnsemble(nn.Module):
    """Networks that start from different weights; their mean is the Q-function.

    What they were taught alike they agree on; where each guesses, the mean guesses less than any.

    Args:
        members: The networks, of one architecture and scale, with a hidden layer or more.
    """

    def __init__(self, members: Sequence[QNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.scale = members[0].scale

    def networks(self) -> list[QNetwork]:
        """Returns the members."""
        return [member for member in self.members if isinstance(member, QNetwork)]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns mean Q-values, see `QNetwork.forward`."""
        return torch.stack([member(inputs) for member in self.networks()]).mean(0)

    def plain_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (weight, bias) of one equal plain network: the members side by side."""
        members = [member.plain_layers() for member in self.networks()]
        (first, *between, last), n = list(zip(*members, strict=True)), len(members)
        return [
            (np.concatenate([w for w, _ in first]), np.concatenate([b for _, b in first])),
            *(
                (
                    np.asarray(block_diag(*(w for w, _ in layer))),
                    np.concatenate([b for _, b in layer]),
                )
                for layer in between
            ),
            (
                np.concatenate([w for w, _ in last], axis=1) / n,
                np.mean([b for _, b in last], axis=0),
            ),
        ]


def _double_linear(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(inputs, layer.weight.double(), layer.bias.double())


class FlatNetwork:
    """A network's weights as one vector, with forward and backward passes written out.

    Args:
        network: The network; its parameters become views of `values`, their gradients of `grads`.

    Attributes:
        values: All weights, shape (n_weights,).
        grads: Their gradient, same shape.
    """

    def __init__(self, network: QNetwork):
        parameters = list(network.parameters())
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.grads = torch.zeros_like(self.values)
        at = 0
        for parameter in parameters:
            end = at + parameter.numel()
            parameter.data = self.values[at:end].view_as(parameter)
            parameter.grad = self.grads[at:end].view_as(parameter)
            at = end
        n_outputs, n_actions = network.combine.shape
        self._combine = None if n_outputs == n_actions else network.combine
        self._shapes = [(x.out_features, x.in_features) for x in network.linear_layers()]
        self._layers = self.split(self.values)
        self._slots = self.split(self.grads)
        # Products with few columns are several times slower than the same with few rows.
        self._turned = [
            self.values.new_empty(n_in, n_out) if n_in < n_out else None
            for n_out, n_in in self._shapes
        ]

    def split(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns (weight, bias) views of a vector laid out as `values` is."""
        layers, at = [], 0
        for n_out, n_in in self._shapes:
            weight = flat[at : at + n_out * n_in].view(n_out, n_in)
            at += n_out * n_in
            layers.append((weight, flat[at : at + n_out]))
            at += n_out
        return layers

    def room(self, n_rows: int) -> list[torch.Tensor]:
        """Returns uninitialised memory for the outputs of every layer, each (n_rows, n_out)."""
        return [self.values.new_empty(n_rows, n_out) for n_out, _ in self._shapes]

    def forward(
        self,
        inputs: torch.Tensor,
        layers: Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None,
        room: Sequence[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns scaled Q-values (n, n_actions) and the inputs of every layer.

        Args:
            inputs: Encoded states, shape (n, n_inputs).
            layers: Other weights than the network's own, from `split`.
            room: Memory to write to, from `room`; fresh if None.
        """
        layers = self._layers if layers is None else layers
        room = self.room(len(inputs)) if room is None else room
        seen = [inputs]
        for (weight, bias), output in zip(layers, room, strict=True):
            seen.append(torch.addmm(bias, seen[-1], weight.t(), out=output))
            if len(seen) <= len(layers):
                output.relu_()
        outputs = seen.pop()
        return (outputs if self._combine is None else outputs @ self._combine), seen

    def backward(
        self,
        error: torch.Tensor,
        seen: Sequence[torch.Tensor],
        room: Sequence[torch.Tensor] | None = None,
    ) -> None:
        """Writes the gradient of the weights to `grads`.

        With g = dL/d(output of a layer) and x its input: dL/dW = g^T x, dL/db = sum g,
        dL/dx = g W, and a ReLU passes what was positive.

        Args:
            error: dL/dQ, shape (n, n_actions).
            seen: The inputs of every layer, from `forward`.
            room: Memory to work in, from `room`; fresh if None.
        """
        room = self.room(len(error)) if room is None else room
        gradient = error if self._combine is None else error @ self._combine.t()
        for i in range(len(self._layers) - 1, -1, -1):
            self._write_grads(i, gradient, seen[i])
            if i:
                before = torch.mm(gradient, self._layers[i][0], out=room[i - 1])
                gradient = torch.ops.aten.threshold_backward.grad_input(
                    before, seen[i], 0, grad_input=before
                )

    def _write_grads(self, layer: int, gradient: torch.Tensor, inputs: torch.Tensor) -> None:
        weight_grad, bias_grad = self._slots[layer]
        turned = self._turned[layer]
        if turned is None:
            torch.mm(gradient.t(), inputs, out=weight_grad)
        else:
            weight_grad.copy_(torch.mm(inputs.t(), gradient, out=turned).t())
        torch.sum(gradient, 0, out=bias_grad)
