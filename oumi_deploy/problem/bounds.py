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

"""Q-values that keep within what the rewards allow, whatever was learnt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.rewards import Rewards


@dataclass(frozen=True)
class Bounds:
    """What rewards allow Q-values to be, and Q-values from the outputs that keep within that.

    Two outputs carry a state's Q-values: the log odds u of the belief that the release is bad, and
    the lead d of ROLLBACK, Q(ROLLBACK) - Q(CONTINUE). With s the logistic function,

        Q(ROLLBACK) = unnecessary + (correct - unnecessary) s(u)
        Q(CONTINUE) = Q(ROLLBACK) - d, within its bounds

    Where u and d never fall when a metric gets worse, neither do belief, Q(ROLLBACK) and the lead:
    cut off at bounds on Q(CONTINUE), the lead is still the middle of three numbers that never fall.

    Attributes:
        rollback: Least and most that ROLLBACK can be worth: unnecessary, and correct.
        going_on: Least and most that CONTINUE can be worth, see `Rewards.continue_range`.
    """

    rollback: tuple[float, float]
    going_on: tuple[float, float]

    @classmethod
    def of(cls, rewards: Rewards, most_steps: float) -> "Bounds":
        """Returns the bounds for rollouts of at most so many observations."""
        paid = rewards.unnecessary_rollback, rewards.correct_rollback
        return cls(paid, rewards.continue_range(most_steps))

    def q_values(self, outputs: np.ndarray) -> np.ndarray:
        """Returns Q-values from log odds and leads, both of shape (n, 2)."""
        unnecessary, correct = self.rollback
        belief = 0.5 * (1.0 + np.tanh(0.5 * outputs[:, 0]))
        q_values = np.empty_like(outputs)
        q_values[:, 1] = unnecessary + (correct - unnecessary) * belief
        q_values[:, 0] = self.cut(q_values[:, 1] - outputs[:, 1])
        return q_values

    def cut(self, q_continue: np.ndarray) -> np.ndarray:
        """Returns Q(CONTINUE) within its bounds."""
        least, most = self.going_on
        return np.minimum(np.maximum(q_continue, least), most)

    def as_dict(self) -> dict[str, list[float]]:
        """Returns the bounds as plain values, by action."""
        return {"CONTINUE": list(self.going_on), "ROLLBACK": list(self.rollback)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Bounds":
        """Reads what `as_dict` returned.

        Raises:
            DeployError: If it is not two rising pairs of finite numbers.
        """
        pairs = [tuple(float(x) for x in plain[name]) for name in ("ROLLBACK", "CONTINUE")]
        if not all(len(p) == 2 and np.isfinite(p).all() and p[0] < p[1] for p in pairs):
            raise DeployError("q_function.bounds: expected a least and a most for each action")
        (least, most), (low, high) = pairs
        return cls((least, most), (low, high))
