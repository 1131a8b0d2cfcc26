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

"""The Mann-Whitney interval as Kayenta computes it, for many pairs of samples at once.

Kayenta follows R's `wilcox.test(x, y, conf.int = TRUE, exact = FALSE)`: the normal approximation,
with corrections for ties and continuity, is inverted for the shift between two samples by Brent's
search (`MannWhitney` and `BrentSolver` of spinnaker/spinnaker, kayenta/kayenta-mannwhitney). The
statistic is a staircase, and where on a step the search ends can decide the verdict: a library's
root finder ends elsewhere. So this is the same search, for all pairs in step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-4
"""Kayenta's search ends within this of the shift, in the unit of the metric."""

_MOST_STEPS = 1001


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of samples, with what the statistic needs of them.

    Attributes:
        x: Values of the new version, shape (n_pairs, longest x), NaN after a sample's end.
        y: Values of the old version, shape (n_pairs, longest y), likewise.
        n_x: Number of values in each x, float64 of shape (n_pairs,).
        n_y: Number of values in each y, likewise.
        times_x: How often each value stands in its sample, as `x`.
        times_y: The same, as `y`.
        ties: Sum of t^3 - t over the groups of t equal values within x and within y.
    """

    x: np.ndarray
    y: np.ndarray
    n_x: np.ndarray
    n_y: np.ndarray
    times_x: np.ndarray
    times_y: np.ndarray
    ties: np.ndarray

    def select(self, which: np.ndarray) -> "Pairs":
        """Returns some of the pairs."""
        return Pairs(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


def pair_up(x: np.ndarray, y: np.ndarray) -> Pairs:
    """Prepares pairs of samples, each padded with NaN; a NaN is no value."""
    times_x, times_y = _times(x), _times(y)
    return Pairs(
        x,
        y,
        n_x=np.count_nonzero(times_x, axis=1).astype(float),
        n_y=np.count_nonzero(times_y, axis=1).astype(float),
        times_x=times_x,
        times_y=times_y,
        ties=_excess(times_x) + _excess(times_y),
    )


def find_shift(pairs: Pairs, quantile: float) -> np.ndarray:
    """Returns the shift at which the statistic crosses a normal quantile.

    Quantile 0 gives the Hodges-Lehmann estimate, plus and minus the quantile of a confidence level
    the lower and the upper end of its interval.

    Args:
        pairs: Pairs without an empty sample, in each of which some value differs from another of
            its sample.
        quantile: The quantile.

    Returns:
        Shape (n_pairs,).
    """
    lowest, highest = gap(pairs, 1), -gap(pairs, -1)
    at_lowest = statistic(pairs, lowest) - quantile
    at_highest = statistic(pairs, highest) - quantile
    shift = np.where(at_lowest <= 0, lowest, highest)
    inside = np.flatnonzero((at_lowest > 0) & (at_highest < 0))
    some = pairs.select(inside)
    shift[inside] = _search(
        lambda which, at: statistic(some.select(which), at) - quantile,
        (lowest[inside], highest[inside]),
        (at_lowest[inside], at_highest[inside]),
    )
    return shift


def statistic(pairs: Pairs, shift: np.ndarray) -> np.ndarray:
    """Returns the standardised rank sum of x - shift among y, which falls with the shift.

    Args:
        pairs: Pairs as for `find_shift`.
        shift: Shape (n_pairs,).
    """
    above, equal = _compare(pairs, shift)
    # Groups of a and of b that meet are one group of a + b: 3ab(a + b) more, shared by ab pairs.
    pair, i, j = np.nonzero(equal)
    met = pairs.times_x[pair, i] + pairs.times_y[pair, j]
    ties = pairs.ties + 3 * np.bincount(pair, met, minlength=len(shift))
    n_equal = np.bincount(pair, minlength=len(shift))
    n = pairs.n_x + pairs.n_y
    excess = above + n_equal / 2 - pairs.n_x * pairs.n_y / 2
    variance = pairs.n_x * pairs.n_y / 12 * (n + 1 - ties / (n * (n - 1)))
    return (excess - np.sign(excess) / 2) / np.sqrt(variance)


def gap(pairs: Pairs, side: int) -> np.ndarray:
    """Returns how far x lies above (`side` 1) or below (-1) all of y, negative if it does not."""
    if side > 0:
        return np.nanmin(pairs.x, axis=1) - np.nanmax(pairs.y, axis=1)
    return np.nanmin(pairs.y, axis=1) - np.nanmax(pairs.x, axis=1)


def effect(pairs: Pairs) -> np.ndarray:
    """Returns the common-language effect size, the share of pairs of values in which x is higher.

    Equal values count half (Vargha and Delaney 2000). Shape (n_pairs,), 0..1.
    """
    above, equal = _compare(pairs, np.zeros(len(pairs.x)))
    return (above + np.count_nonzero(equal, axis=(1, 2)) / 2) / (pairs.n_x * pairs.n_y)


def _times(values: np.ndarray) -> np.ndarray:
    return (values[:, :, None] == values[:, None, :]).sum(axis=2)


def _excess(times: np.ndarray) -> np.ndarray:
    """Sums t^3 - t over groups of t equal values; each of the t stands for its share."""
    return np.where(times > 0, times**2 - 1, 0).sum(axis=1)


def _compare(pairs: Pairs, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many x - shift lie above a y, and which equal one."""
    shifted = (pairs.x - shift[:, None])[:, :, None]
    above = np.count_nonzero(shifted > pairs.y[:, None, :], axis=(1, 2))
    return above, shifted == pairs.y[:, None, :]


