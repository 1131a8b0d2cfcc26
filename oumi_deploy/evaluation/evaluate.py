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

import logging
from dataclasses import fields
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, CONTROL, GOOD, UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.guarding import guard_codes, said_of_unread
from oumi_deploy.evaluation.metrics import summarise
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.policy.answers import Answers, prefer, settle
from oumi_deploy.policy.pauses import PAUSE, Evidence, running_length
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.encoder import encode_episodes, require_columns
from oumi_deploy.problem.rewards import ACTIONS, Rewards

logger = logging.getLogger(__name__)

CHUNK = 1_000_000
"""Decisions whose Q-values are computed at a time."""


def policy_answers(
    policy: DeploymentPolicy,
    episodes: Episodes,
    *,
    per_observation: bool = False,
    evidence: Evidence | None = None,
) -> Answers:
    """Returns what a policy answers at every decision, as a `Rollout` would that gets there.

    Args:
        policy: The policy.
        episodes: The episodes; see `last_observations` for their ends.
        per_observation: Whether each canary observation is a decision of its own, after which
            no other comes.
        evidence: What the observations carry, if that is known already.

    Raises:
        DeployError: If the episodes lack a column that the policy's state is made from.
    """
    evidence = policy_evidence(policy, episodes) if evidence is None else evidence
    preferred = prefer(policy, evidence)
    starts = episodes.canary_offsets[:-1]
    running = running_length(preferred.wants_pause, starts)
    is_last = last_observations(episodes) | per_observation
    return settle(policy, preferred, running, is_last)


def policy_evidence(
    policy: DeploymentPolicy, episodes: Episodes, *, features: np.ndarray | None = None
) -> Evidence:
    """Returns what every canary observation carries, for a policy to weigh.

    Args:
        policy: The policy.
        episodes: The episodes.
        features: Their states, of shape (n_decisions, n_features), if they are known already.

    Raises:
        DeployError: If the episodes lack a column that the policy's state is made from.
    """
    state = policy.encoder.state
    require_columns(state, episodes)
    features = encode_episodes(state, episodes) if features is None else features
    silent, unmatched = _silent_observations(policy, episodes)
    before = np.concatenate([[True], silent[:-1]])
    before[episodes.canary_offsets[:-1]] = True
    requests = _requests(policy, episodes)
    guard = np.zeros(len(features), dtype=int)
    if policy.guardrails.rails:
        few = requests < policy.least_requests
        guard = guard_codes(policy.guardrails, episodes, few).max(axis=1)
    parts = [slice(at, at + CHUNK) for at in range(0, max(len(features), 1), CHUNK)]
    found = [
        policy.evidence(features[p], silent[p], unmatched[p], before[p], requests[p], guard[p])
        for p in parts
    ]
    return Evidence(
        *(np.concatenate([getattr(part, f.name) for part in found]) for f in fields(Evidence))
    )


def warn_of_unreported(policy: DeploymentPolicy, episodes: Episodes) -> None:
    """Logs a warning that names what a policy or a guardrail reads and no episode has a value of.

    Raises:
        DeployError: If the episodes lack every column that the policy could decide by.
    """
    require_columns(policy.encoder.state, episodes)
    absent = policy.encoder.unreported(encode_episodes(policy.encoder.state, episodes))
    if absent:
        logger.warning(
            "the episodes have no value of %s: the policy was taught these, and decides without "
            "them here",
            ", ".join(absent),
        )
    for said in said_of_unread(policy.guardrails, episodes):
        logger.warning(said)


def last_observations(episodes: Episodes) -> np.ndarray:
    """Returns which decisions no other follows, bool of shape (n_decisions,).

    By plan, or by the end of the file, but not where the log was cut short by a ROLLBACK.
    """
    planned = episodes.column("planned_steps")[episodes.canary_rows]
    is_last = episodes.canary_steps + 1 >= planned
    is_last[episodes.canary_offsets[1:] - 1] |= ~episodes.rolled_back
    return is_last


