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

"""Rules that look at the error rate alone: two constants, a threshold, a patient check."""

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.baselines.fitting import Context, Paid, Rule, best_setting
from oumi_deploy.policy.pauses import running_length
from oumi_deploy.problem.rewards import Action, Rewards


def always(episodes: Episodes, action: Action) -> np.ndarray:
    """Returns the same action at every decision, int of shape (n_decisions,)."""
    return np.full(int(episodes.canary_offsets[-1]), int(action))


def error_threshold(episodes: Episodes, threshold: float) -> np.ndarray:
    """Rolls back where `error_rate` reaches a threshold; a missing one does not."""
    return (error_rates(episodes) >= threshold).astype(int)


def best_threshold(episodes: Episodes, rewards: Rewards, paid: Paid = "reward") -> float:
    """Returns the error-rate threshold with the highest mean reward.

    Args:
        episodes: The episodes to fit it to.
        rewards: What decisions pay.
        paid: Whether the mean is of the rewards at the end alone (`reward`) or less what waiting
            costs (`reward_with_delay`).

    Raises:
        DeployError: If no episode can be scored.
    """
    errors = error_rates(episodes)
    known = errors[~np.isnan(errors)]
    candidates = np.unique(np.quantile(known, np.linspace(0, 1, 200))) if len(known) else []
    tried = ((float(t), error_threshold(episodes, t)) for t in [*candidates, np.inf])
    return best_setting(episodes, tried, rewards, paid)


def fit_threshold(episodes: Episodes, context: Context) -> Rule:
    """Fits the threshold for mean reward with delay."""
    threshold = best_threshold(episodes, context.rewards, "reward_with_delay")
    return lambda others: error_threshold(others, threshold)


def patient_check(
    episodes: Episodes, threshold: float = 0.02, failures: int = 2, silent: int = 5
) -> np.ndarray:
    """Rolls back after failed checks in a row, or when no error rate was reported for long.

    Args:
        episodes: The episodes.
        threshold: Error rate above which a check fails.
        failures: Observations in a row that must fail.
        silent: Observations in a row without an error rate that roll back too.
    """
    errors = error_rates(episodes)
    starts = episodes.canary_offsets[:-1]
    failed = running_length(errors > threshold, starts) >= failures
    quiet = running_length(np.isnan(errors), starts) >= silent
    return (failed | quiet).astype(int)


def error_rates(episodes: Episodes) -> np.ndarray:
    """Returns the error rate at every decision, NaN where it is missing."""
    return episodes.column("error_rate")[episodes.canary_rows]