def _search(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ends: tuple[np.ndarray, np.ndarray],
    values: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Finds where functions change their sign, by Brent's method as `BrentSolver` has it.

    Args:
        function: Values of the functions numbered `which` (first argument) at points (second).
        ends: Two points of each function between which it changes its sign.
        values: The functions' values there.
    """
    found = np.empty(len(ends[0]))
    going = np.arange(len(found))
    (a, b), (fa, fb) = ends, values
    c, fc = a, fa
    for _ in range(_MOST_STEPS):
        previous = b - a
        swap = np.abs(fc) < np.abs(fb)
        a, b, c = np.where(swap, b, a), np.where(swap, c, b), np.where(swap, b, c)
        fa, fb, fc = np.where(swap, fb, fa), np.where(swap, fc, fb), np.where(swap, fb, fc)
        least = 2 * np.finfo(float).eps * np.abs(b) + TOLERANCE / 2
        step = (c - b) / 2
        done = (np.abs(step) <= least) | (fb == 0)
        found[going[done]] = b[done]
        if done.all():
            return found
        keep = ~done
        going, previous, least, step = going[keep], previous[keep], least[keep], step[keep]
        a, b, c, fa, fb, fc = (v[keep] for v in (a, b, c, fa, fb, fc))
        step = _interpolated(a, b, c, fa, fb, fc, previous, least, step)
        step = np.where(np.abs(step) < least, np.where(step > 0, least, -least), step)
        a, fa = b, fb
        b = b + step
        fb = function(going, b)
        same = ((fb > 0) & (fc > 0)) | ((fb < 0) & (fc < 0))
        c, fc = np.where(same, a, c), np.where(same, fa, fc)
    found[going] = b
    return found


def _interpolated(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    fa: np.ndarray,
    fb: np.ndarray,
    fc: np.ndarray,
    previous: np.ndarray,
    least: np.ndarray,
    step: np.ndarray,
) -> np.ndarray:
    """Returns the interpolated step where it may be taken, else the bisecting `step`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        width, ba, bc, ca = c - b, fb / fa, fb / fc, fa / fc
        linear = a == c
        p = np.where(linear, width * ba, ba * (width * ca * (ca - bc) - (b - a) * (bc - 1)))
        q = np.where(linear, 1 - ba, (ca - 1) * (bc - 1) * (ba - 1))
        q, p = np.where(p > 0, -q, q), np.abs(p)
        taken = (
            (np.abs(previous) >= least)
            & (np.abs(fa) > np.abs(fb))
            & (p < 0.75 * width * q - np.abs(least * q) / 2)
            & (p < np.abs(previous * q / 2))
        )
        return np.where(taken, p / q, step)
