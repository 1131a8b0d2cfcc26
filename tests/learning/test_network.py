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

from itertools import product

import numpy as np
import pytest
import torch

from oumi_deploy.learning.network import FlatNetwork, QEnsemble, QNetwork
from oumi_deploy.policy.qfunctions import NetworkQ
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.state import parse_state

SHAPES = list(product([[], [5], [7, 4, 6]], [False, True]))


def make_network(hidden, dueling, scale=1.0) -> QNetwork:
    torch.manual_seed(3)
    return QNetwork(6, hidden, dueling=dueling, scale=scale).double()


@pytest.mark.parametrize(("hidden", "dueling"), SHAPES)
def test_the_written_out_gradient_is_autograds(hidden, dueling):
    network, twin = make_network(hidden, dueling), make_network(hidden, dueling)
    inputs, error = torch.randn(9, 6).double(), torch.randn(9, 2).double()
    flat = FlatNetwork(network)
    with torch.no_grad():
        q, seen = flat.forward(inputs)
        flat.backward(error, seen)
    expected = twin(inputs)
    (expected * error).sum().backward()
    torch.testing.assert_close(q, expected.detach(), rtol=0, atol=1e-12)
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("hidden", "dueling"), SHAPES)
def test_the_exported_layers_give_the_networks_q_values(hidden, dueling):
    torch.manual_seed(4)
    network = QNetwork(6, hidden, dueling=dueling, scale=200.0)
    encoder = StateEncoder(
        parse_state(["load", "heat", "steps"]), np.zeros(3), np.ones(3), -np.ones(3), np.ones(3)
    )
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[::7, 1] = np.nan
    with torch.no_grad():
        expected = network(torch.from_numpy(encoder.standardise(features))).numpy()
    exported = NetworkQ(network.plain_layers())
    np.testing.assert_allclose(exported.q_values(encoder, features), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("hidden", [[5], [7, 4, 6]])
@pytest.mark.parametrize("dueling", [False, True])
def test_an_ensemble_is_the_mean_of_its_members_and_exports_as_one_network(hidden, dueling):
    torch.manual_seed(5)
    members = [QNetwork(6, hidden, dueling=dueling, scale=200.0) for _ in range(3)]
    encoder = StateEncoder(
        parse_state(["load", "heat", "steps"]), np.zeros(3), np.ones(3), -np.ones(3), np.ones(3)
    )
    features = np.random.default_rng(0).normal(size=(50, 3))
    inputs = torch.from_numpy(encoder.standardise(features))
    ensemble = QEnsemble(members)
    with torch.no_grad():
        expected = sum(member(inputs).numpy() for member in members) / 3
        np.testing.assert_allclose(ensemble(inputs).numpy(), expected, rtol=0, atol=1e-9)
    exported = NetworkQ(ensemble.plain_layers())
    np.testing.assert_allclose(exported.q_values(encoder, features), expected, rtol=0, atol=1e-9)
    assert ensemble.networks() == members


def test_dueling_adds_the_centred_advantages_to_the_value():
    network = QNetwork(1, [], dueling=True, scale=10.0)
    with torch.no_grad():
        network.layers[0].weight.zero_()  # pyright: ignore
        network.layers[0].bias.copy_(torch.tensor([3.0, 5.0, 1.0]))  # pyright: ignore
        # Value 3, advantages 5 and 1, their mean 3: 3 + 2 and 3 - 2, ten times.
        assert network(torch.zeros(1, 1)).tolist() == [[50.0, 10.0]]


def test_the_flat_weights_are_the_networks_own():
    network = make_network([5], dueling=False)
    before = network(torch.ones(1, 6))
    flat = FlatNetwork(network)
    torch.testing.assert_close(network(torch.ones(1, 6)), before)
    flat.values.zero_()
    assert network(torch.ones(1, 6)).tolist() == [[0.0, 0.0]]
    # Loading a checkpoint writes into the same memory.
    network.load_state_dict(make_network([5], dueling=False).state_dict())
    torch.testing.assert_close(flat.forward(torch.ones(1, 6).double())[0], before)
