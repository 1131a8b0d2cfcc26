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

"""Figures of merit with intervals from resampling groups.

Releases of one group are not independent, so whole groups are drawn with replacement (the
cluster bootstrap, Davison and Hinkley 1997, section 3.8) and the interval is the middle 95 % of
what the drawn sets give.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.scoring import Scores

RESAMPLES = 2000
"""Sets drawn, for up to 50,000 groups; of more, fewer are drawn and fewer are needed."""

_BLOCK = 4_000_000
"""Numbers held at a time while drawing."""

_TALLY = (
    "n",
    "tp",
    "fp",
    "fn",
    "tn",
    "reward",
    "reward_with_delay",
    "of_decided",
    "withheld",
    "share_rose",
    "held",
    "paused",
    "fell_back",
)

_RATIOS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "accuracy": (
        lambda t: t["tp"] + t["tn"],
        lambda t: t["n"] - t["held"],
        "nothing was decided",
    ),
    "precision": (lambda t: t["tp"], lambda t: t["tp"] + t["fp"], "nothing was rolled back"),
    "recall": (lambda t: t["tp"], lambda t: t["tp"] + t["fn"], "no bad release was scored"),
    "f1": (
        lambda t: 2 * t["tp"],
        lambda t: 2 * t["tp"] + t["fp"] + t["fn"],
        "no bad release was scored and nothing rolled back",
    ),
    "false_rollback_rate": (
        lambda t: t["fp"],
        lambda t: t["fp"] + t["tn"],
        "no good release was scored",
    ),
    "mean_reward": (lambda t: t["reward"], lambda t: t["n"], "nothing was scored"),
    "mean_reward_with_delay": (
        lambda t: t["reward_with_delay"],
        lambda t: t["n"],
        "nothing was scored",
    ),
    "mean_reward_with_delay_of_decided": (
        lambda t: t["of_decided"],
        lambda t: t["n"] - t["held"],
        "nothing was decided",
    ),
    "mean_reward_with_delay_withheld": (
        lambda t: t["withheld"],
        lambda t: t["n"],
        "nothing was scored",
    ),
    "share_watched_while_traffic_rose": (
        lambda t: t["share_rose"],
        lambda t: t["n"],
        "nothing was scored",
    ),
    "share_held": (lambda t: t["held"], lambda t: t["n"], "nothing was scored"),
    "share_ever_paused": (lambda t: t["paused"], lambda t: t["n"], "nothing was scored"),
    "share_ended_by_fallback": (lambda t: t["fell_back"], lambda t: t["n"], "nothing was scored"),
}

Metric = Mapping[str, Any]
"""`{"value", "low", "high"}`, and a `note` where one of them is None."""


def summarise(scores: Scores, episodes: Episodes, seed: int = 0) -> dict[str, Metric]:
    """Returns every figure with its 95 % interval.

    Args:
        scores: The scores.
        episodes: The episodes they are of, for their groups.
        seed: Seed of the resampling.
    """
    groups = episodes.group_codes()[scores.episode]
    _, groups = np.unique(groups, return_inverse=True)
    n_groups = int(groups.max(initial=-1)) + 1
    drawn = drawn_sets(n_groups, seed)
    tallies = _tally(scores, groups, n_groups)
    totals = dict(zip(_TALLY, tallies.sum(axis=0), strict=True))
    sampled = dict(zip(_TALLY, _resampled(drawn, tallies).T, strict=True))
    figures = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, (above, below, note) in _RATIOS.items():
            value = np.divide(above(totals), below(totals), dtype=np.float64)
            figures[name] = make_metric(value, above(sampled) / below(sampled), note, n_groups)
    caught = scores.bad & scores.rolled_back
    for name, unit in (("median_delay_steps", "steps"), ("median_delay_minutes", "minutes")):
        delays = getattr(scores, f"delay_{unit}")
        which = caught & ~np.isnan(delays)
        note = "no bad release was rolled back"
        if caught.any() and not which.any():
            note = "the episodes have no timestamps"
        value = np.median(delays[which]) if which.any() else np.nan
        medians = _resampled_medians(drawn, delays[which], groups[which])
        figures[name] = make_metric(value, medians, note, n_groups)
    return figures


def paired_gains(
    one: Scores, other: Scores, episodes: Episodes, seed: int = 0
) -> dict[str, Metric]:
    """Returns how much more `one` earns than `other` on the episodes that both have a score for.

    Releases differ more than policies do, so the difference is taken release by release before
    groups are resampled. `mean_reward_with_delay_of_decided` is that of the releases that `one`
    decides, whatever `other` does on them.
    """
    shared, mine, others = np.intersect1d(one.episode, other.episode, return_indices=True)
    groups = episodes.group_codes()[shared]
    all_of_them, decided = np.ones(len(shared), dtype=bool), ~one.held[mine]
    return {
        f"mean_{name}": _mean_of(
            (getattr(one, column)[mine] - getattr(other, column)[others])[which],
            groups[which],
            seed,
        )
        for name, column, which in (
            ("reward", "reward", all_of_them),
            ("reward_with_delay", "reward_with_delay", all_of_them),
            ("reward_with_delay_of_decided", "reward_with_delay", decided),
        )
    }


def _mean_of(values: np.ndarray, groups: np.ndarray, seed: int) -> Metric:
    """Returns the mean of values of shape (n,), with the interval of what drawn groups give."""
    if not len(values):
        return make_metric(np.nan, np.empty(0), "nothing was decided", 0)
    _, groups = np.unique(groups, return_inverse=True)
    n_groups = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, values), np.bincount(groups)], axis=1).astype(float)
    drawn = _resampled(drawn_sets(n_groups, seed), sums)
    sampled = drawn[:, 0] / drawn[:, 1]
    return make_metric(float(values.mean()), sampled, "nothing was scored", n_groups)


def point_figures(scores: Scores) -> dict[str, float]:
    """Returns the figures without intervals, NaN where undefined; cheap enough for training."""
    totals = dict(zip(_TALLY, _tally(scores, np.zeros(len(scores.bad), int), 1)[0], strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = {
            name: float(np.divide(above(totals), below(totals), dtype=np.float64))
            for name, (above, below, _) in _RATIOS.items()
        }
    caught = scores.bad & scores.rolled_back
    figures["median_delay_steps"] = (
        float(np.median(scores.delay_steps[caught])) if caught.any() else float("nan")
    )
    return figures


def _tally(scores: Scores, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Sums what the ratios are made of by group, shape (n_groups, len(_TALLY))."""
    bad, back, held = scores.bad, scores.rolled_back, scores.held
    columns = (
        np.ones(len(bad)),
        bad & back,
        ~bad & back,
        bad & ~back & ~held,
        ~bad & ~back & ~held,
        scores.reward,
        scores.reward_with_delay,
        scores.reward_with_delay * ~held,
        scores.withheld,
        scores.share_rose,
        held,
        scores.paused,
        scores.fell_back,
    )
    return np.stack([np.bincount(groups, weights=c, minlength=n_groups) for c in columns], axis=1)


