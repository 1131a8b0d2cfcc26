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

"""A rollout under way, decided on observation by observation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from oumi_deploy.episodes.schema import ROLLOUT_COLUMNS, TEXT_COLUMNS
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.answers import ANSWERS
from oumi_deploy.policy.observation import is_baseline, read_metrics, read_number, read_time
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.weighing import Past, Reading, Weighed
from oumi_deploy.problem.rewards import ACTIONS

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

_NO_METRIC = {"step", "timestamp", "planned_steps", "propensity", "action"}
_NO_METRIC |= {*TEXT_COLUMNS, *ROLLOUT_COLUMNS}


@dataclass(frozen=True)
class Decision:
    """An answer.

    Attributes:
        decision: `CONTINUE`, `ROLLBACK` or, of a calibrated policy, `PAUSE`: hold the rollout as it
            is and ask again with the next observation.
        confidence: Probability 0..1 that the decision is right; for PAUSE that of the likelier
            outcome; None if the policy is not calibrated.
        risk: Probability 0..1 that the release is bad, from what was seen so far; None likewise.
        q_values: Expected reward of each action, by name.
        q_margin: How far the Q-value of the action that the policy prefers lies above the next
            best action's, 0 or more.
        reasons: Why the answer is not simply what the policy prefers: names of `Reason`, in small
            letters.
    """

    decision: str
    confidence: float | None
    risk: float | None
    q_values: dict[str, float]
    q_margin: float
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the answer as plain values."""
        return {
            "decision": self.decision,
            "confidence": self.confidence,
            "risk": self.risk,
            "q_values": self.q_values,
            "q_margin": self.q_margin,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, eq=False)
class Newest:
    """The newest canary observation of a rollout, with all that its answer rests on.

    Attributes:
        past: What was remembered before it.
        reading: What it says.
        weighed: What the policy makes of it.
    """

    past: Past
    reading: Reading
    weighed: Weighed


class Rollout:
    """A rollout under way: takes in observations one by one and decides after each.

    Nothing is read twice, so the answer for the twentieth observation costs what the first did.

    Attributes:
        policy: The policy that decides.
        newest: The newest canary observation, None before the first.
    """

    def __init__(self, policy: "DeploymentPolicy"):
        self.policy = policy
        self.newest: Newest | None = None
        self._past = Past.empty(policy.encoder.metrics)
        self._n_seen = 0
        self._is_told, self._strangers = False, set[str]()
        self._latest: dict[str, float] = {"step": -inf, "timestamp": -inf}

    def observe_all(self, observations: Sequence[Mapping[str, Any]]) -> None:
        """Takes in the next observations, oldest first.

        Raises:
            DeployError: If they are no list, or at one that `observe` refuses.
        """
        if isinstance(observations, Mapping | str) or not isinstance(observations, Sequence):
            raise DeployError("observations: expected a list of objects, oldest first")
        for observation in observations:
            self.observe(observation)

    def observe(self, observation: Mapping[str, Any]) -> None:
        """Takes in the next observation.

        Raises:
            DeployError: If a value is not one the episode format allows, or a baseline
                observation comes after a canary one.
        """
        self._n_seen += 1
        if not isinstance(observation, Mapping):
            raise DeployError(f"observation {self._n_seen}: {observation!r} is not an object")
        metrics = self.policy.encoder.metrics
        self._check_order(observation)
        self._note_names(observation)
        values, control = read_metrics(observation, metrics, self._n_seen)
        if is_baseline(observation, self._n_seen):
            if self.newest is not None:
                raise DeployError(f"observation {self._n_seen}: baseline after canary")
            self._past.memory.observe_baseline(values)
            return
        reading = Reading(
            values,
            control,
            minute=np.array([[read_time(observation, self._n_seen)]]),
            planned_steps=np.array([[read_number(observation, "planned_steps", self._n_seen)]]),
            requests=np.array([read_number(observation, "requests", self._n_seen)]),
        )
        before = self._past.repeat(1)
        self.newest = Newest(before, reading, self._past.take_in(self.policy, reading))

    def _note_names(self, observation: Mapping[str, Any]) -> None:
        names = observation.keys()
        self._is_told |= not names.isdisjoint(self.policy.encoder.metrics)
        if not self._is_told:
            self._strangers |= names - _NO_METRIC

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

    def decide(self, *, last: bool = False) -> Decision:
        """Decides on the newest observation.

        Args:
            last: Whether no later observation will come. Where observations bring
                `planned_steps`, the rollout knows by itself.

        Raises:
            DeployError: If there is no observation to decide on; and if none so much as names a
                metric of the state, unless the policy is calibrated and every name is known to
                be none: missing telemetry does not explain another spelling.
        """
        calibration = self.policy.calibration
        if self.newest is None:
            raise DeployError(
                "there is no canary observation to decide on: send at least one whose phase is "
                "not baseline"
            )
        if not self._is_told and (self._strangers or calibration is None):
            metrics = ", ".join(self.policy.encoder.metrics)
            raise DeployError(
                f"no observation names a metric of the policy's state ({metrics}); send null for "
                "one that nobody reported"
            )
        answers = self.newest.weighed.answers(calibration, last=last)
        q_values = self.newest.weighed.q_values[0]
        best = int(np.argmax(q_values))
        is_sure = calibration is not None
        return Decision(
            decision=ANSWERS[int(answers.decision[0])],
            confidence=float(answers.confidence[0]) if is_sure else None,
            risk=float(answers.risk[0]) if is_sure else None,
            q_values={name: float(q) for name, q in zip(ACTIONS, q_values, strict=True)},
            q_margin=float(q_values[best] - np.delete(q_values, best).max()),
            reasons=reason_names(int(answers.reasons[0])),
        )


def reason_names(flags: int) -> tuple[str, ...]:
    """Returns the names of `Reason` flags, in small letters."""
    return tuple(str(reason.name).lower() for reason in Reason if flags & reason)
