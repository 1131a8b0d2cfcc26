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

"""A policy that decides with numpy alone."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done
from oumi_deploy.policy.observation import is_baseline, read_metrics, read_number, read_time
from oumi_deploy.policy.qfunctions import QFunction, q_function_of
from oumi_deploy.problem.encoder import StateEncoder, gather
from oumi_deploy.problem.history import Memory
from oumi_deploy.problem.rewards import ACTIONS, FORMS, Rewards

FORMAT = "oumi_deploy.policy"
FORMAT_VERSION = 1
"""Version of the policy file. Files of later versions are refused, not guessed at."""


@dataclass(frozen=True)
class Decision:
    """An answer.

    Attributes:
        decision: `CONTINUE` or `ROLLBACK`.
        q_values: Expected reward of each action, by name.
        q_margin: How far the decision's Q-value lies above the next best action's, 0 or more.
    """

    decision: str
    q_values: dict[str, float]
    q_margin: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the answer as plain values."""
        return {
            "decision": self.decision,
            "q_values": self.q_values,
            "q_margin": self.q_margin,
        }


class Rollout:
    """A rollout under way: takes in observations one by one and decides after each.

    Nothing is read twice, so the answer for the twentieth observation costs what the first did.
    """

    def __init__(self, policy: "DeploymentPolicy"):
        self._policy = policy
        self._memory = Memory.empty(1, len(policy.encoder.metrics))
        self._n_seen = 0
        self._features: np.ndarray | None = None
        self._is_told = False
        self._latest: dict[str, float] = {"step": -inf, "timestamp": -inf}

    def observe(self, observation: Mapping[str, Any]) -> None:
        """Takes in the next observation.

        Raises:
            DeployError: If a value is not one the episode format allows, or a baseline
                observation comes after a canary one.
        """
        self._n_seen += 1
        if not isinstance(observation, Mapping):
            raise DeployError(f"observation {self._n_seen}: {observation!r} is not an object")
        encoder = self._policy.encoder
        self._check_order(observation)
        self._is_told |= not observation.keys().isdisjoint(encoder.metrics)
        values, control = read_metrics(observation, encoder.metrics, self._n_seen)
        if is_baseline(observation, self._n_seen):
            if self._features is not None:
                raise DeployError(f"observation {self._n_seen}: baseline after canary")
            self._memory.observe_baseline(values)
            return
        minute = np.array([[read_time(observation, self._n_seen)]])
        history = self._memory.observe(values, control, minute)
        planned = read_number(observation, "planned_steps", self._n_seen)
        history["planned_share"] = (history["steps"] + 1) / planned
        self._features = gather(encoder.state, encoder.metrics, history)

    @property
    def features(self) -> np.ndarray:
        """Features of the newest observation, shape (1, n_features).

        Raises:
            DeployError: If no canary observation has come yet.
        """
        if self._features is None:
            raise DeployError(
                "there is no canary observation to decide on: send at least one whose phase is "
                "not baseline"
            )
        return self._features

    def _check_order(self, observation: Mapping[str, Any]) -> None:
        """Refuses observations that are not oldest first, as far as they say when they are of."""
        now = {
            "step": read_number(observation, "step", self._n_seen),
            "timestamp": read_time(observation, self._n_seen),
        }
        for name, value in now.items():
            if value < self._latest[name]:
                raise DeployError(
                    f"observation {self._n_seen}: {name} goes back; send the oldest first"
                )
            self._latest[name] = max(self._latest[name], value)

    def decide(self) -> Decision:
        """Decides on the newest observation.

        Raises:
            DeployError: If there is none, or no observation so much as names a metric of the
                state, which missing telemetry does not explain but another spelling would.
        """
        features, metrics = self.features, ", ".join(self._policy.encoder.metrics)
        if not self._is_told:
            raise DeployError(
                f"no observation names a metric of the policy's state ({metrics}); send null for "
                "one that nobody reported"
            )
        return self._policy.answer(self._policy.q_values(features)[0])


