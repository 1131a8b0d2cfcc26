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

"""Bounding false alarms by conformal risk control (Angelopoulos et al. 2024).

Rolling back only from a risk of lambda on, a group's loss is the share of its healthy releases that
are ever rolled back, at whatever step. It falls as lambda rises and is at most 1, and groups are
exchangeable, so with n groups the smallest lambda for which

    (sum of the groups' losses + 1) / (n + 1) <= alpha

keeps the expected loss of a new group at or below alpha. The policy looks at every step, and the
loss counts every step: no looking is left uncorrected.
"""

from dataclasses import replace

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import GOOD
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import last_observations
from oumi_deploy.evaluation.scoring import end_of_rollouts
from oumi_deploy.policy.answers import prefer, settle
from oumi_deploy.policy.pauses import Evidence, running_length
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.rewards import Action

_ROUNDING = 1e-9
_NEVER = 2.0
"""A bound above every risk, which lets no ROLLBACK through."""


def least_rollback_risk(
    policy: DeploymentPolicy, episodes: Episodes, evidence: Evidence, alpha: float
) -> float:
    """Returns the risk from which a ROLLBACK may be let through for false alarms to stay bounded.

    Every ROLLBACK is counted: those that the risk carries (preferred, certain, or the end of a
    watch) are let through from that risk on; those of guardrails and fallbacks come anyhow. A
    healthy release whose log ends in ROLLBACK counts as a false alarm: nobody knows what the policy
    would have done later.

    Args:
        policy: The policy, calibrated but for the bound.
        episodes: Episodes of groups that the policy was not trained on.
        evidence: What their observations carry.
        alpha: Bound on the expected share of a group's healthy releases rolled back, in 0..1.

    Returns:
        A risk of 0 or more; above every risk where none may be let through.

    Raises:
        DeployError: If the groups are too few for this alpha, or what comes anyhow breaks it.
    """
    healthy = episodes.labels == GOOD
    _, groups = np.unique(episodes.group_codes()[healthy], return_inverse=True)
    n_groups = int(groups.max(initial=-1)) + 1
    _require_enough(n_groups, alpha)
    share = 1.0 / np.bincount(groups)[groups]
    highest, anyhow = (found[healthy] for found in _rollbacks(policy, episodes, evidence))

    # A group's loss as lambda falls: first the releases that are rolled back anyhow, then, from
    # the highest on, those that the policy rolls back.
    spent = (share[anyhow].sum() + 1) / (n_groups + 1)
    if spent > alpha + _ROUNDING:
        raise DeployError(
            f"alpha {alpha:g}: fallbacks of pauses and guardrails alone roll back "
            f"{share[anyhow].sum() / n_groups:.1%} of the healthy releases of these {n_groups} "
            "groups; set pause_fallback to PAUSE or CONTINUE, loosen the guardrails, or set alpha "
            f"to {_round_up(spent)} or more"
        )
    order = np.argsort(-highest[~anyhow], kind="stable")
    falling = highest[~anyhow][order]
    loss = spent + np.cumsum(share[~anyhow][order]) / (n_groups + 1)
    too_many = (loss > alpha + _ROUNDING) & np.isfinite(falling)
    if not too_many.any():
        return 0.0
    first = falling[np.argmax(too_many)]
    # Halfway to the next higher one, so that no rounding lets the first through.
    higher = falling[falling > first]
    return float((first + (higher.min() if len(higher) else 1.0)) / 2)


def _require_enough(n_groups: int, alpha: float) -> None:
    least = 1.0 / (n_groups + 1)
    if alpha < least - _ROUNDING:
        raise DeployError(
            f"alpha {alpha:g}: {n_groups} groups with healthy releases support {_round_up(least)} "
            f"or more; for {alpha:g} bring at least {int(np.ceil(1 / alpha - _ROUNDING)) - 1}"
        )


def _round_up(share: float) -> str:
    """Writes a share with three digits, never below it."""
    step = 10.0 ** (np.floor(np.log10(share)) - 2)
    return f"{np.ceil(share / step - _ROUNDING) * step:.3g}"


def _rollbacks(
    policy: DeploymentPolicy, episodes: Episodes, evidence: Evidence
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each release would come to if no risk were let through.

    Up to its first ROLLBACK a rollout is the same whatever the bound: what is not let through is a
    PAUSE. So pauses are counted as if nothing were let through.

    Returns:
        The highest risk at which a ROLLBACK waits to be let through, -inf where none does; and
        whether the release is rolled back anyhow, bool; both of shape (n_episodes,).
    """
    assert policy.calibration is not None
    closed, opened = (
        replace(policy, calibration=replace(policy.calibration, rollback_from=least))
        for least in (_NEVER, 0.0)
    )
    starts, is_last = episodes.canary_offsets[:-1], last_observations(episodes)
    preferred = prefer(closed, evidence)
    running = running_length(preferred.wants_pause, starts)
    kept = settle(closed, preferred, running, is_last)
    comes = kept.decision == Action.ROLLBACK
    wanted = settle(opened, prefer(opened, evidence), running, is_last).decision == Action.ROLLBACK
    # What comes after a ROLLBACK no longer matters: the rollout has ended.
    ends = end_of_rollouts(kept.actions, episodes).repeat(episodes.canary_lengths)
    waits = wanted & ~comes & (np.arange(len(comes)) <= ends)
    highest = np.maximum.reduceat(np.where(waits, kept.risk, -np.inf), starts)
    return highest, np.logical_or.reduceat(comes, starts) | episodes.rolled_back
