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

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.learning.network import FlatNetwork, QEnsemble, QNetwork, to_q_values
from oumi_deploy.policy.qfunctions import NetworkQ
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

SHAPES = [[], [5], [7, 4, 6]]
BOUNDS = Bounds.of(Rewards(), 8)


def make_encoder() -> StateEncoder:
    state = parse_state(["load", "heat", "steps"])
    directions = directions_of(state, {"load": "higher", "heat": "lower"})
    return StateEncoder(state, np.zeros(3), np.ones(3), -np.ones(3), np.ones(3), directions)


SIGNS = np.concatenate([make_encoder().signs, np.zeros(3, dtype=int)])


def make_network(hidden, scale=1.0) -> QNetwork:
    torch.manual_seed(3)
    return QNetwork(SIGNS, hidden, BOUNDS, scale).double()


@pytest.mark.parametrize("hidden", SHAPES)
def test_the_written_out_gradient_is_autograds(hidden):
    network, twin = make_network(hidden), make_network(hidden)
    inputs, error = torch.randn(9, 6).double(), torch.randn(9, 2).double()
    flat = FlatNetwork(network)
    with torch.no_grad():
        outputs, seen = flat.forward(inputs)
        flat.backward(error, seen)
    expected = twin.outputs(inputs)
    (expected * error).sum().backward()
    torch.testing.assert_close(outputs, expected.detach(), rtol=0, atol=1e-12)
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12)


def some_features() -> np.ndarray:
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[::7, 1] = np.nan
    return features


@pytest.mark.parametrize("hidden", SHAPES)
def test_the_exported_layers_give_the_networks_q_values(hidden):
    torch.manual_seed(4)
    network, encoder, features = (
        QNetwork(SIGNS, hidden, BOUNDS, 200.0),
        make_encoder(),
        some_features(),
    )
    with torch.no_grad():
        expected = network(torch.from_numpy(encoder.standardise(features))).numpy()
    exported = NetworkQ(network.plain_layers(), network.bounds)
    np.testing.assert_allclose(exported.q_values(encoder, features), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("hidden", SHAPES[1:])
def test_an_ensemble_has_the_mean_outputs_of_its_members_and_exports_as_one_network(hidden):
    torch.manual_seed(5)
    members = [QNetwork(SIGNS, hidden, BOUNDS, 200.0) for _ in range(3)]
    encoder, features = make_encoder(), some_features()
    inputs = torch.from_numpy(encoder.standardise(features))
    ensemble = QEnsemble(members)
    with torch.no_grad():
        outputs = sum(member.outputs(inputs).numpy() for member in members) / 3
        expected = BOUNDS.q_values(np.asarray(outputs))
        np.testing.assert_allclose(ensemble(inputs).numpy(), expected, rtol=0, atol=1e-9)
    exported = NetworkQ(ensemble.plain_layers(), ensemble.bounds)
    np.testing.assert_allclose(exported.q_values(encoder, features), expected, rtol=0, atol=1e-9)
    assert ensemble.networks() == members


outputs = st.lists(st.tuples(st.floats(-800, 800), st.floats(-1e6, 1e6)), min_size=1, max_size=9)


@given(outputs)
def test_training_and_deciding_make_the_same_q_values_of_outputs(pairs):
    numbers = np.array(pairs)
    np.testing.assert_allclose(
        to_q_values(torch.from_numpy(numbers), BOUNDS).numpy(), BOUNDS.q_values(numbers), atol=1e-9
    )


def test_each_path_from_an_input_has_the_sign_of_the_input():
    network = make_network([7, 4, 6])
    through = np.eye(6)
    for layer, sign in zip(network.linear_layers(), network.signs, strict=True):
        assert (layer.weight.detach() * sign >= 0).all()
        through = np.sign(sign.numpy()) @ through
    # Every path adds up: none cancels another out. Inputs without a sign have free weights.
    n_paths = 7 * 4 * 6
    assert through.tolist() == [[n_paths, -n_paths, 0, 0, 0, 0]] * 2


def test_both_kinds_of_hidden_units_are_there():
    # Rising and falling ones: with one kind alone the outputs would be convex in every input.
    first = make_network([6]).linear_layers()[0].weight.detach()
    assert (first[:, 0] > 0).sum() == (first[:, 0] < 0).sum() == 3


@settings(max_examples=50)
@given(st.integers(0, 999), st.sampled_from(SHAPES), st.floats(0.1, 30))
def test_outputs_rise_with_what_is_worse_whatever_the_weights(seed, hidden, size):
    torch.manual_seed(seed)
    network = QNetwork(SIGNS, hidden, BOUNDS, 200.0)
    with torch.no_grad():
        for layer in network.linear_layers():
            layer.weight *= size
            layer.bias.copy_(size * torch.randn_like(layer.bias))
        inputs = 3 * torch.randn(20, 6)
        worse = inputs + torch.from_numpy(SIGNS) * torch.rand(20, 6)
        more = network.outputs(worse) - network.outputs(inputs)
    assert (more >= -1e-9 * size ** len(hidden)).all()


def test_the_flat_weights_are_the_networks_own():
    network = make_network([5])
    before = network.outputs(torch.ones(1, 6))
    flat = FlatNetwork(network)
    torch.testing.assert_close(network.outputs(torch.ones(1, 6)), before)
    flat.values.zero_()
    assert network.outputs(torch.ones(1, 6)).tolist() == [[0.0, 0.0]]
    # Loading a checkpoint writes into the same memory.
    network.load_state_dict(make_network([5]).state_dict())
    torch.testing.assert_close(flat.forward(torch.ones(1, 6).double())[0], before)
