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
"""Exploration: now and then a ROLLBACK becomes a PAUSE, so that the log shows what would follow.

It gives overlap only where EPSILON to the power of the looks at a release is not negligible: a
release on which the policy insists is let through by chance with that probability.
"""

import random
from dataclasses import dataclass

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.pauses import PAUSE

ROLLBACK = "ROLLBACK"


@dataclass(frozen=True)
class Choice:
    """What is answered, and how likely that was.

    Attributes:
        decision: The answer.
        propensity: Probability 0..1, above 0, with which it was chosen.
        explored: Whether it is a PAUSE in the place of a ROLLBACK.
    """

    decision: str
    propensity: float
    explored: bool


def check_epsilon(epsilon: float) -> float:
    """Returns epsilon.

    Raises:
        DeployError: If it is not at least 0 and below 1.
    """
    if not 0 <= epsilon < 1:
        raise DeployError(f"--explore {epsilon:g}: give a probability of at least 0 and below 1")
    return epsilon


def choose(decision: str, epsilon: float, draw: float) -> Choice:
    """Turns a ROLLBACK into a PAUSE with probability epsilon; all else stays as it is.

    Args:
        decision: What the policy answers.
        epsilon: The probability.
        draw: A number drawn evenly from 0 to 1.
    """
    if decision != ROLLBACK or epsilon == 0:
        return Choice(decision, 1.0, explored=False)
    if draw < epsilon:
        return Choice(PAUSE, epsilon, explored=True)
    return Choice(decision, 1.0 - epsilon, explored=False)


def draw_for(decision_id: str, seed: int | None) -> float:
    """Returns a number from 0 to 1, drawn anew for every question and the same for a retry."""
    return random.Random(f"{seed} {decision_id}").random()
