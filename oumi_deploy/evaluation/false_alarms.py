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

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import GOOD
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import last_observations
from oumi_deploy.policy.pauses import Evidence, PauseRules, reasons_to_pause, running_length
from oumi_deploy.problem.rewards import Action

_ROUNDING = 1e-9


def least_rollback_risk(
    episodes: Episodes, evidence: Evidence, risk: np.ndarray, rules: PauseRules, alpha: float
) -> float:
    """Returns the risk from which a ROLLBACK may be let through for false alarms to stay bounded.

    Whether pauses alone end in a rollback is counted as if none of the policy's own rollbacks came
    first, which can only count too many. A healthy release whose log ends in ROLLBACK counts as a
    false alarm: nobody knows what the policy would have done later.

    Args:
        episodes: Episodes of groups that the policy was not trained on.
        evidence: What their observations carry.
        risk: Calibrated risk at every decision, shape (n_decisions,).
        rules: The pauses' rules.
        alpha: Bound on the expected share of a group's healthy releases rolled back, in 0..1.

    Returns:
        A risk of 0 or more; above every risk where none may be let through.

    Raises:
        DeployError: If the groups are too few for this alpha, or pauses alone break it.
    """
    healthy = episodes.labels == GOOD
    _, groups = np.unique(episodes.group_codes()[healthy], return_inverse=True)
    n_groups = int(groups.max(initial=-1)) + 1
    _require_enough(n_groups, alpha)
    share = 1.0 / np.bincount(groups)[groups]
    highest = _highest_own_rollback(episodes, evidence, risk)[healthy]
    anyhow = _rolled_back_anyhow(episodes, evidence, risk, rules)[healthy]

    # A group's loss as lambda falls: first the releases that are rolled back anyhow, then, from
    # the highest on, those that the policy rolls back.
    spent = (share[anyhow].sum() + 1) / (n_groups + 1)
    if spent > alpha + _ROUNDING:
        raise DeployError(
            f"alpha {alpha:g}: the fallbacks of pauses alone roll back "
            f"{share[anyhow].sum() / n_groups:.1%} of the healthy releases of these {n_groups} "
            f"groups; set pause_fallback to CONTINUE, or alpha to {_round_up(spent)} or more"
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


def _highest_own_rollback(episodes: Episodes, evidence: Evidence, risk: np.ndarray) -> np.ndarray:
    """Returns each release's highest risk where the policy prefers ROLLBACK, -inf if nowhere."""
    prefers = evidence.q_values.argmax(axis=1) == Action.ROLLBACK
    return np.maximum.reduceat(np.where(prefers, risk, -np.inf), episodes.canary_offsets[:-1])


def _rolled_back_anyhow(
    episodes: Episodes, evidence: Evidence, risk: np.ndarray, rules: PauseRules
) -> np.ndarray:
    """Returns which releases end in ROLLBACK by a fallback or in the log, bool (n_episodes,)."""
    if Action[rules.pause_fallback] != Action.ROLLBACK:
        return episodes.rolled_back.copy()
    wants = np.zeros(len(risk), dtype=bool)
    for action in Action:
        wants |= reasons_to_pause(rules, np.full(len(risk), action), risk, evidence) > 0
    starts = episodes.canary_offsets[:-1]
    running = running_length(wants, starts)
    falls = wants & ((running >= rules.pause_limit) | last_observations(episodes))
    return np.logical_or.reduceat(falls, starts) | episodes.rolled_back
