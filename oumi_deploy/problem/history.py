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

"""Running summaries of episodes, one observation at a time.

Training encodes a whole data set and production one observation of one rollout; both go through
`Memory.observe`, so they cannot differ, and nothing can look ahead. What differs is what it is
given: arrays of many episodes, or the numbers of one metric.
"""

from collections.abc import Callable, Sequence
from math import inf, nan
from typing import NamedTuple

import numpy as np

from oumi_deploy.problem.arithmetic import Number, choose, larger, ratio


class Memory(NamedTuple):
    """What is remembered of a metric: a number each, or arrays for n episodes and m metrics.

    A memory never changes; what takes in an observation returns another.

    Attributes:
        n_canary: Canary observations so far, shape (n, 1).
        start: Time of the first canary observation in minutes, shape (n, 1), NaN if unknown.
        base_count: Baseline observations with a value, shape (n, m); so for all below, but for
            `elapsed` and `planned_share`.
        base_sum: Sum of the baseline values.
        known_count: Canary observations with a value.
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
        value: The newest value, NaN where missing.
        gap: Its difference to the old version, NaN where either is missing.
        elapsed: Minutes since the first canary observation, shape (n, 1), NaN if unknown.
        planned_share: Share of the planned observations seen, shape (n, 1), NaN if unknown.
        total_before: `total` before the newest value. What is left of it where that is taken away
            again would not be the same to the last bit.
        gap_sum_before: `gap_sum` before the newest difference.
        slope_before: The slope before the newest observation.
        change_before: The newest change before it.
    """

    n_canary: Number = 0.0
    start: Number = nan
    base_count: Number = 0.0
    base_sum: Number = 0.0
    known_count: Number = 0.0
    total: Number = 0.0
    peak: Number = -inf
    timed_count: Number = 0.0
    timed_total: Number = 0.0
    time_sum: Number = 0.0
    time_square: Number = 0.0
    time_value: Number = 0.0
    gap_count: Number = 0.0
    gap_sum: Number = 0.0
    unmatched_count: Number = 0.0
    value: Number = nan
    gap: Number = nan
    elapsed: Number = nan
    planned_share: Number = nan
    total_before: Number = 0.0
    gap_sum_before: Number = 0.0
    slope_before: Number = nan
    change_before: Number = nan

    @classmethod
    def empty(cls, n_episodes: int, n_metrics: int) -> "Memory":
        """Returns the memory of episodes that have not begun."""
        return cls.of_one([cls()] * n_metrics).repeat(n_episodes)

    @classmethod
    def of_one(cls, memories: "Sequence[Memory]") -> "Memory":
        """Returns the arrays of one episode, from the numbers of its m metrics."""
        fields = np.array(memories).T[:, None, :]
        return cls(
            *(
                field[:, :1] if name in _OF_EPISODES else field
                for name, field in zip(cls._fields, fields, strict=True)
            )
        )

    def repeat(self, n_episodes: int) -> "Memory":
        """Returns the arrays of one episode n times."""
        return Memory(*(field.repeat(n_episodes, axis=0) for field in self))

    def first(self, n_episodes: int) -> "Memory":
        """Returns the memory of the first episodes."""
        return Memory(*(field[:n_episodes] for field in self))

    def observe_baseline(self, value: Number) -> "Memory":
        """Takes in one baseline observation, NaN where missing."""
        known = value == value
        return self._replace(
            base_count=self.base_count + known,
            base_sum=self.base_sum + choose(known, value, 0.0),
        )

    def observe(
        self, value: Number, control: Number, minute: Number, planned_steps: Number
    ) -> "Memory":
        """Takes in one canary observation.

        Args:
            value: The metric, in arrays of shape (n, m), NaN where missing.
            control: The old version's metric, likewise.
            minute: Time in minutes, in arrays of shape (n, 1), NaN where unknown.
            planned_steps: Canary observations that are planned, likewise.
        """
        start = choose(self.n_canary == 0.0, minute, self.start)
        elapsed = minute - start
        # Without a first time the episode has none; where only this one is missing, the
        # observation has no place in time.
        time = choose(start == start, elapsed, self.n_canary)
        n_canary = self.n_canary + 1.0

        known = value == value
        filled = choose(known, value, 0.0)
        timed = known & (time == time)
        when = choose(timed, time, 0.0)
        gap = value - control
        paired = gap == gap
        # By position: by name, an observation would take nearly half as long again.
        return Memory(
            n_canary,
            start,
            self.base_count,
            self.base_sum,
            self.known_count + known,
            self.total + filled,
            larger(self.peak, value),
            self.timed_count + timed,
            self.timed_total + choose(timed, filled, 0.0),
            self.time_sum + when,
            self.time_square + when * when,
            self.time_value + when * filled,
            self.gap_count + paired,
            self.gap_sum + choose(paired, gap, 0.0),
            self.unmatched_count + ((control == control) & (value != value)),
            value,
            gap,
            elapsed,
            n_canary / planned_steps,
            self.total,
            self.gap_sum,
            _slope(self),
            _change(self),
        )


_OF_EPISODES = ("n_canary", "start", "elapsed", "planned_share")
"""What an episode's metrics have in common."""


def _mean(memory: Memory) -> Number:
    return ratio(memory.total, memory.known_count)


def _baseline(memory: Memory) -> Number:
    return ratio(memory.base_sum, memory.base_count)


def _slope(memory: Memory) -> Number:
    """Least squares: (n sum tx - sum t sum x) / (n sum tt - (sum t)^2)."""
    n, time_sum = memory.timed_count, memory.time_sum
    spread = n * memory.time_square - time_sum * time_sum
    joint = n * memory.time_value - time_sum * memory.timed_total
    # Times are minutes: a spread below this is two observations of the same moment.
    return choose(spread > 1e-9, ratio(joint, spread), nan)


def _change(memory: Memory) -> Number:
    before = memory.known_count - (memory.value == memory.value)
    return memory.value - ratio(memory.total_before, before)


def _control_change(memory: Memory) -> Number:
    before = memory.gap_count - (memory.gap == memory.gap)
    return memory.gap - ratio(memory.gap_sum_before, before)


KINDS: dict[str, Callable[[Memory], Number]] = {
    "value": lambda memory: memory.value,
    "mean": _mean,
    "max": lambda memory: choose(memory.known_count > 0.0, memory.peak, nan),
    "slope": _slope,
    "baseline": lambda memory: memory.value - _baseline(memory),
    "baseline_mean": lambda memory: _mean(memory) - _baseline(memory),
    "control": lambda memory: memory.gap,
    "control_mean": lambda memory: ratio(memory.gap_sum, memory.gap_count),
    "change": _change,
    "control_change": _control_change,
    "slope_before": lambda memory: memory.slope_before,
    "change_before": lambda memory: memory.change_before,
    "missing": lambda memory: 1.0 - memory.known_count / memory.n_canary,
    "unmatched": lambda memory: memory.unmatched_count / memory.n_canary,
    "steps": lambda memory: memory.n_canary - 1.0,
    "inverse_steps": lambda memory: 1.0 / memory.n_canary,
    "minutes": lambda memory: memory.elapsed,
    "planned_share": lambda memory: memory.planned_share,
}
"""What each kind of feature is, once a canary observation was seen; NaN where not defined.

Features of a metric have the shape (n, m), clocks (n, 1)."""