def _silent_observations(
    policy: DeploymentPolicy, episodes: Episodes
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the state can use nothing of a canary observation, bool (n_decisions,).

    And, likewise, where the old version alone reports what it looks for in both.
    """
    metrics, rows = policy.encoder.metrics, episodes.canary_rows
    values = np.stack([episodes.column(m) for m in metrics], axis=1)
    control = np.stack([episodes.column(CONTROL + m)[rows] for m in metrics], axis=1)
    # An episode begins with its baseline rows, and canary rows follow.
    known = np.concatenate([np.zeros((1, len(metrics)), int), (~np.isnan(values)).cumsum(axis=0)])
    starts = episodes.offsets[:-1]
    based = known[starts + episodes.baseline_lengths] > known[starts]
    values, based = values[rows], based.repeat(episodes.canary_lengths, axis=0)
    return policy.usable.is_silent(values, control, based), policy.usable.is_unmatched(
        values, control
    )


def _requests(policy: DeploymentPolicy, episodes: Episodes) -> np.ndarray:
    """Returns the requests that the answer to each canary observation rests on, NaN if unknown."""
    requests = episodes.column("requests")[episodes.canary_rows]
    if np.isnan(requests).all():
        return requests
    starts, lengths = episodes.canary_offsets[:-1], episodes.canary_lengths
    together, short = np.empty_like(requests), np.zeros(len(episodes))
    for step in range(int(lengths.max(initial=0))):
        going = lengths > step
        at = starts[going] + step
        together[at], short[going] = policy.count_requests(short[going], requests[at])
    return together


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
        `metrics` (each `{"value", "low", "high"}`), counts of what they are from, `episodes`,
        one entry an episode (observation) that was scored, and `guardrails_not_read`, a sentence on
        each guardrail that no release gives anything to read.

    Raises:
        DeployError: If the episodes lack a column, or none of them is labelled.
    """
    answers = policy_answers(policy, episodes, per_observation=per_observation)
    judged = judge(
        episodes,
        answers.actions,
        policy.rewards,
        per_observation=per_observation,
        answers=answers,
        seed=seed,
    )
    return {**judged, "guardrails_not_read": said_of_unread(policy.guardrails, episodes)}


def judge(
    episodes: Episodes,
    actions: np.ndarray,
    rewards: Rewards,
    *,
    per_observation: bool = False,
    answers: Answers | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Judges actions at every decision; see `evaluate`."""
    require_labels(episodes)
    scores = score(episodes, actions, rewards, per_observation, answers)
    return describe_scores(scores, episodes, per_observation=per_observation, seed=seed)


def describe_scores(
    scores: Scores, episodes: Episodes, *, per_observation: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Returns what `evaluate` does, from scores of these episodes."""
    return {
        "metrics": summarise(scores, episodes, seed),
        "per_observation": per_observation,
        **count_episodes(scores, episodes),
        "episodes": list(episode_table(scores, episodes)),
    }


def require_labels(episodes: Episodes) -> None:
    """Raises DeployError if no episode is labelled."""
    if not (episodes.labels != UNKNOWN).any():
        raise DeployError("no episode is labelled: nothing can be scored")


def count_episodes(scores: Scores, episodes: Episodes) -> dict[str, int]:
    """Returns what the scores are of, and what of it was not scored."""
    return {
        "n_episodes": len(episodes),
        "n_groups": episodes.n_groups,
        "n_good": int((episodes.labels == GOOD).sum()),
        "n_bad": int((episodes.labels == BAD).sum()),
        "n_held": int(scores.held.sum()),
        "n_unlabelled": scores.n_unlabelled,
        "n_censored": scores.n_censored,
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
            "decision": PAUSE if scores.held[i] else ACTIONS[int(scores.rolled_back[i])],
            "held": bool(scores.held[i]),
            "paused": bool(scores.paused[i]),
            "fell_back": bool(scores.fell_back[i]),
            "correct": None if scores.held[i] else bool(scores.bad[i] == scores.rolled_back[i]),
            "delay_steps": number(scores.delay_steps[i]),
            "delay_minutes": number(scores.delay_minutes[i]),
            "reward": float(scores.reward[i]),
            "reward_with_delay": float(scores.reward_with_delay[i]),
        }
        for i, episode_id in enumerate(episodes.ids[scores.episode])
    ]
