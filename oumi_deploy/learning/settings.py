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

"""The algorithm's settings: one place for each name, its default and its meaning.

They stand in a training config under `training.trainer_kwargs`, beside the plugin's name:

    training:
      trainer_kwargs:
        trainer: deployment
        form: sequential
        state: [error_rate, memory_usage, error_rate.max, steps]
        rewards: {missed_rollback: -500}
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from oumi_deploy.episodes.schema import STANDARD_METRICS
from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.learning.lookalikes import check_lookalikes
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state


@dataclass(frozen=True)
class AlgorithmSettings:
    """Settings of the decision problem and of Q-learning on it.

    Learning rate, its schedule, batch size, steps, epochs, seed and gradient clipping are Oumi's
    own (`training.learning_rate` and so on); a table's bins and a network's layers are
    `model.model_kwargs`.
    """

    form: Literal["single", "sequential"] = "sequential"
    """`single`: each observation is one decision; `sequential`: a rollout of many."""

    experience: Literal["logged", "environment"] = "logged"
    """`logged`: replay of the episodes, both actions learnt wherever their outcome is known;
    `environment`: epsilon-greedy in the Gymnasium environment, one update a step."""

    state: tuple[str, ...] = STANDARD_METRICS
    """Features of the state, in order: metrics, `metric.history`, clocks."""

    directions: Mapping[str, str] = field(default_factory=dict)
    """Which values of a metric are worse: `higher`, `lower`, or `either` where no order is known. A
    value that is worse never lowers the risk. The standard metrics have theirs (health is worse
    when lower, the others when higher), and so has what is named after them (`latency_p99`); all
    others are `either` unless they stand here."""

    rewards: Rewards = field(default_factory=Rewards)
    """What decisions pay: `correct_rollback`, `correct_continue`, `missed_rollback`,
    `unnecessary_rollback`, `step_cost`, and `held` (what a person's time is worth; in scores)."""

    discount: float = 1.0
    """Factor on what follows a CONTINUE, 0..1."""

    n_steps: int = 1
    """CONTINUEs in a row before a backup looks at Q-values again (n-step returns); `logged`."""

    double: bool = True
    """Double Q-learning: the learnt network picks the next action, the target network values it;
    networks only."""

    target_network: Literal["hard", "soft", "none"] = "hard"
    """How the target network follows: copied, drawn along, or not there; networks only."""

    target_update_steps: int = 100
    """Gradient steps between copies of a `hard` target network."""

    target_tau: float = 0.005
    """Share of the way a `soft` target network moves at each step, above 0 and at most 1."""

    loss: Literal["huber", "squared"] = "huber"
    """Loss of the temporal difference; networks only."""

    huber_delta: float = 1.0
    """Difference beyond which the Huber loss is linear, in rewards divided by the largest."""

    cql_weight: float = 0.0
    """Weight of the conservative term that holds down actions the log does not show (CQL);
    networks on `logged` experience only. Here both outcomes are mostly known, so 0 is right."""

    hidden_share: float = 0.0
    """Share 0..1 of the decisions that are learnt from with part of the state hidden, as a team
    would see them that does not measure all of it or has nothing to compare with, so that the
    policy copes there too; for trees, share of the releases. Networks and trees on `logged`
    experience only."""

    outage_share: float = 0.0
    """Outages to learn from for each release of the training split, 0 or more: good releases in
    which requests fail, pods are not ready, or memory or CPU is at its limit, from the first
    look on. Hardly any history has them, and nobody forgives a policy that lets one pass. They are
    in no figure, and calibration and range are of the releases alone."""

    lookalikes: Mapping[str, float] = field(default_factory=dict)
    """By kind, releases to learn from, for each of the training split, that look like outages and
    are good, 0 or more: `spike` (requests fail at one observation alone), `shared_failure` (in the
    old version as much), `shared_silence` (neither version reports them), `unchanged_level` (memory
    or CPU near its limit, or pods not ready, before the release as well), `warm_up` (memory comes
    from below to the old version's), `promotion` (the old version is gone from one look on). Tens
    of releases hardly have them. They are in no figure either."""

    feature_dropout: float = 0.0
    """Probability 0..1 with which each feature is hidden from a decision that is learnt from, so
    that few releases are not learnt by heart; networks on `logged` experience only."""

    epsilon_start: float = 1.0
    """Share of random actions at the first step; `environment` only."""

    epsilon_end: float = 0.05
    """Share of random actions after the decay; `environment` only."""

    epsilon_decay: float = 0.8
    """Share of the steps over which epsilon falls linearly, 0..1; `environment` only."""

    replay_size: int = 10_000
    """Latest environment steps that a network learns from; networks in the `environment` only."""

    def __post_init__(self) -> None:
        directions_of(parse_state(self.state), self.directions)
        check_lookalikes(self.lookalikes)
        for name, low, high, closed in _RANGES:
            value = getattr(self, name)
            if not (
                isfinite(value) and (low <= value if closed else low < value) and value <= high
            ):
                bound = f"{'' if closed else 'above '}{low:g}..{high:g}".replace(
                    "..inf", " or more"
                )
                raise DeployError(f"{name}: {value:g} is not {bound}")

    def epsilon(self, step: int, total_steps: int) -> float:
        """Returns the share of random actions at a step, counted from 0."""
        decay = self.epsilon_decay * total_steps
        progress = min(1.0, step / decay) if decay else 1.0
        return self.epsilon_start + progress * (self.epsilon_end - self.epsilon_start)


_RANGES = (
    ("discount", 0, 1, True),
    ("n_steps", 1, float("inf"), True),
    ("target_update_steps", 1, float("inf"), True),
    ("target_tau", 0, 1, False),
    ("huber_delta", 0, float("inf"), False),
    ("cql_weight", 0, float("inf"), True),
    ("hidden_share", 0, 1, True),
    ("outage_share", 0, float("inf"), True),
    ("feature_dropout", 0, 1, True),
    ("epsilon_start", 0, 1, True),
    ("epsilon_end", 0, 1, True),
    ("epsilon_decay", 0, 1, True),
    ("replay_size", 1, float("inf"), True),
)

_NETWORK_ONLY = (
    "double",
    "target_network",
    "target_update_steps",
    "target_tau",
    "loss",
    "huber_delta",
    "cql_weight",
    "hidden_share",
    "feature_dropout",
    "replay_size",
)
_TREES_TOO = ("hidden_share",)
"""Of those, what trees have as well."""
_LATER_ONLY = (
    "n_steps",
    "discount",
    "double",
    "target_network",
    "target_update_steps",
    "target_tau",
)
"""Terms of what follows a decision, which is nothing in the form `single`."""
_LOGGED_ONLY = ("n_steps", "cql_weight", "hidden_share", "feature_dropout")
_ENVIRONMENT_ONLY = ("epsilon_start", "epsilon_end", "epsilon_decay", "replay_size")


def read_settings(
    plain: Mapping[str, Any], *, network: bool, trees: bool = False
) -> AlgorithmSettings:
    """Reads the settings of a config.

    Args:
        plain: Names and values, without the plugin's name.
        network: Whether the Q-function is a network.
        trees: Whether it is trees; it is a table where it is neither.

    Raises:
        DeployError: At a name that is none, a value of the wrong type or range, and a setting
            that has no effect beside the others.
    """
    settings = AlgorithmSettings(**_checked(AlgorithmSettings, plain))
    _refuse_idle(settings, plain, network, trees)
    return settings


def _refuse_idle(
    settings: AlgorithmSettings, plain: Mapping[str, Any], network: bool, trees: bool
) -> None:
    if trees and settings.experience == "environment":
        raise DeployError("experience: trees learn from logged episodes alone: set it to logged")
    rules = [
        (not network and not trees, _NETWORK_ONLY, "with a table"),
        (trees, tuple(name for name in _NETWORK_ONLY if name not in _TREES_TOO), "with trees"),
        (settings.experience == "environment", _LOGGED_ONLY, "with experience: environment"),
        (settings.experience == "logged", _ENVIRONMENT_ONLY, "with experience: logged"),
        (settings.form == "single", _LATER_ONLY, "with form: single"),
        (settings.target_network != "hard", ("target_update_steps",), "without a hard target"),
        (settings.target_network != "soft", ("target_tau",), "without target_network: soft"),
        (settings.target_network == "none", ("double",), "with target_network: none"),
        (settings.loss != "huber", ("huber_delta",), "with loss: squared"),
    ]
    for idle, names, why in rules:
        for name in names:
            if idle and name in plain:
                raise DeployError(f"{name} has no effect {why}: take it out of trainer_kwargs")


def _checked(kind: type, plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns `plain` with every value of its field's type."""
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    values = {}
    for name, value in plain.items():
        if name not in names:
            raise DeployError(f"unknown setting {prefix}{name}: {near_name(name, names)}")
        values[name] = _convert(prefix + name, value, hints[name])
    return values


def _convert(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise DeployError(f"{name}: {value!r} is not one of {', '.join(get_args(kind))}")
        return value
    if kind is Rewards:
        if not isinstance(value, Mapping):
            raise DeployError(f"{name}: expected names and numbers, got {value!r}")
        return Rewards(**_checked(Rewards, value, f"{name}."))
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):
            raise DeployError(f"{name}: expected names and their values, got {value!r}")
        return {str(key): one for key, one in value.items()}
    if isinstance(get_origin(kind), type) and get_origin(kind) is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise DeployError(f"{name}: expected a list, got {value!r}")
        return tuple(value)
    return _convert_scalar(name, value, kind)


def _convert_scalar(name: str, value: Any, kind: type | types.UnionType) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and is_number and isfinite(value) and value == int(value):
        return int(value)
    if kind is float and is_number:
        return float(value)
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    raise DeployError(f"{name}: {value!r} is not {words[kind]}")  # pyright: ignore
