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

"""Whether a log has seen enough of what the target policy would do, else a refusal.

An importance-weighted mean is unbiased only where the behaviour policy could have done what the
target policy does, and its interval can be trusted only where more than a few releases carry it.
"""

from dataclasses import dataclass

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.offpolicy.log import DecisionLog, Floats
from oumi_deploy.evaluation.offpolicy.weights import (
    completion_ratios,
    effective_n,
    importance_ratios,
    release_weights,
    running_weights,
)

LEAST_EFFECTIVE_N = 10.0
"""Effective releases below which nothing is estimated. With fewer, resampling draws the same few
again and again, and what it misses of the weights' tail is larger than what it shows."""

_SURE = 1 - 1e-12


@dataclass(frozen=True)
class Overlap:
    """How much of a log speaks of the target policy.

    Attributes:
        effective_n: Effective sample size of the releases' weights, 0..n.
        largest_weight: Largest weight of a release.
        usable_share: Share of releases of weight above 0: those whose decisions agree with the
            target policy throughout, or those that were completed (and labelled).
    """

    effective_n: float
    largest_weight: float
    usable_share: float


def seen_reward_overlap(log: DecisionLog) -> Overlap:
    """Returns the overlap for the estimators from seen rewards.

    Raises:
        DeployError: If a rolled-back release has no label, the behaviour policy never did what
            the target policy does, or too few releases agree with it.
    """
    unseen = ~log.completed & ~log.labelled
    if unseen.any():
        raise DeployError(
            f"{unseen.sum()} rolled-back releases have no label (first {log.ids[unseen][0]}), so "
            "what their ROLLBACK earned is unknown: label them, or use the estimators from "
            "completed releases"
        )
    ratios = importance_ratios(log)
    # Until here the release was decided as the target policy would have.
    agreed = np.ones(len(ratios), dtype=bool)
    agreed[1:] = running_weights(log, ratios)[:-1] > 0
    agreed[log.offsets[:-1]] = True
    never = agreed & (ratios == 0) & (log.propensity >= _SURE)
    if never.any():
        at = int(np.flatnonzero(never)[0])
        action = "ROLLBACK" if log.target_stops[at] else "CONTINUE"
        raise DeployError(
            f"release {log.ids[log.release[at]]}: the log never chooses {action} where the "
            "policy does (the other action has propensity 1), so its reward there was never "
            "seen: log decisions that are explored"
        )
    overlap = _overlap(release_weights(log, ratios))
    if overlap.usable_share == 0:
        raise DeployError(
            f"none of the {len(log)} logged releases was decided as the policy would have: "
            "log more releases, or more exploration"
        )
    _require_enough(overlap, "agree with the policy's decisions throughout")
    return overlap


def completion_overlap(log: DecisionLog) -> Overlap:
    """Returns the overlap for the estimators from completed releases.

    Raises:
        DeployError: If a release could not have been completed, or too few were.
    """
    lost = ~log.went_on & (log.propensity >= _SURE)
    if lost.any():
        name = log.ids[log.release[lost][0]]
        raise DeployError(
            f"{lost.sum()} releases (first {name}) were rolled back with propensity 1, so none "
            "like them is ever completed: let some go on, or label them and use the estimators "
            "from seen rewards"
        )
    if not (log.completed & log.labelled).any():
        raise DeployError(
            f"none of the {len(log)} logged releases is both completed and labelled: label them, "
            "or let some go on"
        )
    overlap = _overlap(release_weights(log, completion_ratios(log)))
    _require_enough(overlap, "are completed and labelled")
    return overlap


def _overlap(weights: Floats) -> Overlap:
    return Overlap(effective_n(weights), float(weights.max()), float((weights > 0).mean()))


def _require_enough(overlap: Overlap, what: str) -> None:
    if overlap.effective_n < LEAST_EFFECTIVE_N:
        raise DeployError(
            f"{overlap.usable_share:.1%} of the logged releases {what}; by their weights they are "
            f"worth {overlap.effective_n:.1f} releases, and {LEAST_EFFECTIVE_N:g} are the least: "
            "log more releases, or more exploration"
        )
