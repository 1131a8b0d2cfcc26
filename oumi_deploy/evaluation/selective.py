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

"""How wrong are decisions, if the most doubtful releases are left to a person?

The risk-coverage curve (El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017): releases are ordered
by the stated probability that their decision is wrong, the surest first, and of each share of them
the curve gives the share that was decided wrongly. A policy whose doubt knows where it errs has a
curve that rises to the right.
"""

from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.metrics import drawn_sets
from oumi_deploy.evaluation.scoring import Scores
from oumi_deploy.problem.rewards import Rewards

SHARES = np.arange(1, 21) / 20
"""Shares of decided releases at which the curve is given."""

_SETS = 500
"""Sets drawn for the intervals."""


def risk_coverage(
    scores: Scores, episodes: Episodes, risk: np.ndarray, rewards: Rewards, seed: int = 0
) -> dict[str, Any]:
    """Returns the curve, and where on it the policy stands.

    A release that was held counts with the decision that its risk would have led to.

    Args:
        scores: Scores of whole rollouts, at least one.
        episodes: The episodes they are of.
        risk: Stated risk at every decision, shape (n_decisions,).
        rewards: What decisions pay.
        seed: Seed of the intervals.

    Returns:
        `curve`, for each of SHARES the `error` among so many of the surest decisions and the ends
        `low` and `high` of its 95 % interval from resampling groups (None of one group); and `own`,
        the `share` that the policy decides and the `error` among these, None where it decides none.
    """
    at_end = risk[scores.end]
    rolled_back = np.where(scores.held, at_end > rewards.break_even(), scores.rolled_back)
    doubt = np.where(rolled_back, 1.0 - at_end, at_end)
    wrong = (rolled_back != scores.bad).astype(float)
    order = np.argsort(doubt, kind="stable")
    groups = episodes.group_codes()[scores.episode][order]
    _, groups = np.unique(groups, return_inverse=True)
    n_groups = int(groups.max()) + 1
    error = _of_equal_doubt(doubt[order], wrong[order])
    once = _curve(np.ones((1, len(error))), error)[0]
    low = high = np.full(len(SHARES), None)
    if n_groups > 1:
        drawn = drawn_sets(n_groups, seed, _SETS)()
        sampled = np.concatenate([_curve(weights[:, groups], error) for weights in drawn])
        low, high = np.quantile(sampled, [0.025, 0.975], axis=0)
    decided = ~scores.held
    return {
        "curve": [
            {"share": share, "error": value, "low": least, "high": most}
            for share, value, least, most in zip(SHARES, once, low, high, strict=True)
        ],
        "own": {
            "share": decided.mean(),
            "error": wrong[decided].mean() if decided.any() else None,
        },
    }


def _of_equal_doubt(doubt: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Returns the mean of `wrong` among releases of equal doubt: nothing tells them apart.

    Args:
        doubt: Rising, shape (n,).
        wrong: 1 for a wrong decision, 0 for a right one, shape (n,).
    """
    _, which, n = np.unique(doubt, return_inverse=True, return_counts=True)
    return (np.bincount(which, wrong) / n)[which]


def _curve(weights: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Returns the error among each share of the surest, shape (n_sets, len(SHARES)).

    Args:
        weights: How often each release is in each set, shape (n_sets, n), by rising doubt.
        error: Its expected error, shape (n,).
    """
    start = np.zeros((len(weights), 1))
    reached = np.concatenate([start, weights.cumsum(axis=1)], axis=1)
    wrong = np.concatenate([start, (weights * error).cumsum(axis=1)], axis=1)
    wanted = SHARES * reached[:, -1:]
    errors = [np.interp(w, n, e) for w, n, e in zip(wanted, reached, wrong, strict=True)]
    return np.array(errors) / wanted
