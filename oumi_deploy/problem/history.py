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

"""Running summaries of many episodes at once, one observation at a time.

Training encodes a whole data set and production one observation of one rollout; both go through
`Memory.observe`, so they cannot differ, and nothing can look ahead.
"""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(eq=False)
class Memory:
    """What is remembered of n episodes and m metrics.

    Attributes:
        n_canary: Canary observations so far, shape (n, 1).
        start: Time of the first canary observation in minutes, shape (n, 1), NaN if unknown.
        base_count: Baseline observations with a value, shape (n, m); so for all below.
        base_sum: Sum of the baseline values.
        count: Canary observations with a value.
        total: Sum of the values.
        peak: Largest value, -inf before the first.
        timed_count: Canary observations with a value and a time.
        timed_total: Sum of their values.
        time_sum: Sum of their times, in minutes.
        time_square: Sum of their times' squares.
        time_value: Sum of time times value.
        gap_count: Canary observations with a value of the old version too.
        gap_sum: Sum of the differences to the old version.
        unmatched_count: Canary observations with a value of the old version alone.
    """

    n_canary: np.ndarray
    start: np.ndarray
    base_count: np.ndarray
    base_sum: np.ndarray
    count: np.ndarray
    total: np.ndarray
    peak: np.ndarray
    timed_count: np.ndarray
    timed_total: np.ndarray
    time_sum: np.ndarray
    time_square: np.ndarray
    time_value: np.ndarray
    gap_count: np.ndarray
    gap_sum: np.ndarray
    unmatched_count: np.ndarray

    @classmethod
    def empty(cls, n_episodes: int, n_metrics: int) -> "Memory":
        """Returns the memory of episodes that have not begun."""
        memory = cls(*(np.zeros((n_episodes, n_metrics)) for _ in fields(cls)))
        memory.n_canary = np.zeros((n_episodes, 1))
        memory.start = np.full((n_episodes, 1), np.nan)
        memory.peak.fill(-np.inf)
        return memory

    def first(self, n_episodes: int) -> "Memory":
        """Returns a view of the first episodes; what is observed there is remembered here."""
        return Memory(*(getattr(self, f.name)[:n_episodes] for f in fields(self)))

    def observe_baseline(self, values: np.ndarray) -> None:
        """Takes in one baseline observation, values of shape (n, m), NaN where missing."""
        known = ~np.isnan(values)
        self.base_count += known
        self.base_sum += np.where(known, values, 0.0)

    def observe(
        self, values: np.ndarray, control: np.ndarray, minute: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Takes in one canary observation and returns the history it leads to.

        Args:
            values: The metrics, shape (n, m), NaN where missing.
            control: The old version's metrics, shape (n, m), NaN where missing.
            minute: Time in minutes, shape (n, 1), NaN where unknown.

        Returns:
            By kind, features of shape (n, m), clocks of shape (n, 1); NaN where not defined.
        """
        first = self.n_canary == 0
        self.start[first] = minute[first]
        elapsed = minute - self.start
        # Without a first time the episode has none; where only this one is missing, the
        # observation has no place in time.
        time = np.where(np.isnan(self.start), self.n_canary, elapsed)
        steps = self.n_canary.copy()
        self.n_canary += 1

        known = ~np.isnan(values)
        filled = np.where(known, values, 0.0)
        self.count += known
        self.total += filled
        np.fmax(self.peak, values, out=self.peak)
        timed = known & ~np.isnan(time)
        when = np.where(timed, time, 0.0)
        self.timed_count += timed
        self.timed_total += np.where(timed, filled, 0.0)
        self.time_sum += when
        self.time_square += when * when
        self.time_value += when * filled
        gap = values - control
        paired = ~np.isnan(gap)
        self.gap_count += paired
        self.gap_sum += np.where(paired, gap, 0.0)
        self.unmatched_count += ~known & ~np.isnan(control)

        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self.total / self.count
            baseline = self.base_sum / self.base_count
            return {
                "value": values,
                "mean": mean,
                "max": np.where(self.count > 0, self.peak, np.nan),
                "slope": self._slope(),
                "baseline": values - baseline,
                "baseline_mean": mean - baseline,
                "control": gap,
                "control_mean": self.gap_sum / self.gap_count,
                "missing": 1.0 - self.count / self.n_canary,
                "unmatched": self.unmatched_count / self.n_canary,
                "steps": steps,
                "inverse_steps": 1.0 / self.n_canary,
                "minutes": elapsed,
            }

    def _slope(self) -> np.ndarray:
        """Least squares: (n sum tx - sum t sum x) / (n sum tt - (sum t)^2)."""
        spread = self.timed_count * self.time_square - self.time_sum**2
        joint = self.timed_count * self.time_value - self.time_sum * self.timed_total
        # Times are minutes: a spread below this is two observations of the same moment.
        return np.where(spread > 1e-9, joint / spread, np.nan)
