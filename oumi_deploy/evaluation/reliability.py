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

"""Does a stated risk hold? Calibration error, Brier score and the reliability diagram.

One value a release: the risk at the observation where its rollout ended. The calibration error is
the mean distance between stated risk and share of bad releases in ten bins of equal filling
(Naeini et al. 2015, with equal-mass bins as in Nixon et al. 2019).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.metrics import drawn_sets, make_metric
from oumi_deploy.evaluation.scoring import Scores

N_BINS = 10

_SETS = 500
"""Sets drawn for the intervals; each is sorted into bins anew, which takes its time."""


@dataclass(frozen=True, eq=False)
class EndRisk:
    """What was stated of n releases when their rollouts ended, and what they were.

    Attributes:
        risk: Stated P(bad), shape (n,).
        bad: Whether they were, bool of shape (n,).
        groups: Codes of their groups, int of shape (n,).
    """

    risk: np.ndarray
    bad: np.ndarray
    groups: np.ndarray


def end_risk(scores: Scores, episodes: Episodes, risk: np.ndarray) -> EndRisk:
    """Returns the risk at the end of each scored rollout.

    Args:
        scores: Scores of whole rollouts, not of single observations.
        episodes: The episodes they are of.
        risk: Stated risk at every decision, shape (n_decisions,).
    """
    groups = episodes.group_codes()[scores.episode]
    return EndRisk(risk[scores.end], scores.bad, groups)


def reliability(ends: EndRisk, seed: int = 0) -> dict[str, Any]:
    """Returns how well the stated risks hold.

    The interval of the calibration error leans high: sets drawn with replacement are rougher than
    the releases they are drawn from.

    Returns:
        `calibration_error` and `brier`, each with its 95 % interval from resampling groups, and
        `bins`, from the lowest risk: `n` releases, their mean `risk`, the `bad` share among them
        and its interval `low` to `high`.
    """
    order = np.argsort(ends.risk, kind="stable")
    risk, bad = ends.risk[order], ends.bad[order].astype(float)
    _, groups = np.unique(ends.groups[order], return_inverse=True)
    n_groups = int(groups.max(initial=-1)) + 1
    once = _binned(np.ones((1, len(risk))), risk, bad)[0]
    sets = drawn_sets(n_groups, seed, _SETS)()
    drawn = [_binned(weights[:, groups], risk, bad) for weights in sets]
    sampled = np.concatenate(drawn) if drawn else np.empty((0, *once.shape))
    note = "nothing was scored"
    return {
        "calibration_error": make_metric(_error(once), _error(sampled), note, n_groups),
        "brier": make_metric(_brier(once), _brier(sampled), note, n_groups),
        "bins": _describe_bins(once, sampled),
    }


def _binned(weights: np.ndarray, risk: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Sums weight, risk, bad and squared error by bin, shape (n_sets, N_BINS, 4).

    Args:
        weights: How often each release is in each set, shape (n_sets, n), by rising risk.
        risk: Stated risk, shape (n,), rising.
        bad: 1 for bad, 0 for good, shape (n,).
    """
    reached = weights.cumsum(axis=1)
    total = np.maximum(reached[:, -1:], 1) if risk.size else np.ones((len(weights), 1))
    which = np.minimum((reached - weights / 2) / total * N_BINS, N_BINS - 1).astype(int)
    columns = (np.ones_like(risk), risk, bad, (risk - bad) ** 2)
    cell = (np.arange(len(weights))[:, None] * N_BINS + which).ravel()
    size = len(weights) * N_BINS
    sums = [np.bincount(cell, (weights * c).ravel(), minlength=size) for c in columns]
    return np.stack(sums, axis=1).reshape(len(weights), N_BINS, len(columns))


def _error(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
        return gaps / sums[..., 0].sum(axis=-1)


def _brier(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 3].sum(axis=-1) / sums[..., 0].sum(axis=-1)


def _describe_bins(once: np.ndarray, sampled: np.ndarray) -> list[dict[str, Any]]:
    bins = []
    for number, (n, risk, bad, _) in enumerate(once):
        if not n:
            continue
        filled = sampled[sampled[:, number, 0] > 0, number]
        share = filled[:, 2] / filled[:, 0]
        low, high = np.quantile(share, [0.025, 0.975]) if len(share) else (None, None)
        bins.append({"n": int(n), "risk": risk / n, "bad": bad / n, "low": low, "high": high})
    return [{k: v if v is None else float(v) for k, v in b.items()} for b in bins]
