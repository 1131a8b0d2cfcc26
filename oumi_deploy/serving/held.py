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
"""Rollouts under way, held in memory so that an observation is read once.

Callers send all of a rollout every time, so what is not held is read again. The shares of traffic
that they stated on the way they do not send again: after a restart the log knows them, see
`stated.shares_before`.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oumi_deploy.policy.rollout import Rollout
from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.policies import Versioned

MOST_HELD = 400_000
"""Values held at once; the rollout that was asked about longest ago makes room."""


@dataclass(eq=False)
class Held:
    """A rollout as far as it has been read.

    Attributes:
        version: Of the policy that reads it.
        rollout: The policy's view of it.
        observations: What was read.
        digest: Of all that was read.
        decided: Id of the latest decision, None before the first.
        n_decided: Observations that it rests on.
        n_canary: Canary observations that were read.
        n_values: Values in all that was read.
        shares: Shares of the traffic that a caller stated, see `stated.Shares`.
    """

    version: str
    rollout: Rollout
    observations: list[Mapping[str, Any]] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    decided: str | None = None
    n_decided: int = 0
    n_canary: int = 0
    n_values: int = 0
    shares: Mapping[tuple[int, Any], float] = field(default_factory=dict)

    def read(self, observations: Sequence[Mapping[str, Any]]) -> None:
        """Takes in the next observations.

        Raises:
            DeployError: At one that the episode format does not allow.
        """
        for observation in observations:
            self.rollout.observe(observation)
            self.observations.append(observation)
            self.n_values += len(observation)
            self.n_canary += observation.get("phase") != "baseline"
            self.digest.update(json.dumps(observation, sort_keys=True).encode() + b"\n")


class HeldRollouts:
    """The rollouts that were asked about latest."""

    def __init__(self) -> None:
        self._held: OrderedDict[RolloutName, Held] = OrderedDict()
        self._n_values = 0

    def __len__(self) -> int:
        """Returns how many rollouts are held."""
        return len(self._held)

    def observations_of(self, name: RolloutName) -> list[Mapping[str, Any]]:
        """Returns what was read of a rollout, oldest first."""
        held = self._held.get(name)
        return [] if held is None else list(held.observations)

    def shares_of(self, name: RolloutName) -> Mapping[tuple[int, Any], float] | None:
        """Returns the shares that were stated of a rollout, None where it is not held."""
        held = self._held.get(name)
        return None if held is None else held.shares

    def bring_up_to(
        self, name: RolloutName, policy: Versioned, observations: Sequence[Mapping[str, Any]]
    ) -> tuple[Held, int]:
        """Returns the rollout with exactly these observations read.

        A policy that was replaced, or observations that are not those of before and some more,
        make it begin anew.

        Returns:
            The rollout, and how many of the observations the decision `decided` rests on too.

        Raises:
            DeployError: At an observation that the episode format does not allow; the rollout is
                then as if it had not been asked about.
        """
        held = self._held.pop(name, None)
        self._n_values -= 0 if held is None else held.n_values
        shared = 0 if held is None else _shared(held.observations, observations)
        kept = 0 if held is None else min(shared, held.n_decided)
        if held is None or held.version != policy.version or shared < len(held.observations):
            decided = None if held is None else held.decided
            held = Held(policy.version, policy.policy.begin(), decided=decided, n_decided=kept)
            shared = 0
        held.read(observations[shared:])
        self._held[name] = held
        self._n_values += held.n_values
        while self._n_values > MOST_HELD and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._n_values -= oldest.n_values
        return held, kept


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Returns how many observations at the beginning are the same."""
    n = min(len(one), len(other))
    if one[:n] == other[:n]:
        return n
    return next(i for i in range(n) if one[i] != other[i])
