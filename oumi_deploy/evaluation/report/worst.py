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
from oumi_deploy.evaluation.figures.clock import read_clock
from oumi_deploy.evaluation.scoring import Scores
from oumi_deploy.policy.answers import ANSWERS, Answers
from oumi_deploy.policy.explain import explain
from oumi_deploy.policy.pauses import PAUSE, Evidence
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.rewards import ACTIONS, Action

KINDS = ("missed", "needless", "held", "late")
"""Bad releases that stayed, good ones rolled back, those held for a person, and bad ones rolled
back late; in this order."""


def worst_decisions(
    policy: DeploymentPolicy,
    episodes: Episodes,
    evidence: Evidence,
    answers: Answers,
    scores: Scores,
    n: int,
) -> list[dict[str, Any]]:
    """Returns the worst decisions: of the first of KINDS first, then those that cost most.

    Args:
        policy: The policy.
        episodes: The episodes.
        evidence: What their observations carry.
        answers: What the policy answers to them.
        scores: The scores of these answers.
        n: How many to return at most.

    Returns:
        `episode_id`, `group`, and `service` and `fault_type` where they are known; `label`,
        `decision` (PAUSE of one that was held) and `kind`; whether it `fell_back`; `loss`, in
        reward, against the better action at once. The timeline: `unit` and `times` of all
        observations from 0 at the first of the canary, the first `n_baseline` of them before;
        `metrics` of the state and the `old_version`'s, one value an observation. Of the canary
        observations up to `at`, where the rollout ended: `answers`, `risk` and `q_difference`,
        Q(ROLLBACK) - Q(CONTINUE). And the `explanation` of the last answer.
    """
    best = policy.rewards.table().max(axis=1)[scores.bad.astype(int)]
    loss = best - scores.reward_with_delay
    kind = np.where(scores.bad, np.where(scores.rolled_back, 3, 0), 1)
    kind = np.where(scores.held, 2, kind)
    order = np.lexsort((-loss, kind))
    is_last = last_observations(episodes)
    return [
        {
            **_name(episodes, int(scores.episode[i])),
            "label": "bad" if scores.bad[i] else "good",
            "decision": PAUSE if scores.held[i] else ACTIONS[int(scores.rolled_back[i])],
            "kind": KINDS[kind[i]],
            "fell_back": scores.fell_back[i],
            "loss": loss[i],
            **_timeline(policy, episodes, int(scores.episode[i])),
            **_answers(episodes, evidence, answers, int(scores.episode[i]), int(scores.end[i])),
            "explanation": explain(
                policy,
                _observations(episodes, int(scores.episode[i]), int(scores.end[i])),
                last=bool(is_last[scores.end[i]]),
            ).sentence,
        }
        for i in order[loss[order] > 0][:n]
    ]


def _name(episodes: Episodes, number: int) -> dict[str, Any]:
    known = {k: episodes.texts[k][number] for k in ("service", "fault_type") if k in episodes.texts}
    return {"episode_id": str(episodes.ids[number]), "group": episodes.groups[number], **known}


def _timeline(policy: DeploymentPolicy, episodes: Episodes, number: int) -> dict[str, Any]:
    rows = slice(int(episodes.offsets[number]), int(episodes.offsets[number + 1]))
    clock = read_clock(episodes, number)
    metrics = policy.encoder.metrics
    old = {m: episodes.column(CONTROL + m)[rows] for m in metrics}
    return {
        "unit": clock.unit,
        "times": clock.times,
        "n_baseline": clock.n_baseline,
        "metrics": {m: episodes.column(m)[rows] for m in metrics},
        "old_version": {m: values for m, values in old.items() if not np.isnan(values).all()},
    }


def _answers(
    episodes: Episodes, evidence: Evidence, answers: Answers, number: int, end: int
) -> dict[str, Any]:
    first = int(episodes.canary_offsets[number])
    until = slice(first, end + 1)
    q_values = evidence.q_values[until]
    return {
        "at": end - first,
        "answers": [ANSWERS[code] for code in answers.decision[until]],
        "risk": answers.risk[until],
        "q_difference": q_values[:, Action.ROLLBACK] - q_values[:, Action.CONTINUE],
    }


def _observations(episodes: Episodes, number: int, end: int) -> list[dict[str, Any]]:
    """Returns the rows of an episode, up to decision `end`, as a caller sends them."""
    start, n_baseline = int(episodes.offsets[number]), int(episodes.baseline_lengths[number])
    n_canary = end - int(episodes.canary_offsets[number]) + 1
    return [
        {
            "phase": "baseline" if row < start + n_baseline else "canary",
            **{name: float(column[row]) for name, column in episodes.numbers.items()},
        }
        for row in range(start, start + n_baseline + n_canary)
    ]
