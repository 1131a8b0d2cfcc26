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

"""What came of a policy's decisions: false alarms, delay, and results by kind of release."""

from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.metrics import Metric, drawn_sets, make_metric
from oumi_deploy.evaluation.scoring import Scores
from oumi_deploy.policy.policy import DeploymentPolicy

BREAKDOWNS = ("fault_type", "service", "telemetry")
"""Text columns by which results are told apart, where they are there."""

ALPHAS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Bounds on false alarms that a reader may think of."""

_NONE_GOOD = "no good release was scored"


def false_alarms(
    policy: DeploymentPolicy, episodes: Episodes, scores: Scores, seed: int
) -> dict[str, Any]:
    """Returns how many healthy releases are rolled back, beside the bound.

    Returns:
        `alpha` of the policy, or None; `n_groups` with healthy releases; `share` rolled back of
        all of them, those held included, as mean over groups (what alpha bounds) and
        `share_of_releases`, each with the part that ended `by_fallback` of a pause; `supported`,
        for each of ALPHAS the `n_groups` that it needs and whether these are `enough`.
    """
    good = ~scores.bad
    _, groups = np.unique(episodes.group_codes()[scores.episode][good], return_inverse=True)
    n_groups = int(groups.max(initial=-1)) + 1
    back, fallen = scores.rolled_back[good], (scores.rolled_back & scores.fell_back)[good]
    calibration = policy.calibration
    return {
        "alpha": None if calibration is None else calibration.alpha,
        "n_groups": n_groups,
        "share": _mean_over_groups(back, groups, n_groups, seed),
        "share_by_fallback": _mean_over_groups(fallen, groups, n_groups, seed),
        "share_of_releases": _mean_over_releases(back, groups, seed),
        "share_of_releases_by_fallback": _mean_over_releases(fallen, groups, seed),
        "supported": [
            {"alpha": a, "n_groups": needed, "enough": n_groups >= needed}
            for a in ALPHAS
            for needed in [round(1 / a) - 1]
        ],
    }


def _mean_over_groups(values: np.ndarray, groups: np.ndarray, n_groups: int, seed: int) -> Metric:
    shares = np.bincount(groups, values) / np.bincount(groups)
    return _ratio(shares, np.ones(n_groups), seed)


def _mean_over_releases(values: np.ndarray, groups: np.ndarray, seed: int) -> Metric:
    return _ratio(np.bincount(groups, values), np.bincount(groups), seed)


def _ratio(above: np.ndarray, below: np.ndarray, seed: int) -> Metric:
    """Returns sum(above) / sum(below) over groups, with the interval of what drawn sets give."""
    n_groups = len(below)
    if not n_groups:
        return make_metric(np.nan, np.empty(0), _NONE_GOOD, 0)
    drawn = [(weights @ above) / (weights @ below) for weights in drawn_sets(n_groups, seed)()]
    return make_metric(above.sum() / below.sum(), np.concatenate(drawn), _NONE_GOOD, n_groups)


def delay(scores: Scores) -> dict[str, Any]:
    """Returns how long bad releases stood before they were rolled back.

    Returns:
        `unit`, minutes where all of them have timestamps, else steps; the `delays` that occur,
        rising, with `n` releases each and the `share` of all bad releases rolled back by then;
        `n_bad` releases, `n_caught` of them and `n_held` of them; the `median` delay of those
        caught.
    """
    caught = scores.bad & scores.rolled_back
    is_timed = bool(caught.any()) and not np.isnan(scores.delay_minutes[caught]).any()
    delays = _delays(scores, caught, is_timed)
    at, n = np.unique(delays, return_counts=True)
    n_bad = int(scores.bad.sum())
    return {
        "unit": "minutes" if is_timed else "steps",
        "delays": at,
        "n": n,
        "share": np.cumsum(n) / max(n_bad, 1),
        "n_bad": n_bad,
        "n_caught": len(delays),
        "n_held": int((scores.bad & scores.held).sum()),
        "median": np.median(delays) if len(delays) else None,
    }


def _delays(scores: Scores, which: np.ndarray, is_timed: bool) -> np.ndarray:
    return (scores.delay_minutes if is_timed else scores.delay_steps)[which]


def breakdown(episodes: Episodes, scores: Scores, column: str) -> list[dict[str, Any]]:
    """Returns results by the words of a text column, the most frequent first.

    Returns:
        One entry a word: its `name` (None where the column is empty), `n` scored releases; `n_bad`
        and how many were `caught` and `bad_held`; `n_good` and how many were `disturbed`, that is
        rolled back, and `good_held`;
        `median_delay` of those caught, in the unit of `delay`; `mean_reward` and
        `mean_reward_with_delay`. Nothing where the column is not there or empty throughout.
    """
    words = episodes.texts.get(column, np.full(len(episodes), None))[scores.episode]
    named = sorted({str(word) for word in words if word is not None})
    if not named:
        return []
    is_timed = delay(scores)["unit"] == "minutes"
    codes = {word: code for code, word in enumerate(named)}
    of = np.array([len(named) if word is None else codes[str(word)] for word in words])
    order = np.argsort(of, kind="stable")
    parts = np.split(order, np.searchsorted(of[order], np.arange(1, len(named) + 1)))
    rows = [
        _describe_part(name, part, scores, is_timed)
        for name, part in zip([*named, None], parts, strict=True)
        if len(part)
    ]
    return sorted(rows, key=lambda row: -row["n"])


def _describe_part(
    name: str | None, part: np.ndarray, scores: Scores, is_timed: bool
) -> dict[str, Any]:
    bad, back, held = scores.bad[part], scores.rolled_back[part], scores.held[part]
    delays = _delays(scores, part[bad & back], is_timed)
    return {
        "name": name,
        "n": len(part),
        "n_bad": int(bad.sum()),
        "caught": int((bad & back).sum()),
        "bad_held": int((bad & held).sum()),
        "n_good": int((~bad).sum()),
        "disturbed": int((~bad & back).sum()),
        "good_held": int((~bad & held).sum()),
        "median_delay": np.median(delays) if len(delays) else None,
        "mean_reward": scores.reward[part].mean(),
        "mean_reward_with_delay": scores.reward_with_delay[part].mean(),
    }
