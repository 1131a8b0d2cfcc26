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
"""Settings: a misspelt or impossible one is refused by name."""

from dataclasses import fields

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.learning.settings import AlgorithmSettings, read_settings
from oumi_deploy.problem.rewards import Rewards

ENVIRONMENT = {"experience": "environment"}


def test_nothing_set_is_the_documented_default():
    settings = read_settings({}, network=True)
    assert settings == AlgorithmSettings()
    assert settings.state == ("error_rate", "memory_usage", "cpu_usage", "health_score")
    assert (settings.form, settings.experience) == ("sequential", "logged")
    assert (settings.discount, settings.n_steps, settings.cql_weight) == (1.0, 1, 0.0)
    assert settings.rewards == Rewards(100, 50, -200, -50, 2, held=-10)
    assert settings.directions == {}


def test_values_arrive_in_their_own_types():
    settings = read_settings(
        {
            "state": ["error_rate", "error_rate.max", "steps"],
            "rewards": {"missed_rollback": -500, "step_cost": 0, "held": -20},
            "directions": {"error_rate": "either"},
            "discount": 1,
            "n_steps": 3.0,
            "double": False,
        },
        network=True,
    )
    assert settings.state == ("error_rate", "error_rate.max", "steps")
    assert settings.rewards == Rewards(missed_rollback=-500, step_cost=0, held=-20)
    assert settings.directions == {"error_rate": "either"}
    assert isinstance(settings.discount, float)
    assert isinstance(settings.n_steps, int)
    assert settings.n_steps == 3
    assert settings.double is False


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"discuont": 0.9}, "unknown setting discuont: did you mean discount?"),
        ({"xyz": 1}, "unknown setting xyz: there are form, experience, state"),
        ({"rewards": {"step_costs": 1}}, r"unknown setting rewards\.step_costs: did you mean step"),
        ({"rewards": 5}, "rewards: expected names and numbers, got 5"),
        ({"rewards": {"step_cost": "2"}}, r"rewards\.step_cost: '2' is not a number"),
        ({"rewards": {"step_cost": -2}}, r"rewards\.step_cost: -2 must be 0 or more"),
        ({"form": "both"}, "form: 'both' is not one of single, sequential"),
        ({"experience": None}, "experience: None is not one of logged, environment"),
        ({"loss": ["huber"]}, r"loss: \['huber'\] is not one of huber, squared"),
        ({"state": "error_rate"}, "state: expected a list, got 'error_rate'"),
        ({"state": 3}, "state: expected a list, got 3"),
        ({"state": ["label"]}, "state: label cannot be state"),
        ({"directions": "higher"}, "directions: expected names and their values"),
        ({"directions": {"queue": "higher"}}, "directions: the state has no metric queue: there"),
        ({"directions": {"eror_rate": "higher"}}, "directions: .* did you mean error_rate"),
        (
            {"directions": {"error_rate": "up"}},
            r"directions\.error_rate: 'up' is not one of higher, lower, either",
        ),
        (
            {"directions": {"error_rate": ["higher"]}},
            r"directions\.error_rate: \['higher'\] is not",
        ),
        ({"discount": "0.9"}, "discount: '0.9' is not a number"),
        ({"discount": True}, "discount: True is not a number"),
        ({"double": 1}, "double: 1 is not true or false"),
        ({"n_steps": 1.5}, "n_steps: 1.5 is not a whole number"),
        ({"n_steps": float("inf")}, "n_steps: inf is not a whole number"),
        ({"n_steps": float("nan")}, "n_steps: nan is not a whole number"),
        ({"target_update_steps": "ten"}, "target_update_steps: 'ten' is not a whole number"),
    ],
)
def test_a_misspelt_name_or_wrong_type_is_refused_by_name(plain, says):
    with pytest.raises(DeployError, match=f"^{says}"):
        read_settings(plain, network=True)


