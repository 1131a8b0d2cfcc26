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

"""What a baseline is: a rule of thumb, or a model, that is fitted on some releases."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.problem.rewards import Rewards

Rule = Callable[[Episodes], np.ndarray]
"""Gives the action at every decision, int of shape (n_decisions,); a rollout ends at its first
ROLLBACK. A rule looks only back, and only at the release that it decides on."""

Paid = Literal["reward", "reward_with_delay"]
"""What a setting is picked for: the reward at the end, or that less the cost of waiting."""

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Context:
    """What a baseline may know besides the releases that it is fitted on.

    Attributes:
        rewards: What decisions pay.
        state: Names of the features that the policy sees; models see the same.
        seed: Seed of whatever a fit draws.
    """

    rewards: Rewards
    state: tuple[str, ...]
    seed: int = 0


Fit = Callable[[Episodes, Context], Rule]
"""Fits a baseline on training episodes, and returns the rule for others."""


def best_setting(
    episodes: Episodes,
    candidates: Iterable[tuple[Setting, np.ndarray]],
    rewards: Rewards,
    paid: Paid = "reward_with_delay",
) -> Setting:
    """Returns the setting with the highest mean reward; of equal ones the first.

    Args:
        episodes: The episodes to pick it on.
        candidates: Settings, each with the actions that it leads to at every decision.
        rewards: What decisions pay.
        paid: What to pick it for.

    Raises:
        DeployError: If no episode can be scored.
    """
    best: tuple[float, Setting] | None = None
    for setting, actions in candidates:
        earned = getattr(score(episodes, actions, rewards), paid)
        if len(earned) and (best is None or earned.mean() > best[0]):
            best = float(earned.mean()), setting
    if best is None:
        raise DeployError(
            "a baseline cannot be fitted: none of its releases has a known outcome; label some"
        )
    return best[1]


def some_episodes(episodes: Episodes, most: int, seed: int) -> Episodes:
    """Draws at most so many labelled episodes, for fits that would take too long on all."""
    labelled = np.flatnonzero(episodes.labels != UNKNOWN)
    if len(labelled) > most:
        labelled = np.random.default_rng(seed).choice(labelled, most, replace=False)
    return episodes.select(np.sort(labelled))