@dataclass(frozen=True, eq=False)
class DeploymentPolicy:
    """A Q-function, the encoder of its state, and where they come from.

    Attributes:
        encoder: From observations to features.
        q_function: From features to Q-values.
        form: `single` or `sequential`, the decision problem it was trained on.
        rewards: What decisions paid in training.
        discount: Factor on later rewards in training.
        training_data: Fingerprint and size of the training split.
        metrics: Figures from training, free-form.
        calibration: How confidence follows from the Q-values; None until calibrated.

    Example:
        >>> policy = DeploymentPolicy.load("deployment_policy_model.json")  # doctest: +SKIP
        >>> policy.decide([{"error_rate": 0.15, "memory_usage": 0.85}]).decision  # doctest: +SKIP
        'ROLLBACK'
    """

    encoder: StateEncoder
    q_function: QFunction
    form: str
    rewards: Rewards
    discount: float
    training_data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    calibration: Mapping[str, Any] | None = None

    def decide(self, observations: Sequence[Mapping[str, Any]]) -> Decision:
        """Decides on the newest of a rollout's observations.

        Args:
            observations: Oldest first, each a mapping from column names of the episode format to
                values. An absent name, None and NaN all mean missing.

        Raises:
            DeployError: If there is no canary observation, or a value is none.
        """
        if isinstance(observations, Mapping | str) or not isinstance(observations, Sequence):
            raise DeployError("observations: expected a list of objects, oldest first")
        rollout = self.begin()
        for observation in observations:
            rollout.observe(observation)
        return rollout.decide()

    def begin(self) -> Rollout:
        """Starts a rollout that takes its observations one by one."""
        return Rollout(self)

    def q_values(self, features: np.ndarray) -> np.ndarray:
        """Returns Q-values of shape (n, n_actions) for features of shape (n, n_features)."""
        return self.q_function.q_values(self.encoder, features)

    @staticmethod
    def answer(q_values: np.ndarray) -> Decision:
        """Turns one state's Q-values into an answer; a tie continues."""
        best = int(np.argmax(q_values))
        others = np.delete(q_values, best)
        return Decision(
            decision=ACTIONS[best],
            q_values={name: float(q) for name, q in zip(ACTIONS, q_values, strict=True)},
            q_margin=float(q_values[best] - others.max()),
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the policy as plain values, in the order of the file."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "actions": list(ACTIONS),
            "form": self.form,
            "rewards": self.rewards.as_dict(),
            "discount": self.discount,
            "training_data": dict(self.training_data),
            "metrics": dict(self.metrics),
            "calibration": self.calibration,
            "encoder": self.encoder.as_dict(),
            "q_function": self.q_function.as_dict(),
        }

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes the policy file; a file of that name is replaced only when all is written."""
        with replace_when_done(path, overwrite=overwrite) as draft:
            draft.write_text(json.dumps(self.as_dict(), allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "DeploymentPolicy":
        """Reads what `as_dict` returned.

        Raises:
            DeployError: If it is no policy, one of a later version, or inconsistent.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            raise DeployError(f"not a deployment policy: its `format` is not {FORMAT!r}")
        if plain.get("format_version") != FORMAT_VERSION:
            raise DeployError(
                f"policy file version {plain.get('format_version')!r}; this release of "
                f"oumi-deploy reads version {FORMAT_VERSION}"
            )
        if plain.get("actions") != list(ACTIONS):
            raise DeployError(f"actions: expected {list(ACTIONS)}, got {plain.get('actions')!r}")
        try:
            encoder = StateEncoder.from_dict(plain["encoder"])
            policy = cls(
                encoder=encoder,
                q_function=q_function_of(plain["q_function"], encoder, len(ACTIONS)),
                form=plain["form"],
                rewards=Rewards(**plain["rewards"]),
                discount=plain["discount"],
                training_data=dict(plain["training_data"]),
                metrics=dict(plain["metrics"]),
                calibration=plain["calibration"],
            )
        except KeyError as error:
            raise DeployError(f"the policy has no {error}") from error
        except (TypeError, ValueError) as error:
            if isinstance(error, DeployError):
                raise
            raise DeployError(f"the policy is malformed: {error}") from error
        if policy.form not in FORMS:
            raise DeployError(f"form: {policy.form!r} is not one of {', '.join(FORMS)}")
        if type(policy.discount) not in (int, float) or not 0 <= policy.discount <= 1:
            raise DeployError(f"discount: {policy.discount!r} is not in 0..1")
        return policy

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "DeploymentPolicy":
        """Reads a policy file.

        Raises:
            DeployError: If the file is missing, truncated, or no policy this release reads.
        """
        path = Path(path)
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DeployError(f"{path}: {error.strerror}; train one with `oumi train`") from error
        except ValueError as error:
            raise DeployError(f"{path}: truncated or not JSON: {error}") from error
        try:
            return cls.from_dict(plain)
        except DeployError as error:
            raise DeployError(f"{path}: {error}") from error
