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

"""Kayenta's judge, verdict for verdict.

Source: `NetflixACAJudge`, `MannWhitneyClassifier`, `IQRDetector`, `EffectSizes` and
`WeightedSumScorer` of spinnaker/spinnaker, folder kayenta/kayenta-judge (Apache-2.0), and "How
canary judgment works" of Spinnaker's documentation. A metric is High or Low if the 98 % interval of
the shift lies beyond a quarter of the Hodges-Lehmann estimate, and the effect is large enough.

A missing value is left out (`nanStrategy: remove`); Kayenta's other strategy, to read it as zero,
is not offered. Where Kayenta's own answer is a matter of chance, this one is always the same: two
constant samples get noise, and whether one value on either side is an error turns on rounding.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.stats import norm

from oumi_deploy.evaluation.baselines import mann_whitney

CONFIDENCE = 0.98
_QUANTILE = float(norm.ppf(0.5 + CONFIDENCE / 2))

BAND = 0.25
"""Tolerance, as a share of the Hodges-Lehmann estimate."""

NODATA_SHARE = 0.5
"""Share of metrics without data from which on the score is 0."""

_NOISE = np.random.default_rng(0).standard_normal((2, 100_000)) * 1e-5
"""Kayenta's noise for two constant samples, drawn once so that a verdict can be repeated."""


class Verdict(IntEnum):
    """What a metric is classified as."""

    PASS = 0
    HIGH = 1
    LOW = 2
    NODATA = 3
    ERROR = 4


@dataclass(frozen=True)
class Effect:
    """An effect size and how large it must be; one that cannot be computed is not asked for.

    Attributes:
        measure: `meanRatio`, the ratio of the means, or `cles`, the common-language effect size.
        increase: Least effect of a High metric.
        decrease: Greatest effect of a Low metric.
    """

    measure: str = "meanRatio"
    increase: float = 1.0
    decrease: float = 1.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the comparison of pairs of samples found, one entry a pair.

    Attributes:
        settled: Verdict where no test was needed, or possible; -1 where the test decides.
        high: Whether the interval lies above the band.
        low: Whether it lies below it.
        mean_ratio: Ratio of the means where either is so, NaN if one of the means is zero.
        cles: Common-language effect size where either is so, 0..1.
    """

    settled: np.ndarray
    high: np.ndarray
    low: np.ndarray
    mean_ratio: np.ndarray
    cles: np.ndarray


def compare(
    experiment: np.ndarray,
    control: np.ndarray,
    *,
    increase: bool = True,
    decrease: bool = True,
    remove_outliers: bool = False,
) -> Comparison:
    """Compares pairs of samples.

    Args:
        experiment: Values of the new version, shape (n_pairs, longest), NaN where missing.
        control: Values of the old version, likewise.
        increase: Whether High is a failure, as for an error rate.
        decrease: Whether Low is a failure.
        remove_outliers: Whether `outliers.strategy` is `remove`.
    """
    experiment, control = (_at_least_one_wide(v) for v in (experiment, control))
    if remove_outliers:
        experiment, control = without_outliers(experiment), without_outliers(control)
    silent = np.isnan(experiment).all(axis=1) | np.isnan(control).all(axis=1)
    settled = np.where(silent, int(Verdict.NODATA), -1)
    settled[~silent & _identical(experiment, control)] = Verdict.PASS
    experiment, control = _with_noise(experiment, control)
    # Where noise changes nothing, all values are tied at every shift that is tried.
    settled[(settled < 0) & _constant(experiment) & _constant(control)] = Verdict.ERROR

    tested = np.flatnonzero(settled < 0)
    pairs = mann_whitney.pair_up(experiment[tested], control[tested])
    high, low = (np.zeros(len(settled), dtype=bool) for _ in range(2))
    high[tested] = increase and _above_band(pairs)
    low[tested] = decrease and _below_band(pairs)
    found = (high | low)[tested]
    mean_ratio, cles = (np.full(len(settled), np.nan) for _ in range(2))
    mean_ratio[tested[found]] = _mean_ratio(pairs.select(found))
    cles[tested[found]] = mann_whitney.effect(pairs.select(found))
    return Comparison(settled, high, low, mean_ratio, cles)


def classify(found: Comparison, effect: Effect) -> np.ndarray:
    """Returns the `Verdict` of each pair, int of shape (n_pairs,)."""
    size = found.cles if effect.measure == "cles" else found.mean_ratio
    unknown = np.isnan(size)
    high = found.high & (unknown | (size >= effect.increase))
    low = found.low & (unknown | (size <= effect.decrease))
    tested = np.where(high, int(Verdict.HIGH), np.where(low, int(Verdict.LOW), int(Verdict.PASS)))
    return np.where(found.settled >= 0, found.settled, tested)


def score(verdicts: np.ndarray) -> np.ndarray:
    """Returns the judge's score of metrics that form one group.

    Args:
        verdicts: `Verdict` of each metric, int of shape (n, n_metrics).

    Returns:
        Score 0..100 of shape (n,): the share of metrics that pass among those that were judged;
        0 if half of all or more have no data, 100 if none was judged otherwise.
    """
    passed = (verdicts == Verdict.PASS).sum(axis=1)
    judged = passed + ((verdicts == Verdict.HIGH) | (verdicts == Verdict.LOW)).sum(axis=1)
    share = np.where(judged > 0, 100 * passed / np.maximum(judged, 1), 100.0)
    n_silent = (verdicts == Verdict.NODATA).sum(axis=1)
    too_silent = (n_silent > 0) & (n_silent >= NODATA_SHARE * verdicts.shape[1])
    return np.where(too_silent, 0.0, np.round(share, 2))


def without_outliers(values: np.ndarray, factor: float = 3.0) -> np.ndarray:
    """Returns samples with outliers missing.

    An outlier lies more than `factor` interquartile ranges beyond the quartiles, and beyond the 1st
    or the 99th percentile too.

    Args:
        values: Shape (n_samples, longest), NaN where missing.
        factor: Interquartile ranges.
    """
    lowest, quarter, three_quarters, highest = _percentiles(values, (0.01, 0.25, 0.75, 0.99))
    fence = factor * (three_quarters - quarter)
    below = np.minimum(lowest, quarter - fence)[:, None]
    above = np.maximum(highest, three_quarters + fence)[:, None]
    return np.where((values < below) | (values > above), np.nan, values)


def _percentiles(values: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Percentiles between the two nearest values, as R's type 7, NaN of an empty sample."""
    ordered = np.sort(values, axis=1)
    last = np.isfinite(values).sum(axis=1) - 1
    rows = np.arange(len(values))
    found = []
    for share in shares:
        place = np.maximum(last * share, 0)
        floor = np.floor(place).astype(int)
        low, high = ordered[rows, floor], ordered[rows, np.minimum(floor + 1, np.maximum(last, 0))]
        found.append(low + (place - floor) * (high - low))
    return found