def drawn_sets(n_groups: int, seed: int, n_sets: int = RESAMPLES) -> Callable[[], Any]:
    """Returns a function that yields, block by block, how often each group was drawn.

    Args:
        n_groups: Number of groups.
        seed: Seed of the draws: equal seeds draw equal sets.
        n_sets: Sets to draw, for up to 50,000 groups.

    Returns:
        A function without arguments whose blocks are int of shape (n_sets, n_groups).
    """
    if n_groups > 50_000:
        n_sets = max(200, n_sets * 50_000 // n_groups)
    block = max(1, _BLOCK // max(n_groups, 1))

    def draw() -> Any:
        random = np.random.default_rng(seed)
        for start in range(0, n_sets if n_groups else 0, block):
            size = min(block, n_sets - start)
            yield random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size)

    return draw


def _resampled(drawn: Callable[[], Any], tallies: np.ndarray) -> np.ndarray:
    blocks = [weights @ tallies for weights in drawn()]
    return np.concatenate(blocks) if blocks else np.empty((0, tallies.shape[1]))


def _resampled_medians(
    drawn: Callable[[], Any], delays: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Returns the median of each drawn set, NaN where it holds no delay."""
    if not len(delays):
        return np.empty(0)
    order = np.argsort(delays, kind="stable")
    values, groups = delays[order], groups[order]
    n_rows = max(1, _BLOCK // len(values))
    medians = []
    for weights in drawn():
        for at in range(0, len(weights), n_rows):
            reached = weights[at : at + n_rows, groups].cumsum(axis=1)
            n = reached[:, -1:]
            # The middle two of n values: the first whose count reaches n/2, and passes it.
            low = values[np.argmax(reached >= n / 2, axis=1)]
            high = values[np.argmax(reached > n / 2, axis=1)]
            medians.append(np.where(n[:, 0] > 0, (low + high) / 2, np.nan))
    return np.concatenate(medians)


def make_metric(value: Any, sampled: np.ndarray, note: str, n_groups: int) -> Metric:
    """Returns a figure with the interval of what the drawn sets give.

    Args:
        value: The figure, NaN where it is not defined.
        sampled: The figure of each drawn set.
        note: Why it is not defined, if it is not.
        n_groups: Number of groups; of one there is nothing to draw.
    """
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "note": note}
    defined = sampled[np.isfinite(sampled)]
    if n_groups < 2 or not len(defined):
        note = "one group only: there is nothing to resample"
        return {"value": float(value), "low": None, "high": None, "note": note}
    low, high = np.quantile(defined, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high)}


def told(metric: Metric, tell: str = ".3g", undefined: str = "-") -> str:
    """Returns a figure as text, its interval in brackets.

    Args:
        metric: The figure.
        tell: How a number is told: a format specification, as in `.3f` or `.1%`.
        undefined: What stands for a figure that is not defined.
    """
    if metric["value"] is None:
        return undefined
    if metric["low"] is None:
        return format(metric["value"], tell)
    return f"{metric['value']:{tell}} ({metric['low']:{tell}} to {metric['high']:{tell}})"
