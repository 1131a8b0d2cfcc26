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

"""How a policy weighs the next observation of a rollout, given what came before.

A rollout under way is weighed in numbers. An explanation asks what it would come to with n other
values, and weighs n rollouts in arrays.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oumi_deploy.episodes.schema import CONTROL
from oumi_deploy.policy.answers import Answers, Preferences, prefer, settle
from oumi_deploy.policy.guardrail import Streak
from oumi_deploy.policy.guardrails import severest
from oumi_deploy.policy.pauses import Evidence
from oumi_deploy.problem.arithmetic import Number
from oumi_deploy.problem.encoder import encode_memory
from oumi_deploy.problem.history import Memory

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy


@dataclass(frozen=True, eq=False)
class Reading:
    """What n canary observations say.

    Attributes:
        values: The state's metrics, shape (n, m), NaN where missing.
        control: The old version's metrics, shape (n, m), NaN where missing.
        minute: Time in minutes, shape (n, 1), NaN where unknown.
        planned_steps: Canary observations that are planned, shape (n, 1), NaN where unknown.
        requests: Requests in the observation, shape (n,), NaN where unknown.
        guarded: What the guardrails read, see `Guardrails.columns`, shape (n, k), NaN where
            missing. A column that is also among the others is read there.
    """

    values: np.ndarray
    control: np.ndarray
    minute: np.ndarray
    planned_steps: np.ndarray
    requests: np.ndarray
    guarded: np.ndarray

    def columns(self, policy: "DeploymentPolicy") -> list[np.ndarray]:
        """Returns what the guardrails read, by column, each of shape (n,)."""
        metrics = policy.encoder.metrics
        known = dict(zip((CONTROL + m for m in metrics), self.control.T, strict=True))
        known |= {"requests": self.requests} | dict(zip(metrics, self.values.T, strict=True))
        guarded = zip(policy.guardrails.columns, self.guarded.T, strict=True)
        return [known.get(column, values) for column, values in guarded]


class End(NamedTuple):
    """What a caller says of the end of the rollout.

    Attributes:
        last: Whether no later observation will come.
        asks_again: Whether the tool asks again at its last look while the answer is PAUSE, so that
            a PAUSE can go on there.
    """

    last: bool = False
    asks_again: bool = False


class Weighed(NamedTuple):
    """What a policy makes of n newest observations, or of one in numbers.

    Attributes:
        features: The states, shape (n, n_features).
        q_values: Their Q-values, shape (n, n_actions); of one a list, by action.
        preferred: What the policy prefers, and what holds it back.
        pauses_running: Observations running that want a pause, this one included, int (n,).
        is_last: Whether it is the last that is planned, bool of shape (n,).
    """

    features: np.ndarray
    q_values: Number
    preferred: Preferences
    pauses_running: Number
    is_last: Number

    def answers(self, policy: "DeploymentPolicy", when: "End") -> Answers:
        """Returns what the policy answers."""
        is_last = (self.is_last | when.last) & (not when.asks_again)
        return settle(policy, self.preferred, self.pauses_running, is_last)

    def in_arrays(self) -> "Weighed":
        """Returns what is made of one observation in arrays of n = 1."""
        return Weighed(
            self.features,
            np.array([self.q_values]),
            Preferences(*(np.array([number]) for number in self.preferred)),
            np.array([self.pauses_running]),
            np.array([self.is_last]),
        )


def weigh(
    policy: "DeploymentPolicy",
    features: np.ndarray,
    evidence: Evidence,
    planned_share: Number,
    pauses_before: Number,
) -> Weighed:
    """Has the policy judge what it sees.

    Args:
        policy: The policy.
        features: The states, shape (n, n_features).
        evidence: What the observations carry.
        planned_share: Share of the planned observations seen, shape (n,), NaN if unknown.
        pauses_before: Observations running before these that wanted a pause, int of shape (n,).
    """
    preferred = prefer(policy, evidence)
    running = (pauses_before + 1) * preferred.wants_pause
    return Weighed(features, evidence.q_values, preferred, running, planned_share >= 1.0)


@dataclass(frozen=True, eq=False)
class Past:
    """What is remembered of n rollouts between two observations.

    Attributes:
        memory: The history of their metrics.
        was_silent: Whether the state could use nothing at last, bool of shape (n,).
        requests_short: Requests so far that were too few for an answer, shape (n,).
        pauses_running: Observations running that wanted a pause, int of shape (n,).
        streaks: What is remembered of each guardrail.
    """

    memory: Memory
    was_silent: np.ndarray
    requests_short: np.ndarray
    pauses_running: np.ndarray
    streaks: tuple[Streak, ...]

    def repeat(self, n: int) -> "Past":
        """Returns the past of one rollout n times."""
        return Past(
            self.memory.repeat(n),
            self.was_silent.repeat(n),
            self.requests_short.repeat(n),
            self.pauses_running.repeat(n),
            tuple(Streak(*(x.repeat(n) for x in streak)) for streak in self.streaks),
        )

    def take_in(self, policy: "DeploymentPolicy", reading: Reading) -> Weighed:
        """Has the policy judge the next observation of each rollout."""
        memory = self.memory.observe(
            reading.values, reading.control, reading.minute, reading.planned_steps
        )
        features = encode_memory(policy.encoder.state, policy.encoder.metrics, memory)
        is_silent = policy.usable.is_silent(reading.values, reading.control, memory.base_count > 0)
        is_unmatched = policy.usable.is_unmatched(reading.values, reading.control)
        requests, _ = policy.count_requests(self.requests_short, reading.requests)
        few = requests < policy.least_requests
        _, asked = policy.guardrails.observe(self.streaks, reading.columns(policy), few)
        guard = severest(asked) if asked else None
        evidence = policy.evidence(
            features, is_silent, is_unmatched, self.was_silent, requests, guard
        )
        return weigh(policy, features, evidence, memory.planned_share[:, 0], self.pauses_running)