@pytest.mark.parametrize(
    ("name", "value", "says", "others"),
    [
        ("discount", 1.01, r"1\.01 is not 0\.\.1", {}),
        ("discount", -0.1, r"-0\.1 is not 0\.\.1", {}),
        ("discount", float("nan"), r"nan is not 0\.\.1", {}),
        ("n_steps", 0, "0 is not 1 or more", {}),
        ("target_update_steps", 0, "0 is not 1 or more", {}),
        ("target_tau", 0.0, r"0 is not above 0\.\.1", {"target_network": "soft"}),
        ("target_tau", 1.5, r"1\.5 is not above 0\.\.1", {"target_network": "soft"}),
        ("huber_delta", 0, "0 is not above 0 or more", {}),
        ("huber_delta", float("inf"), "inf is not above 0 or more", {}),
        ("cql_weight", -1, "-1 is not 0 or more", {}),
        ("epsilon_start", 1.1, r"1\.1 is not 0\.\.1", ENVIRONMENT),
        ("epsilon_end", -1, r"-1 is not 0\.\.1", ENVIRONMENT),
        ("epsilon_decay", 2, r"2 is not 0\.\.1", ENVIRONMENT),
        ("replay_size", 0, "0 is not 1 or more", ENVIRONMENT),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value, says, others):
    with pytest.raises(DeployError, match=f"^{name}: {says}"):
        read_settings({**others, name: value}, network=True)


@pytest.mark.parametrize(
    ("plain", "network", "name", "why"),
    [
        ({"double": True}, False, "double", "with a table"),
        ({"target_network": "soft"}, False, "target_network", "with a table"),
        ({"cql_weight": 0.0}, False, "cql_weight", "with a table"),
        ({"replay_size": 5, **ENVIRONMENT}, False, "replay_size", "with a table"),
        ({"n_steps": 1, **ENVIRONMENT}, True, "n_steps", "with experience: environment"),
        ({"cql_weight": 1, **ENVIRONMENT}, True, "cql_weight", "with experience: environment"),
        ({"epsilon_start": 1}, True, "epsilon_start", "with experience: logged"),
        ({"epsilon_end": 1}, False, "epsilon_end", "with experience: logged"),
        ({"epsilon_decay": 1}, True, "epsilon_decay", "with experience: logged"),
        ({"replay_size": 9}, True, "replay_size", "with experience: logged"),
        ({"discount": 1, "form": "single"}, True, "discount", "with form: single"),
        ({"n_steps": 2, "form": "single"}, True, "n_steps", "with form: single"),
        ({"target_tau": 0.1}, True, "target_tau", "without target_network: soft"),
        (
            {"target_update_steps": 9, "target_network": "soft"},
            True,
            "target_update_steps",
            "without a hard target",
        ),
        (
            {"double": True, "target_network": "none"},
            True,
            "double",
            "with target_network: none",
        ),
        ({"huber_delta": 1, "loss": "squared"}, True, "huber_delta", "with loss: squared"),
    ],
)
def test_a_setting_without_effect_is_refused_by_name(plain, network, name, why):
    with pytest.raises(DeployError, match=f"^{name} has no effect {why}"):
        read_settings(plain, network=network)


def test_every_setting_can_be_set_somewhere():
    logged = {
        "n_steps": 2,
        "discount": 0.9,
        "double": False,
        "cql_weight": 0.5,
        "hidden_share": 0.25,
        "outage_share": 0.1,
        "lookalikes": {"spike": 0.2},
        "feature_dropout": 0.1,
        "huber_delta": 2,
    }
    explored = {"epsilon_start": 0.9, "epsilon_end": 0.1, "epsilon_decay": 0.5, "replay_size": 7}
    parts = [
        (logged | {"target_network": "hard", "target_update_steps": 5, "loss": "huber"}, True),
        (explored | {"experience": "environment", "form": "sequential"}, True),
        ({"target_network": "soft", "target_tau": 0.1, "rewards": {}, "state": ["a"]}, True),
        ({"directions": {"a": "higher"}, "state": ["a"]}, False),
    ]
    for plain, network in parts:
        settings = read_settings(plain, network=network)
        for name in plain.keys() - {"rewards", "state"}:
            assert getattr(settings, name) == plain[name], name
    assert {name for plain, _ in parts for name in plain} == {
        f.name for f in fields(AlgorithmSettings)
    }


def test_epsilon_falls_linearly_and_then_stays():
    plain = {"epsilon_start": 1.0, "epsilon_end": 0.2, "epsilon_decay": 0.5, **ENVIRONMENT}
    settings = read_settings(plain, network=False)
    # Half of 100 steps is the decay: at step 25 half of the way from 1 to 0.2.
    epsilons = [settings.epsilon(step, 100) for step in (0, 25, 50, 99)]
    assert epsilons == pytest.approx([1.0, 0.6, 0.2, 0.2])
    at_once = read_settings({**plain, "epsilon_decay": 0}, network=False)
    assert at_once.epsilon(0, 100) == pytest.approx(0.2)
