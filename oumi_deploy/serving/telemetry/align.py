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

"""Puts the points of a series to the steps they were measured in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_TOLERANCE = 1e-3
"""Seconds; Prometheus counts in milliseconds, the clocks of callers in less."""


@dataclass(frozen=True)
class Steps:
    """Steps of equal length, one after the other.

    Step k, from 0, covers what lies after `start + k * length` up to and including its end, for
    that is what a rate looks at that is evaluated at its end.

    Attributes:
        start: Where the first begins, Unix seconds.
        length: Seconds above 0.
        count: Number of steps, 0 or more.
    """

    start: float
    length: float
    count: int

    def ends(self) -> list[float]:
        """Returns the end of each step, Unix seconds."""
        return [self.start + (k + 1) * self.length for k in range(self.count)]


def steps_until(start: float, length: float, until: float) -> Steps:
    """Returns the steps from `start` that are over at `until`."""
    return Steps(start, length, max(0, math.floor((until - start + _TOLERANCE) / length)))


def align(points: Sequence[tuple[float, float | None]], steps: Steps) -> list[float | None]:
    """Returns the value of each step, None where it has none.

    A point counts for the step it falls in and for no other, the latest of several; nothing is
    carried forward. Points come a little off the ends from what rounds times for its cache.

    Args:
        points: Times in Unix seconds, ascending, with values.
        steps: The steps.
    """
    values: list[float | None] = [None] * steps.count
    for at, value in points:
        k = math.ceil((at - steps.start - _TOLERANCE) / steps.length) - 1
        if 0 <= k < steps.count:
            values[k] = value
    return values


def coverage(values: Sequence[float | None]) -> float:
    """Returns the share of the steps that have a value, 0..1, of at least one step."""
    return sum(value is not None for value in values) / len(values)
