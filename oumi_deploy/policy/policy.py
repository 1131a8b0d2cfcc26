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
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done
from oumi_deploy.policy.calibration import UNCALIBRATED, Calibration, read_calibration
from oumi_deploy.policy.guardrails import Guardrails
from oumi_deploy.policy.pauses import Evidence, count_requests
from oumi_deploy.policy.qfunctions import QFunction, q_function_of
from oumi_deploy.policy.rollout import Decision, Rollout
from oumi_deploy.policy.usable import Usable
from oumi_deploy.problem.arithmetic import Number
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import ACTIONS, FORMS, Rewards

FORMAT = "oumi_deploy.policy"
FORMAT_VERSION = 2
"""Version of the policy file. Files of version 1 decide as they did; files of later versions are
refused, not guessed at."""

_VERSIONS = (1, FORMAT_VERSION)


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
        calibration: What turns Q-values into risk, confidence and PAUSE; None until calibrated.
        version: Version of the policy file whose rules decide, see `answers` and `version_1`.

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
    calibration: Calibration | None = None
    version: int = FORMAT_VERSION

    def decide(
        self,
        observations: Sequence[Mapping[str, Any]],
        *,
        last: bool = False,
        asks_again: bool = False,
    ) -> Decision:
        """Decides on the newest of a rollout's observations.

        Args:
            observations: Oldest first, each a mapping from column names of the episode format to
                values. An absent name, None and NaN all mean missing.
            last: Whether no later observation will come, so that no pause can wait for one. Where
                observations bring `planned_steps`, the policy knows by itself; and its Q-values,
                where `planned_share` is in its state, know by that alone: see
                `observation.as_last`.
            asks_again: Whether the caller asks again at its last look while the answer is PAUSE.

        Raises:
            DeployError: If there is no canary observation, or a value is none.
        """
        rollout = self.begin()
        rollout.observe_all(observations)
        return rollout.decide(last=last, asks_again=asks_again)

    def begin(self) -> Rollout:
        """Starts a rollout that takes its observations one by one."""
        return Rollout(self)

    def q_values(self, features: np.ndarray) -> np.ndarray:
        """Returns Q-values of shape (n, n_actions) for features of shape (n, n_features)."""
        return self.q_function.q_values(self.encoder, features)

    def evidence(
        self,
        features: np.ndarray,
        is_silent: np.ndarray,
        is_unmatched: np.ndarray,
        was_silent: np.ndarray,
        requests: np.ndarray,
        guard: np.ndarray | None = None,
    ) -> Evidence:
        """Returns what n observations carry, for `answers.prefer` to weigh.

        Args:
            features: Shape (n, n_features).
            is_silent: Whether the state can use nothing of the observation, bool of shape (n,).
            is_unmatched: Whether the old version alone reports what it looks for, likewise.
            was_silent: Whether the observation before was silent, True where there was none.
            requests: Requests that the answer rests on, see `pauses.count_requests`, shape (n,),
                NaN where unknown.
            guard: What guardrails ask for, codes of `Guard`, shape (n,); nothing if None.
        """
        low, high = self._value_range
        is_outside = ((features < low) | (features > high)).any(axis=1)
        q_values = uncounted = self.q_values(features)
        few = requests < self.least_requests
        if self.version > 1 and few.any():
            uncounted = q_values.copy()
            uncounted[few] = self.q_values(self.encoder.typical(features[few]))
        guard = np.zeros(len(features), dtype=int) if guard is None else guard
        silent = is_silent & was_silent if self.version == 1 else is_silent
        return Evidence(q_values, silent, is_unmatched, is_outside, requests, uncounted, guard)

    def evidence_of_one(
        self,
        features: np.ndarray,
        is_silent: bool,
        is_unmatched: bool,
        was_silent: bool,
        requests: float,
        guard: int = 0,
    ) -> Evidence:
        """Returns in numbers what one observation carries, see `evidence`; features (1, n)."""
        low, high = self._value_range
        is_outside = bool(((features < low) | (features > high)).any())
        q_values = uncounted = self.q_values(features)[0].tolist()
        if self.version > 1 and requests < self.least_requests:
            uncounted = self.q_values(self.encoder.typical(features))[0].tolist()
        silent = is_silent and was_silent if self.version == 1 else is_silent
        return Evidence(q_values, silent, is_unmatched, is_outside, requests, uncounted, guard)

    @cached_property
    def usable(self) -> Usable:
        """What of an observation the state can use."""
        return Usable.of(self.encoder.state, alone=self.version == 1)

    @cached_property
    def guardrails(self) -> Guardrails:
        """The team's own limits beside it."""
        return (self.calibration or UNCALIBRATED).guardrails

    @cached_property
    def least_requests(self) -> float:
        """Requests that an answer takes."""
        return (self.calibration or UNCALIBRATED).pauses.min_requests

    def count_requests(self, short: Number, requests: Number) -> tuple[Number, Number]:
        """Returns the requests that an answer rests on, and those left over, too few for it."""
        if self.version == 1:
            return requests, 0.0 * short
        return count_requests(short, requests, self.least_requests)

    @cached_property
    def _value_range(self) -> tuple[np.ndarray, np.ndarray]:
        margin = 0.0 if self.calibration is None else self.calibration.pauses.range_margin
        return self.encoder.range_of_values(margin)

    def as_dict(self) -> dict[str, Any]:
        """Returns the policy as plain values, in the order of the file."""
        return {
            "format": FORMAT,
            "format_version": self.version,
            "actions": list(ACTIONS),
            "form": self.form,
            "rewards": self.rewards.as_dict(),
            "discount": self.discount,
            "training_data": dict(self.training_data),
            "metrics": dict(self.metrics),
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
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
        version = plain.get("format_version")
        if type(version) is not int or version not in _VERSIONS:
            raise DeployError(
                f"policy file version {version!r}; this release of oumi-deploy reads versions "
                f"{' and '.join(map(str, _VERSIONS))}"
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
                calibration=read_calibration(plain["calibration"]),
                version=version,
            )
        except KeyError as error:
            raise DeployError(f"the policy has no {error}") from error
        except (TypeError, ValueError) as error:
            if isinstance(error, DeployError):
                raise
            raise DeployError(f"the policy is malformed: {error}") from error
        if policy.guardrails.rails and version == 1:
            raise DeployError("calibration.guardrails: a policy file of version 1 has none")
        policy.guardrails.check_directions(encoder.directions or {})
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
        except (ValueError, RecursionError) as error:
            raise DeployError(f"{path}: truncated or not JSON: {error}") from error
        try:
            return cls.from_dict(plain)
        except DeployError as error:
            raise DeployError(f"{path}: {error}") from error
