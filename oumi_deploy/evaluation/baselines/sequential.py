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

"""A test that may be looked at after every observation: the mixture sequential test.

Sources: Lindon, Sanden and Shirikian, "Rapid regression detection in software deployments through
sequential testing", KDD 2022 (arXiv 2205.14762), for testing canaries so; Lindon and Malek,
"Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv 2011.03567), for counts;
Robbins, "Statistical methods related to the law of the iterated logarithm", 1970, for means. The
KDD paper compares distributions request by request; from one value an interval this tests rates
and means. Error rates are tested as counts where `requests` is known, else as means like all other
metrics. Of m metrics each gets alpha / m.

An interval in which a value or its reference is missing adds no evidence: a release that reports
nothing is never rolled back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import chi2

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD
from oumi_deploy.evaluation.baselines.evidence import count_evidence, mean_evidence, running_sum
from oumi_deploy.evaluation.baselines.fitting import Context, Rule, best_setting, some_episodes
from oumi_deploy.evaluation.baselines.signals import (
    WORSE_WHEN_HIGHER,
    baseline_rows,
    control_values,
    judged_metrics,
)

ALPHA = 0.05
ALPHAS = (0.2, 0.05, 0.01, 1e-3, 1e-5, 1e-8, 1e-12, 1e-20, 1e-40)
"""Levels tried: real metrics are neither independent nor normal, so the best can be far below."""

MOST_EPISODES = 2000
"""Training releases that metrics and level are picked on, drawn at random if there are more."""

_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Spread:
    """How far good releases lie from their reference: root mean squares, in the metric's unit.

    Attributes:
        control: From the old version at the same time, above 0.
        baseline: From the mean of the release's own baseline, above 0.
    """

    control: float
    baseline: float


def sequential_test(
    episodes: Episodes, spreads: dict[str, Spread], alpha: float = ALPHA
) -> np.ndarray:
    """Rolls back once the evidence against one of the metrics is enough.

    Args:
        episodes: The episodes.
        spreads: The metrics that are tested, with their spreads.
        alpha: Level, 0..1 exclusive: probability that a release which is no worse is ever rolled
            back, as far as the model holds.
    """
    found = np.zeros(int(episodes.canary_offsets[-1]), dtype=bool)
    for metric, spread in spreads.items():
        found |= _reaches(episodes, metric, spread, alpha / len(spreads))
    return found.astype(int)


def spreads_of(episodes: Episodes) -> dict[str, Spread]:
    """Returns the spread of each metric, over the canary rows of releases not known to be bad."""
    good = episodes.select(episodes.labels != BAD)
    return {
        metric: Spread(
            control=_root_mean_square(_values(good, metric) - control_values(good, metric)),
            baseline=_root_mean_square(_values(good, metric) - _baseline_mean(good, metric)[0]),
        )
        for metric in judged_metrics(episodes)
    }


def fit_default_test(episodes: Episodes, context: Context) -> Rule:
    """Takes the test of the error rate at level 0.05; only the spread is fitted."""
    spreads = _of_error_rate(spreads_of(episodes))
    return lambda others: sequential_test(others, spreads, ALPHA)


def fit_test(episodes: Episodes, context: Context) -> Rule:
    """Picks the metrics and the level for mean reward with delay, on MOST_EPISODES releases."""
    episodes = some_episodes(episodes, MOST_EPISODES, context.seed)
    spreads, alpha = best_setting(episodes, _tried(episodes), context.rewards)
    return lambda others: sequential_test(others, spreads, alpha)


def _tried(episodes: Episodes) -> Iterator[tuple[tuple[dict[str, Spread], float], np.ndarray]]:
    every = spreads_of(episodes)
    for spreads, alpha in product((_of_error_rate(every), every), ALPHAS):
        yield (spreads, alpha), sequential_test(episodes, spreads, alpha)


def _of_error_rate(spreads: dict[str, Spread]) -> dict[str, Spread]:
    return {metric: spread for metric, spread in spreads.items() if metric == "error_rate"}


def _reaches(episodes: Episodes, metric: str, spread: Spread, alpha: float) -> np.ndarray:
    if metric == "error_rate" and "requests" in episodes.numbers:
        # Half of alpha is for a baseline rate above its upper bound, half for the test.
        return _log_count_evidence(episodes, alpha / 2) >= -np.log(alpha / 2)
    return _log_mean_evidence(episodes, metric, spread) >= -np.log(alpha)


def _log_count_evidence(episodes: Episodes, alpha: float) -> np.ndarray:
    """Evidence from errors; the baseline's rate is passed with probability `alpha` at most."""
    rows = episodes.canary_rows
    requests = episodes.column("requests")
    errors = np.rint(episodes.column("error_rate") * requests)
    control_requests = _control_requests(episodes)
    control_errors = np.rint(control_values(episodes, "error_rate") * control_requests)
    known = baseline_rows(episodes) & ~np.isnan(errors)
    n_errors, n_requests = (_sum_of(v, known, episodes) for v in (errors, requests))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Upper bound of a Poisson rate (Garwood 1936).
        bound = chi2.isf(alpha, 2 * (n_errors + 1)) / (2 * n_requests)
    bound = np.where(n_requests > 0, bound, np.nan)
    return count_evidence(
        errors[rows],
        requests[rows],
        control_errors,
        control_requests,
        np.repeat(bound, episodes.canary_lengths),
        episodes.canary_offsets[:-1],
    )


