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

"""The worst decisions of a policy, each with its timeline and an explanation."""

from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import CONTROL
from oumi_deploy.evaluation.evaluate import last_observations
from oumi_deploy.evaluation.scoring import Scores
from oumi_deploy.policy.answers import ANSWERS, Answers
from oumi_deploy.policy.explain import explain
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.rewards import ACTIONS


def worst_decisions(
    policy: DeploymentPolicy, episodes: Episodes, answers: Answers, scores: Scores, n: int
) -> list[dict[str, Any]]:
    """Returns the decisions that cost most against the better one, the worst first.

    Args:
        policy: The policy.
        episodes: The episodes.
        answers: What the policy answers to them.
        scores: The scores of these answers.
        n: How many to return at most.
    """
    best = policy.rewards.table().max(axis=1)[scores.bad.astype(int)]
    loss = best - scores.reward_with_delay
    order = np.argsort(-loss, kind="stable")[:n]
    return [
        _describe(policy, episodes, answers, scores, int(i), float(loss[i]))
        for i in order
        if loss[i] > 0
    ]


def _describe(
    policy: DeploymentPolicy,
    episodes: Episodes,
    answers: Answers,
    scores: Scores,
    i: int,
    loss: float,
) -> dict[str, Any]:
    number, end = int(scores.episode[i]), int(scores.end[i])
    first = int(episodes.canary_offsets[number])
    rows = episodes.canary_rows[first : int(episodes.canary_offsets[number + 1])]
    observations = _observations(episodes, number, end - first)
    is_last = bool(last_observations(episodes)[end])
    named = {m: episodes.column(m)[rows] for m in policy.encoder.metrics if m in episodes.numbers}
    beside = {CONTROL + m: episodes.column(CONTROL + m)[rows] for m in named}
    return {
        "episode_id": str(episodes.ids[number]),
        "service": episodes.texts["service"][number] if "service" in episodes.texts else None,
        "label": "bad" if scores.bad[i] else "good",
        "decision": ACTIONS[int(scores.rolled_back[i])],
        "fell_back": scores.fell_back[i],
        "loss": loss,
        "at": end - first,
        "answers": [ANSWERS[code] for code in answers.decision[first : end + 1]],
        "risk": answers.risk[first : end + 1],
        "metrics": named,
        "old_version": {name: v for name, v in beside.items() if not np.isnan(v).all()},
        "explanation": explain(policy, observations, last=is_last).sentence,
    }


def _observations(episodes: Episodes, number: int, at: int) -> list[dict[str, Any]]:
    """Returns the rows of an episode, up to canary observation `at`, as a caller sends them."""
    start, n_base = int(episodes.offsets[number]), int(episodes.baseline_lengths[number])
    return [
        {
            "phase": "baseline" if row < start + n_base else "canary",
            **{name: float(column[row]) for name, column in episodes.numbers.items()},
        }
        for row in range(start, start + n_base + at + 1)
    ]
