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

All works on n rollouts at once: a rollout under way is one, and an explanation asks what one
rollout would come to with n other values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.policy.answers import Answers, Preferences, prefer, settle
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import is_telemetry
from oumi_deploy.problem.encoder import gather
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
    """

    values: np.ndarray
    control: np.ndarray
    minute: np.ndarray
    planned_steps: np.ndarray
    requests: np.ndarray


@dataclass(frozen=True, eq=False)
class Weighed:
    """What a policy makes of n newest observations.

    Attributes:
        features: The states, shape (n, n_features).
        q_values: Their Q-values, shape (n, n_actions).
        preferred: What the policy prefers, and what holds it back.
        pauses_running: Observations running that want a pause, this one included, int (n,).
        is_last: Whether it is the last that is planned, bool of shape (n,).
    """

    features: np.ndarray
    q_values: np.ndarray
    preferred: Preferences
    pauses_running: np.ndarray
    is_last: np.ndarray

    def answers(self, calibration: Calibration | None, *, last: bool) -> Answers:
        """Returns what the policy answers; `last` if it is known that nothing follows."""
        return settle(calibration, self.preferred, self.pauses_running, self.is_last | last)


@dataclass(eq=False)
class Past:
    """What is remembered of n rollouts between two observations.

    Attributes:
        memory: The history of their metrics.
        is_telemetry: Which metrics the release reports, bool of shape (m,).
        was_silent: Whether it reported none of them at last, bool of shape (n,).
        pauses_running: Observations running that wanted a pause, int of shape (n,).
    """

    memory: Memory
    is_telemetry: np.ndarray
    was_silent: np.ndarray
    pauses_running: np.ndarray

    @classmethod
    def empty(cls, metrics: Sequence[str]) -> "Past":
        """Returns the past of one rollout that has not begun."""
        memory = Memory.empty(1, len(metrics))
        return cls(memory, is_telemetry(metrics), np.array([True]), np.array([0]))

    def repeat(self, n: int) -> "Past":
        """Returns the past of one rollout n times; what these take in is not remembered here."""
        memory = Memory(*(getattr(self.memory, f.name).repeat(n, axis=0) for f in fields(Memory)))
        was_silent, running = self.was_silent.repeat(n), self.pauses_running.repeat(n)
        return Past(memory, self.is_telemetry, was_silent, running)

    def take_in(self, policy: "DeploymentPolicy", reading: Reading) -> Weighed:
        """Has the policy judge the next observation of each rollout, and remembers it."""
        encoder = policy.encoder
        history = self.memory.observe(reading.values, reading.control, reading.minute)
        history["planned_share"] = (history["steps"] + 1) / reading.planned_steps
        features = gather(encoder.state, encoder.metrics, history)
        is_silent = np.all(np.isnan(reading.values[:, self.is_telemetry]), axis=1)
        evidence = policy.evidence(features, is_silent & self.was_silent, reading.requests)
        preferred = prefer(policy.calibration, policy.rewards, evidence)
        self.was_silent = is_silent
        self.pauses_running = (self.pauses_running + 1) * preferred.wants_pause
        is_last = history["planned_share"][:, 0] >= 1.0
        return Weighed(features, evidence.q_values, preferred, self.pauses_running, is_last)
