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

"""A report's section on guardrails: how often each fired, and was right."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.evaluate import policy_answers
from oumi_deploy.evaluation.guarding import fired, guard_codes, said_of_unread
from oumi_deploy.evaluation.metrics import Metric, paired_gains
from oumi_deploy.evaluation.report.html_pieces import paragraph, row, table, told
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.policy.answers import PAUSED, Answers
from oumi_deploy.policy.pauses import Evidence, Guard
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.rewards import Action

_OF_THEM = ("of them bad", "of them good")
_HEADS = ("", "answer", "fired on", *_OF_THEM, "policy milder on", *_OF_THEM)


def guardrail_contents(
    policy: DeploymentPolicy,
    episodes: Episodes,
    evidence: Evidence,
    scores: Scores,
    seed: int,
) -> dict[str, Any] | None:
    """Returns what became of each guardrail on the releases that are scored.

    Args:
        policy: The policy.
        episodes: The episodes.
        evidence: What their observations carry.
        scores: How the policy does on them, with its guardrails.
        seed: Seed of the interval.

    Returns:
        None without guardrails. `rows`, one each, with its `name`, its `answer`, on how many
        releases it fired up to their end (`bad`, `good`), and on how many of them the policy by
        itself gave a milder answer at that look (`milder_bad`, `milder_good`); `gain`, what all of
        them together add to the mean reward with delay, None where no release has a reward with and
        without them; `not_read`, sentences on those that had nothing to read.
    """
    guardrails = policy.guardrails
    if not guardrails.rails:
        return None
    codes = guard_codes(guardrails, episodes, evidence.requests < policy.least_requests)
    unguarded = replace(evidence, guard=np.zeros_like(evidence.guard))
    alone = policy_answers(policy, episodes, evidence=unguarded)
    without = score(episodes, alone.actions, policy.rewards, answers=alone)
    ends = episodes.canary_offsets[1:] - 1
    ends[scores.episode] = scores.end
    asked = fired(codes, ends, episodes)[scores.episode]
    first = _first(codes, episodes)[scores.episode]
    return {
        "rows": [
            {
                "name": rail.name,
                "answer": rail.answer,
                **_counts(asked[:, at], scores.bad),
                **_counts(
                    asked[:, at] & _is_milder(alone, codes, first, at), scores.bad, "milder_"
                ),
            }
            for at, rail in enumerate(guardrails.rails)
        ],
        "gain": _gain(scores, without, episodes, seed),
        "not_read": said_of_unread(guardrails, episodes),
    }


def _gain(scores: Scores, without: Scores, episodes: Episodes, seed: int) -> Metric | None:
    if not np.isin(scores.episode, without.episode).any():
        return None
    return paired_gains(scores, without, episodes, seed)["mean_reward_with_delay"]


def _first(codes: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Returns the first decision at which each guardrail asks for something, int (n, k).

    The last decision of the release where none is.
    """
    at = np.where(codes > 0, np.arange(len(codes))[:, None], len(codes))
    starts, ends = episodes.canary_offsets[:-1], episodes.canary_offsets[1:]
    return np.minimum(np.minimum.reduceat(at, starts, axis=0), ends[:, None] - 1)


def _is_milder(alone: Answers, codes: np.ndarray, first: np.ndarray, at: int) -> np.ndarray:
    """Returns where the policy by itself asks for less than a guardrail that fires."""
    severity = np.zeros(3, dtype=int)
    severity[[Action.CONTINUE, PAUSED, Action.ROLLBACK]] = (
        Guard.NOTHING,
        Guard.PAUSE,
        Guard.ROLLBACK,
    )
    look = first[:, at]
    return severity[alone.decision[look]] < codes[look, at]


def _counts(which: np.ndarray, bad: np.ndarray, prefix: str = "") -> dict[str, int]:
    return {f"{prefix}bad": int((which & bad).sum()), f"{prefix}good": int((which & ~bad).sum())}


def guardrails(said: Mapping[str, Any]) -> str:
    """Shows how often each fired and was right."""
    rows = [
        row(
            one["name"],
            [
                one["answer"],
                *_cells(one["bad"], one["good"]),
                *_cells(one["milder_bad"], one["milder_good"]),
            ],
        )
        for one in said["rows"]
    ]
    caption = (
        "Releases on which each guardrail fired before they ended: on bad ones it was right, on "
        "good ones wrong. Then those on which the policy by itself gave a milder answer at that "
        "look."
    )
    gain = (
        f"All guardrails together add {told(said['gain'], '.2f')} to the mean reward with delay; "
        "below 0, they cost that."
    )
    unread = "".join(paragraph(f"{one[:1].upper()}{one[1:]}.") for one in said["not_read"])
    return table(caption, _HEADS, {"": rows}) + paragraph(gain) + unread


def _cells(bad: int, good: int) -> list[str]:
    return [f"{bad + good:,}", f"{bad:,}", f"{good:,}"]