def _at_least_one_wide(values: np.ndarray) -> np.ndarray:
    return values if values.shape[1] else np.full((len(values), 1), np.nan)


def _identical(experiment: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Returns where both samples hold the same values, or one value throughout."""
    width = max(experiment.shape[1], control.shape[1])
    both = [np.pad(v, ((0, 0), (0, width - v.shape[1])), constant_values=np.nan) for v in
            (experiment, control)]  # fmt: skip
    same = (_equal_or_missing(*(np.sort(v, axis=1) for v in both))).all(axis=1)
    joined = np.concatenate(both, axis=1)
    return same | _constant(joined)


def _equal_or_missing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one == other) | (np.isnan(one) & np.isnan(other))


def _constant(values: np.ndarray) -> np.ndarray:
    """Returns where a sample has one value throughout."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return filled.max(axis=1) == np.where(np.isnan(values), np.inf, values).min(axis=1)


def _with_noise(experiment: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adds noise, a hundred-thousandth of the value, where both samples are constant."""
    constant = (_constant(experiment) & _constant(control))[:, None]
    noisy = (
        np.where(constant, v * (1 + noise[: v.shape[1]]), v)
        for v, noise in zip((experiment, control), _NOISE, strict=True)
    )
    return next(noisy), next(noisy)


def _above_band(pairs: mann_whitney.Pairs) -> np.ndarray:
    """Returns where the lower end of the interval lies above the band."""
    return _beyond_band(pairs, side=1)


def _below_band(pairs: mann_whitney.Pairs) -> np.ndarray:
    """Returns where the upper end of the interval lies below the band."""
    return _beyond_band(pairs, side=-1)


def _beyond_band(pairs: mann_whitney.Pairs, side: int) -> np.ndarray:
    beyond = np.zeros(len(pairs.x), dtype=bool)
    # The statistic falls with the shift, so it tells on which side of zero the end lies, except
    # within what the search may be out by. Samples too small for the quantile have the gap between
    # them as their end. Few pairs are left to search in.
    nearly_zero = np.full(len(pairs.x), -side * 2 * mann_whitney.TOLERANCE)
    apart = mann_whitney.gap(pairs, side) > 0
    possible = apart | (side * mann_whitney.statistic(pairs, nearly_zero) > _QUANTILE)
    some = pairs.select(possible)
    end = mann_whitney.find_shift(some, side * _QUANTILE)
    estimate = mann_whitney.find_shift(some, 0.0)
    beyond[possible] = side * end > BAND * np.abs(estimate)
    return beyond


def _mean_ratio(pairs: mann_whitney.Pairs) -> np.ndarray:
    new, old = (np.nansum(v, axis=1) / n for v, n in ((pairs.x, pairs.n_x), (pairs.y, pairs.n_y)))
    undefined = (new == 0) | (old == 0)
    return np.where(undefined, np.nan, new / np.where(undefined, 1, old))
