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

"""The time axis of one episode: minutes where every observation has a timestamp, else steps."""

from dataclasses import dataclass

import numpy as np

from oumi_deploy.episodes.packed import Episodes

_GAP = 1.75
"""Usual intervals between two observations from which on one is missing between them."""


@dataclass(frozen=True, eq=False)
class Clock:
    """The times of an episode's observations.

    Attributes:
        times: Shape (n_observations,), 0 at the first canary observation.
        n_baseline: How many of them are baseline.
        label: What the numbers are.
        unit: Their unit in words.
    """

    times: np.ndarray
    n_baseline: int
    label: str
    unit: str

    @property
    def canary_times(self) -> np.ndarray:
        """Times of the decisions."""
        return self.times[self.n_baseline :]

    @property
    def border(self) -> float:
        """Where the baseline ends and the canary begins, halfway between their observations."""
        if not self.n_baseline:
            return float(self.times[0])
        return float(self.times[self.n_baseline - 1 : self.n_baseline + 1].mean())


def read_clock(episodes: Episodes, number: int) -> Clock:
    """Returns the clock of episode `number`."""
    rows = slice(episodes.offsets[number], episodes.offsets[number + 1])
    n_baseline = int(episodes.baseline_lengths[number])
    seconds, steps = episodes.column("timestamp")[rows], episodes.column("step")[rows]
    if not np.isnan(seconds).any():
        times, label, unit = seconds / 60.0, "time since the canary began (minutes)", "minutes"
    elif not np.isnan(steps).any():
        times, label, unit = steps, "step since the canary began", "steps"
    else:
        times = np.arange(len(steps), dtype=np.float64)
        label, unit = "observation since the canary began", "observations"
    return Clock(times - times[n_baseline], n_baseline, label, unit)


def with_gaps(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Puts a missing value into each interval that is longer than usual, to break the line.

    Args:
        times: Rising, shape (n,).
        values: Shape (n,).

    Returns:
        Times and values, with the missing ones.
    """
    intervals = np.diff(times)
    if not len(intervals):
        return times, values
    before = np.flatnonzero(intervals > _GAP * np.median(intervals)) + 1
    return np.insert(times, before, times[before - 1]), np.insert(values, before, np.nan)
