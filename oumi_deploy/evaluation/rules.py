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

"""Rules without learning that a policy must beat: two constants, a threshold, a patient check."""

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.problem.rewards import Action, Rewards


def always(episodes: Episodes, action: Action) -> np.ndarray:
    """Returns the same action at every decision, int of shape (n_decisions,)."""
    return np.full(int(episodes.canary_offsets[-1]), int(action))


def error_threshold(episodes: Episodes, threshold: float) -> np.ndarray:
    """Rolls back where `error_rate` reaches a threshold; a missing one does not."""
    return (_errors(episodes) >= threshold).astype(int)


def best_threshold(episodes: Episodes, rewards: Rewards) -> float:
    """Returns the error-rate threshold with the highest mean reward.

    Args:
        episodes: The episodes to fit it to.
        rewards: What decisions pay.
    """
    errors = _errors(episodes)
    known = errors[~np.isnan(errors)]
    candidates = np.unique(np.quantile(known, np.linspace(0, 1, 200))) if len(known) else []
    candidates = [*candidates, np.inf]
    values = [
        score(episodes, error_threshold(episodes, t), rewards).reward.sum() for t in candidates
    ]
    return float(candidates[int(np.argmax(values))])


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
    errors = _errors(episodes)
    starts = episodes.canary_offsets[:-1]
    failed = _running_length(errors > threshold, starts) >= failures
    quiet = _running_length(np.isnan(errors), starts) >= silent
    return (failed | quiet).astype(int)


def _errors(episodes: Episodes) -> np.ndarray:
    return episodes.column("error_rate")[episodes.canary_rows]


def _running_length(marks: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns how many marks in a row end at each decision, within its episode."""
    index = np.arange(len(marks))
    breaks = np.where(marks, -1, index)
    breaks[starts] = np.where(marks[starts], starts - 1, starts)
    return index - np.maximum.accumulate(breaks)
