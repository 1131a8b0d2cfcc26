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

from oumi_deploy.problem.bounds import Bounds

N_OUTPUTS = 2
"""Log odds, and lead."""


class QNetwork(nn.Module):
    """A multi-layer perceptron that never finds a release less bad where a metric gets worse.

    Its two outputs are the log odds of the belief that the release is bad and the lead of ROLLBACK,
    from which `problem.bounds.Bounds` makes Q-values. They rise with every input of sign 1, and
    fall with every input of sign -1, because each path from such an input does: half of the hidden
    units have the sign 1 and half -1, and a weight between two of them has the sign of their
    product (after Daniels and Velikova 2010; the two signs give both convex and concave units, as
    in Runje and Shankaranarayana 2023). Inputs of sign 0 enter the first layer freely.

    Args:
        signs: Sign of each input, int of shape (n_inputs,).
        hidden_sizes: Units of each hidden layer.
        bounds: How the outputs become Q-values.
        scale: Leads are the second output times this, so that the network learns numbers near 1.
    """

    def __init__(
        self, signs: np.ndarray, hidden_sizes: Sequence[int], bounds: Bounds, scale: float = 1.0
    ):
        super().__init__()
        sizes = [len(signs), *hidden_sizes, N_OUTPUTS]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.bounds, self.scale = bounds, scale
        self.signs = [_signs_of_weights(*pair) for pair in pairwise(_unit_signs(signs, sizes))]
        with torch.no_grad():
            for layer, sign in zip(self.linear_layers(), self.signs, strict=True):
                layer.weight.copy_(torch.where(sign == 0, layer.weight, sign * layer.weight.abs()))

    def networks(self) -> list["QNetwork"]:
        """Returns itself, as an ensemble returns its members."""
        return [self]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns Q-values of shape (n, n_actions) in double precision, inputs (n, n_inputs).

        The doubled precision makes this and the numpy export agree to the last digits shown.
        """
        return to_q_values(self.outputs(inputs), self.bounds)

    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns log odds and leads in double precision, shape (n, 2), inputs (n, n_inputs)."""
        hidden = inputs.double()
        *before, last = self.linear_layers()
        for layer in before:
            hidden = torch.relu(_double_linear(layer, hidden))
        return _double_linear(last, hidden) * hidden.new_tensor([1.0, self.scale])

    def linear_layers(self) -> list[nn.Linear]:
        """Returns the layers, the first first."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def plain_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (weight, bias) of an equal plain network, the scale folded in.

        Weights are of shape (n_out, n_in), biases of shape (n_out,).
        """
        layers = [
            (
                layer.weight.detach().cpu().double().numpy(),
                layer.bias.detach().cpu().double().numpy(),
            )
            for layer in self.linear_layers()
        ]
        fold = np.array([1.0, self.scale])
        weight, bias = layers[-1]
        return [*layers[:-1], (fold[:, None] * weight, fold * bias)]


def _unit_signs(signs: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Returns the sign of every unit: of inputs as given, of hidden ones in turn, of outputs 1."""
    hidden = [np.where(np.arange(size) % 2, -1, 1) for size in sizes[1:-1]]
    return [np.asarray(signs), *hidden, np.ones(sizes[-1], dtype=int)]


def _signs_of_weights(of_inputs: np.ndarray, of_outputs: np.ndarray) -> torch.Tensor:
    """Returns the sign that each weight must have, 0 where it may have any, (n_out, n_in)."""
    return torch.from_numpy(np.outer(of_outputs, of_inputs).astype(np.float32))


def to_q_values(outputs: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Returns Q-values from log odds and leads, as `Bounds.q_values` does in numpy."""
    unnecessary, correct = bounds.rollback
    q_rollback = unnecessary + (correct - unnecessary) * torch.sigmoid(outputs[:, 0])
    q_continue = (q_rollback - outputs[:, 1]).clamp(*bounds.going_on)
    return torch.stack([q_continue, q_rollback], dim=1)


class QEnsemble(nn.Module):
    """Networks that start from different weights; the Q-function has their mean outputs.

    What they were taught alike they agree on; where each guesses, the mean guesses less than any.

    Args:
        members: The networks, of one architecture, scale and bounds, with a hidden layer or more.
    """

    def __init__(self, members: Sequence[QNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.scale, self.bounds = members[0].scale, members[0].bounds

    def networks(self) -> list[QNetwork]:
        """Returns the members."""
        return [member for member in self.members if isinstance(member, QNetwork)]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the Q-values of the mean outputs, see `QNetwork.forward`."""
        outputs = torch.stack([member.outputs(inputs) for member in self.networks()]).mean(0)
        return to_q_values(outputs, self.bounds)

    def plain_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (weight, bias) of one equal plain network: the members side by side."""
        return side_by_side([member.plain_layers() for member in self.networks()])


def side_by_side(
    members: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the layers, (weight, bias) each, of one network with the members' mean outputs."""
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
        low: Least value that each weight may have, same shape.
        high: Greatest value that each weight may have, same shape.
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
        self._shapes = [(x.out_features, x.in_features) for x in network.linear_layers()]
        self._layers = self.split(self.values)
        self._slots = self.split(self.grads)
        self.low, self.high = (
            torch.full_like(self.values, -torch.inf),
            self.values.new_full(self.values.shape, torch.inf),
        )
        for bound, wrong_side in ((self.low, 1), (self.high, -1)):
            for (weight, _), sign in zip(self.split(bound), network.signs, strict=True):
                weight[sign.to(weight.device) == wrong_side] = 0.0
        # Products with few columns are several times slower than the same with few rows.
        self._turned = [
            self.values.new_empty(n_in, n_out) if n_in < n_out else None
            for n_out, n_in in self._shapes
        ]

    def keep_signs(self) -> None:
        """Moves each weight of the wrong sign to 0, the nearest value that it may have."""
        torch.clamp(self.values, min=self.low, max=self.high, out=self.values)

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
        """Returns log odds and scaled leads, shape (n, 2), and the inputs of every layer.

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
        return outputs, seen

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
            error: dL/d(outputs), shape (n, 2).
            seen: The inputs of every layer, from `forward`.
            room: Memory to work in, from `room`; fresh if None.
        """
        room = self.room(len(error)) if room is None else room
        gradient = error
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
