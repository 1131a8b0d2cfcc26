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

"""What a decision pays, the same for learning, the environment and evaluation.

With p = P(bad), ending with ROLLBACK is worth 100 p - 50 (1 - p) and ending with CONTINUE
-200 p + 50 (1 - p): with the default rewards a rollback pays from p = 0.25 on.
"""

from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from math import isfinite

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.arithmetic import Number


class Action(IntEnum):
    """What a policy can say."""

    CONTINUE = 0
    ROLLBACK = 1


ACTIONS = tuple(action.name for action in Action)

FORMS = ("single", "sequential")
"""`single`: each observation is one decision and one episode of the environment; `sequential`: a
rollout of many steps."""


@dataclass(frozen=True)
class Rewards:
    """What the end of a rollout pays, and what waiting costs."""

    correct_rollback: float = 100.0
    """Rolling back a bad release."""

    correct_continue: float = 50.0
    """Letting a good release through to its end."""

    missed_rollback: float = -200.0
    """Letting a bad release through to its end."""

    unnecessary_rollback: float = -50.0
    """Rolling back a good release."""

    step_cost: float = 2.0
    """Cost of each CONTINUE on a bad release that another observation follows, times the share
    of traffic or pods on the new version; 0 turns it off."""

    held: float = -10.0
    """A rollout that ends held, for a person to decide: what paging somebody costs. It is paid in
    scores, beside the step costs; nothing is learnt from it."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
                raise DeployError(f"rewards.{f.name}: {value!r} is not a finite number")
        if self.step_cost < 0:
            raise DeployError(f"rewards.step_cost: {self.step_cost:g} must be 0 or more")
        for right, wrong in (
            ("correct_rollback", "missed_rollback"),
            ("correct_continue", "unnecessary_rollback"),
        ):
            if getattr(self, right) <= getattr(self, wrong):
                raise DeployError(f"rewards.{right} must be above rewards.{wrong}")

    def table(self) -> np.ndarray:
        """Returns the rewards at the end, shape (2 labels good and bad, 2 actions)."""
        return np.array(
            [
                [self.correct_continue, self.unnecessary_rollback],
                [self.missed_rollback, self.correct_rollback],
            ]
        )

    def break_even(self) -> float:
        """Returns the probability of "bad", 0..1, above which a rollback at the end pays."""
        saved = self.correct_continue - self.unnecessary_rollback
        caught = self.correct_rollback - self.missed_rollback
        return saved / (saved + caught)

    def of_rollback(self, risk: Number) -> Number:
        """Returns what a ROLLBACK at this probability of "bad" pays, a number or an array."""
        return self.correct_rollback * risk + self.unnecessary_rollback * (1.0 - risk)

    def continue_range(self, most_steps: float) -> tuple[float, float]:
        """Returns the least and the most that a CONTINUE can be worth.

        The least is a missed rollback after the step cost of a whole rollout under full traffic.

        Args:
            most_steps: Observations of the longest rollout, 0 or more.
        """
        paid = self.table()
        return float(paid.min() - self.step_cost * most_steps), float(paid.max())

    def as_dict(self) -> dict[str, float]:
        """Returns the rewards by name."""
        return asdict(self)


def step_costs(rewards: Rewards, canary_share: np.ndarray) -> np.ndarray:
    """Returns what a CONTINUE on a bad release costs, by the `canary_share` of its row.

    Args:
        rewards: The rewards.
        canary_share: Share of the new version, 0..1, NaN where unknown (counted as 1).
    """
    return rewards.step_cost * np.where(np.isnan(canary_share), 1.0, canary_share)
