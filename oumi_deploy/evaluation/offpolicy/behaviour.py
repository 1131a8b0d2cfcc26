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

"""Logs as a behaviour policy would have left them, simulated from releases seen to their end.

A rollback hides what would have followed. From generated releases, whose whole course is known,
this makes the logs that a team would hold: cut at the behaviour policy's ROLLBACK, with the
probability of each decision written down.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.scoring import end_of_rollouts


def soft_error_rule(
    episodes: Episodes,
    *,
    threshold: float = 0.03,
    width: float = 0.01,
    least: float = 0.02,
    most: float = 0.1,
) -> NDArray[np.float64]:
    """Probability of ROLLBACK that rises with the newest error rate and is never 0 or 1.

    The rule is least + (most - least) / (1 + exp((threshold - error_rate) / width)). `least` is
    the exploration; `most` leaves even a failing release some chance to be seen to its end.

    Args:
        episodes: The episodes.
        threshold: Error rate at which the probability is halfway.
        width: How much more errors it takes to go from a half to three quarters of the way, > 0.
        least: Probability where there are no errors, or no error rate is known, 0..1.
        most: Probability that many errors come to, 0..1.

    Returns:
        Probabilities at each decision, shape (n_decisions,).
    """
    errors = episodes.column("error_rate")[episodes.canary_rows]
    # tanh(x / 2) / 2 + 1 / 2 is the logistic function, and does not overflow.
    rise = 0.5 + 0.5 * np.tanh((errors - threshold) / (2 * width))
    return least + (most - least) * np.where(np.isnan(errors), 0.0, rise)


def log_decisions(
    episodes: Episodes,
    rollback_probability: NDArray[np.float64],
    seed: int,
    *,
    hide_labels: bool = True,
) -> Episodes:
    """Draws what a behaviour policy decides, and cuts each episode where it rolls back.

    Args:
        episodes: Releases seen to their end.
        rollback_probability: P(ROLLBACK) at each decision, 0..1, shape (n_decisions,).
        seed: Seed of the draws.
        hide_labels: Whether nobody knows the label of what was rolled back.

    Returns:
        The log: `rolled_back` is set, and `propensity` is the probability of the logged action in
        each canary row.

    Raises:
        DeployError: If an episode already ends in ROLLBACK, or the probabilities are none.
    """
    chances = np.asarray(rollback_probability, dtype=np.float64)
    n_decisions = int(episodes.canary_offsets[-1])
    if chances.shape != (n_decisions,) or not ((chances >= 0) & (chances <= 1)).all():
        raise DeployError(
            f"rollback_probability: give a probability for each of the {n_decisions} decisions"
        )
    if episodes.rolled_back.any():
        name = episodes.ids[episodes.rolled_back][0]
        raise DeployError(
            f"episode {name} was rolled back, so how it went on is unknown: simulate logs from "
            "releases that were seen to their end"
        )
    stops = np.random.default_rng(seed).random(n_decisions) < chances
    ends = end_of_rollouts(stops.astype(int), episodes)
    rolled_back, kept_canary = stops[ends], ends - episodes.canary_offsets[:-1] + 1
    propensity = np.full(episodes.n_rows, np.nan)
    propensity[episodes.canary_rows] = np.where(stops, chances, 1 - chances)
    cut = _cut(episodes, episodes.baseline_lengths + kept_canary, propensity)
    labels = np.where(rolled_back & hide_labels, np.int8(UNKNOWN), episodes.labels)
    return dataclasses.replace(cut, labels=labels.astype(np.int8), rolled_back=rolled_back)


def _cut(episodes: Episodes, lengths: np.ndarray, propensity: np.ndarray) -> Episodes:
    """Returns the first rows of each episode, with a column of propensities."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(offsets[-1]) + np.repeat(episodes.offsets[:-1] - offsets[:-1], lengths)
    numbers = {**episodes.numbers, "propensity": propensity}
    return dataclasses.replace(
        episodes, offsets=offsets, numbers={n: v[rows] for n, v in numbers.items()}
    )
