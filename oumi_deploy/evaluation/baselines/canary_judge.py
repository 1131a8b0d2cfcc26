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

"""Kayenta's judge asked after every observation, on the data so far.

A team has it run every few minutes and stops the canary once the score is below the marginal
threshold (75 in its examples). The control is the old version's series so far
(`control_<metric>`) once it has reported anything, until then the release's own baseline rows. The
judge knows no "too early": from the second value on it may find a metric High, which is why
Kayenta's users give it a warm-up. A metric without a value on either side is Nodata, and half the
metrics without data is a score of 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.baselines import kayenta
from oumi_deploy.evaluation.baselines.fitting import Context, Rule, best_setting, some_episodes
from oumi_deploy.evaluation.baselines.signals import WORSE_WHEN_HIGHER, judged_metrics

MOST_EPISODES = 500
"""Training releases that the settings are picked on, drawn at random if there are more."""

_AT_ONCE = 500
"""Decisions judged at a time."""


@dataclass(frozen=True)
class JudgeSettings:
    """How the judge is set up.

    Attributes:
        metrics: The metrics it compares.
        effect: Effect size that High and Low need.
        remove_outliers: Whether `outliers.strategy` is `remove`.
        pass_score: Score 0..100 below which the release is rolled back.
        warm_up: Observations before its first verdict.
    """

    metrics: tuple[str, ...]
    effect: kayenta.Effect = field(default_factory=kayenta.Effect)
    remove_outliers: bool = False
    pass_score: float = 75.0
    warm_up: int = 0


EFFECTS = (
    kayenta.Effect(),
    kayenta.Effect("meanRatio", 1.5, 1 / 1.5),
    kayenta.Effect("meanRatio", 3.0, 1 / 3.0),
    kayenta.Effect("cles", 0.7, 0.3),
    kayenta.Effect("cles", 0.9, 0.1),
)
PASS_SCORES = (95.0, 75.0, 50.0)
WARM_UPS = (0, 2, 4, 9)


def kayenta_judge(episodes: Episodes, settings: JudgeSettings) -> np.ndarray:
    """Rolls back once the judge's score is below the pass score, after the warm-up."""
    found = _compare_all(episodes, settings.metrics, settings.remove_outliers)
    return _decide(episodes, found, settings)


def fit_default_judge(episodes: Episodes, context: Context) -> Rule:
    """Takes the judge as Kayenta's examples set it up, with every metric that there is."""
    settings = JudgeSettings(judged_metrics(episodes))
    return lambda others: kayenta_judge(others, settings)


def fit_judge(episodes: Episodes, context: Context) -> Rule:
    """Picks the settings for mean reward with delay, on at most MOST_EPISODES releases."""
    episodes = some_episodes(episodes, MOST_EPISODES, context.seed)
    setting = best_setting(episodes, _tried(episodes), context.rewards)
    return lambda others: kayenta_judge(others, setting)


def _tried(episodes: Episodes) -> Iterator[tuple[JudgeSettings, np.ndarray]]:
    every = judged_metrics(episodes)
    sets = dict.fromkeys((every, tuple(m for m in every if m == "error_rate")))
    for remove_outliers in (False, True):
        found = _compare_all(episodes, every, remove_outliers)
        for metrics, effect, pass_score, warm_up in product(sets, EFFECTS, PASS_SCORES, WARM_UPS):
            settings = JudgeSettings(metrics, effect, remove_outliers, pass_score, warm_up)
            yield settings, _decide(episodes, found, settings)


def _decide(
    episodes: Episodes, found: dict[str, kayenta.Comparison], settings: JudgeSettings
) -> np.ndarray:
    seen = episodes.canary_steps
    if not settings.metrics:
        return np.zeros(len(seen), dtype=int)
    verdicts = [kayenta.classify(found[metric], settings.effect) for metric in settings.metrics]
    failed = kayenta.score(np.stack(verdicts, axis=1)) < settings.pass_score
    return (failed & (seen >= settings.warm_up)).astype(int)


def _compare_all(
    episodes: Episodes, metrics: tuple[str, ...], remove_outliers: bool
) -> dict[str, kayenta.Comparison]:
    """Compares each metric at every decision."""
    # Decisions of like length stand together, so that few samples need padding.
    order = np.argsort(episodes.canary_steps, kind="stable")
    back = np.argsort(order)
    chunks = [order[at : at + _AT_ONCE] for at in range(0, len(order), _AT_ONCE)]
    found = {}
    for metric in metrics:
        higher = WORSE_WHEN_HIGHER[metric]
        parts = [
            kayenta.compare(
                *_samples(episodes, metric, chunk),
                increase=higher,
                decrease=not higher,
                remove_outliers=remove_outliers,
            )
            for chunk in chunks
        ]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])[back]
            for name in kayenta.Comparison.__dataclass_fields__
        }
        found[metric] = kayenta.Comparison(**joined)
    return found


def _samples(
    episodes: Episodes, metric: str, decisions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a metric and its control have shown up to some decisions, NaN at the end."""
    of = np.searchsorted(episodes.canary_offsets, decisions, side="right") - 1
    seen = decisions - episodes.canary_offsets[of] + 1
    first = episodes.offsets[of] + episodes.baseline_lengths[of]
    old = episodes.column(f"control_{metric}")
    control = _stretch(old, first, seen)
    before = _stretch(episodes.column(metric), episodes.offsets[of], episodes.baseline_lengths[of])
    width = max(control.shape[1], before.shape[1])
    control, before = (
        np.pad(v, ((0, 0), (0, width - v.shape[1])), constant_values=np.nan)
        for v in (control, before)
    )
    reported = ~np.isnan(control).all(axis=1, keepdims=True)
    new = _stretch(episodes.column(metric), first, seen)
    return new, np.where(reported, control, before)


def _stretch(values: np.ndarray, first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns stretches of a column, shape (n, longest), NaN after the end of each."""
    at = np.arange(lengths.max(initial=0))[None, :]
    inside = at < lengths[:, None]
    return np.where(inside, values[np.where(inside, first[:, None] + at, 0)], np.nan)