def _control_requests(episodes: Episodes) -> np.ndarray:
    """The old version's requests; unless they are known, those that `canary_share` leaves it."""
    known = control_values(episodes, "requests")
    rows = episodes.canary_rows
    share = episodes.column("canary_share")[rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = episodes.column("requests")[rows] * (1 - share) / share
    return np.where(np.isnan(known), np.where(left > 0, left, np.nan), known)


def _log_mean_evidence(episodes: Episodes, metric: str, spread: Spread) -> np.ndarray:
    starts = episodes.canary_offsets[:-1]
    values, control = _values(episodes, metric), control_values(episodes, metric)
    sign = 1 if WORSE_WHEN_HIGHER[metric] else -1
    mean, n_baseline = _baseline_mean(episodes, metric)

    paired = ~np.isnan(values - control)
    score = running_sum(np.where(paired, values - control, 0.0), starts) / spread.control**2
    information = running_sum(paired.astype(float), starts) / spread.control**2

    # The rest shares one baseline mean, which is as uncertain as its length: n values against b
    # are worth nb / (n + b) independent differences.
    alone = ~paired & ~np.isnan(values - mean)
    n_alone = running_sum(alone.astype(float), starts)
    summed = running_sum(np.where(alone, values - mean, 0.0), starts)
    worth = n_baseline / np.maximum(n_alone + n_baseline, 1) / spread.baseline**2
    score, information = score + worth * summed, information + worth * n_alone
    return mean_evidence(sign * score, information, max(spread.control, spread.baseline))


def _values(episodes: Episodes, metric: str) -> np.ndarray:
    return episodes.column(metric)[episodes.canary_rows]


def _baseline_mean(episodes: Episodes, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each release's baseline and how many values it is of, at every decision."""
    values = episodes.column(metric)
    known = baseline_rows(episodes) & ~np.isnan(values)
    count = _sum_of(np.ones(len(values)), known, episodes)
    total = _sum_of(values, known, episodes)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.repeat(mean, episodes.canary_lengths), np.repeat(count, episodes.canary_lengths)


def _sum_of(values: np.ndarray, which: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Sums some rows of each release, shape (n_episodes,)."""
    return np.add.reduceat(np.where(which, values, 0.0), episodes.offsets[:-1])


def _root_mean_square(differences: np.ndarray) -> float:
    known = differences[~np.isnan(differences)]
    return max(float(np.sqrt(np.mean(known**2))), _LEAST_SPREAD) if len(known) else _LEAST_SPREAD
