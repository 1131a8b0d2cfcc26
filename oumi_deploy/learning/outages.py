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

"""Outages to learn from, made from good releases: what anybody knows, and hardly any history shows.

Releases that fail so plainly are stopped before they leave a trace, or are so few that a Q-function
learns the rest from the hundreds that fail mildly. It then meets its first outage in production.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from oumi_deploy.episodes.packed import Episodes, concatenate
from oumi_deploy.episodes.schema import BAD, GOOD

_TENFOLD, _LEAST_ERRORS = 10.0, 0.05

_UNREADY = (0.0, 0.4)
_AT_LIMIT = {"memory_usage": (0.97, 1.1), "cpu_usage": (0.98, 2.0)}
"""Values of a metric with a limit of its own at which it has reached that."""

KINDS = ("error_rate", "health_score", *_AT_LIMIT)


def with_outages(episodes: Episodes, metrics: Sequence[str], share: float, seed: int) -> Episodes:
    """Returns the episodes with outages behind them, which are bad.

    Each is a good release in which something is plainly wrong from its first canary observation on:
    requests fail, pods are not ready, both, or memory or CPU is at its limit. All else, and the old
    version, is as that release had it. What begins later follows, for it is in order.

    Args:
        episodes: Labelled releases.
        metrics: What the state is made from; no other metric fails.
        share: Outages for each release, 0 or more.
        seed: Seed of which releases fail, and how much.
    """
    good = np.flatnonzero((episodes.labels == GOOD) & (episodes.canary_lengths > 0))
    known = [name for name in KINDS if name in metrics and name in episodes.numbers]
    # Twice the errors, for they matter most; the second time with the health, where it is known.
    together = [name for name in known if name not in _AT_LIMIT]
    kinds = [*([name] for name in known), *([together] if "error_rate" in known else [])]
    n_outages = round(share * len(episodes))
    if not (n_outages and kinds and len(good)):
        return episodes
    random = np.random.default_rng(seed)
    copies = episodes.select(random.choice(good, n_outages))
    kind = np.arange(n_outages) % len(kinds)
    of_decision = np.repeat(np.arange(n_outages), copies.canary_lengths)
    numbers = dict(copies.numbers)
    for name in KINDS:
        fails = np.array([name in one for one in kinds])[kind]
        rows = fails[of_decision]
        if rows.any():
            level = _levels(name, episodes, random, n_outages)
            numbers[name] = numbers[name].copy()
            numbers[name][copies.canary_rows[rows]] = level[of_decision[rows]]
    outages = replace(
        copies,
        ids=np.array([f"outage {i} of {id_}" for i, id_ in enumerate(copies.ids)], dtype=object),
        labels=np.full(n_outages, BAD, dtype=np.int8),
        rolled_back=np.zeros(n_outages, dtype=bool),
        numbers=numbers,
    )
    return concatenate([episodes, outages])


def outage_errors(usual: float) -> float:
    """Returns the error rate that is an outage where it stays: ten times the usual one, or 5 %."""
    return min(max(_TENFOLD * usual, _LEAST_ERRORS), 1.0)


def _levels(name: str, episodes: Episodes, random: np.random.Generator, n: int) -> np.ndarray:
    """Draws how bad a metric is, shape (n,)."""
    if name == "error_rate":
        least = outage_errors(float(np.nan_to_num(np.nanmedian(episodes.column(name)))))
        # Most of them near the least: what is worse than that follows, for it is in order.
        return np.minimum(least * _TENFOLD ** random.uniform(size=n), 1.0)
    return random.uniform(*_AT_LIMIT.get(name, _UNREADY), n)
