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

"""Judging a policy on episodes."""

from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, GOOD, UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.metrics import summarise
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.encoder import encode_episodes, require_columns
from oumi_deploy.problem.rewards import ACTIONS, Rewards

CHUNK = 1_000_000
"""Decisions whose Q-values are computed at a time."""


def policy_q_values(policy: DeploymentPolicy, episodes: Episodes) -> np.ndarray:
    """Returns Q-values of every decision, shape (n_decisions, n_actions).

    Raises:
        DeployError: If the episodes lack a column that the policy's state is made from.
    """
    require_columns(policy.encoder.state, episodes)
    features = encode_episodes(policy.encoder.state, episodes)
    starts = range(0, max(len(features), 1), CHUNK)
    return np.concatenate([policy.q_values(features[at : at + CHUNK]) for at in starts])


def evaluate(
    policy: DeploymentPolicy,
    episodes: Episodes,
    *,
    per_observation: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Judges a policy by the scoring rules.

    Args:
        policy: The policy; its own rewards are paid.
        episodes: The episodes to judge on.
        per_observation: Whether each canary observation is scored as one decision.
        seed: Seed of the intervals.

    Returns:
        `metrics` (each `{"value", "low", "high"}`), counts of what they are from, and `episodes`,
        one entry an episode (observation) that was scored.

    Raises:
        DeployError: If the episodes lack a column, or none of them is labelled.
    """
    actions = policy_q_values(policy, episodes).argmax(axis=1)
    return judge(episodes, actions, policy.rewards, per_observation=per_observation, seed=seed)


def judge(
    episodes: Episodes,
    actions: np.ndarray,
    rewards: Rewards,
    *,
    per_observation: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Judges actions at every decision; see `evaluate`."""
    if not (episodes.labels != UNKNOWN).any():
        raise DeployError("no episode is labelled: nothing can be scored")
    scores = score(episodes, actions, rewards, per_observation)
    return {
        "metrics": summarise(scores, episodes, seed),
        "per_observation": per_observation,
        "n_episodes": len(episodes),
        "n_groups": int(episodes.group_codes().max()) + 1,
        "n_good": int((episodes.labels == GOOD).sum()),
        "n_bad": int((episodes.labels == BAD).sum()),
        "n_unlabelled": scores.n_unlabelled,
        "n_censored": scores.n_censored,
        "episodes": list(episode_table(scores, episodes)),
    }


def episode_table(scores: Scores, episodes: Episodes) -> list[dict[str, Any]]:
    """Returns one entry an episode (observation) that was scored."""

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    texts = {name: words[scores.episode] for name, words in episodes.texts.items()}
    groups = episodes.groups[scores.episode]
    return [
        {
            "episode_id": str(episode_id),
            "group": groups[i],
            **{name: words[i] for name, words in texts.items()},
            "label": "bad" if scores.bad[i] else "good",
            "decision": ACTIONS[int(scores.rolled_back[i])],
            "correct": bool(scores.bad[i] == scores.rolled_back[i]),
            "delay_steps": number(scores.delay_steps[i]),
            "delay_minutes": number(scores.delay_minutes[i]),
            "reward": float(scores.reward[i]),
            "reward_with_delay": float(scores.reward_with_delay[i]),
        }
        for i, episode_id in enumerate(episodes.ids[scores.episode])
    ]
