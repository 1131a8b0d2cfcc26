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

"""Evidence, built up observation by observation, that a new version is worse than the old one.

Each function gives the logarithm of a mixture likelihood ratio. Under the null hypothesis that the
version is no worse, the ratio is a supermartingale that starts at 1, so by Ville's inequality it
ever reaches 1/alpha with probability alpha at most, however often one looks.
"""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

RATE_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times more errors the mixture of the alternative expects, each with equal weight."""


def count_evidence(
    errors: np.ndarray,
    requests: np.ndarray,
    control_errors: np.ndarray,
    control_requests: np.ndarray,
    old_rate: np.ndarray,
    starts: np.ndarray,
) -> np.ndarray:
    """Compares error counts, after Lindon and Malek (2022), section 5.

    Of the errors that both versions make in an interval, the new one makes a share that depends on
    its requests and on the ratio of the rates alone, whatever the rate itself does in the meantime.
    Without a control the new version's errors are compared with the old version's rate. Counts are
    taken as Poisson; for binomial ones the test is conservative, as their conditional distribution
    is below in convex order and the likelihood ratio is convex in the count.

    Args:
        errors: Errors of the new version in each interval, shape (n,). NaN adds no evidence.
        requests: Its requests, likewise.
        control_errors: Errors of the old version at the same time, NaN where there is no control.
        control_requests: Its requests, likewise.
        old_rate: A rate that the old version does not pass, for intervals without control; NaN for
            none.
        starts: First interval of each release.

    Returns:
        Log evidence after each interval, shape (n,).
    """
    ratio = np.array(RATE_RATIOS)
    total = requests + control_requests
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(total[:, None] / (requests[:, None] * ratio + control_requests[:, None]))
    paired = (errors + control_errors)[:, None] * share
    alone = -(requests * old_rate)[:, None] * (ratio - 1)
    gained = errors[:, None] * np.log(ratio) + np.where(np.isnan(paired), alone, paired)
    gained = np.where(np.isfinite(gained), gained, 0.0)
    return logsumexp(running_sum(gained, starts), axis=1) - np.log(len(ratio))


def mean_evidence(score: np.ndarray, information: np.ndarray, effect: float) -> np.ndarray:
    """Compares means by a normal mixture (Robbins 1970), one-sided.

    The mixture of the alternative is half a normal distribution around zero.

    Args:
        score: Sum so far of differences, each over its variance, shape (n,).
        information: Sum so far of 1 / variance, 0 or more, shape (n,).
        effect: Standard deviation of the mixture, in the unit of the metric, above 0.

    Returns:
        Log evidence, shape (n,).
    """
    spread = effect / np.sqrt(1 + effect**2 * information)
    z = score * spread
    return np.log(2) + norm.logcdf(z) + z**2 / 2 + np.log(spread / effect)


def running_sum(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns sums over each release up to each row, of values of shape (n,) or (n, k)."""
    summed = np.cumsum(values, axis=0)
    lengths = np.diff([*starts, len(values)])
    before = np.concatenate([np.zeros_like(summed[:1]), summed])[starts]
    return summed - np.repeat(before, lengths, axis=0)
