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

"""Arithmetic on one number or on arrays of them, by the same lines.

A data set is worked out on arrays. One observation of one rollout is a handful of numbers, and an
array operation on them costs ten times what Python's own arithmetic does. What is written with
operators and these functions does both, with the same result to the last bit.
"""

from math import nan
from typing import Any

import numpy as np

Number = Any
"""A number, or an array of them; what is said of one holds of each."""


def choose(condition: Number, one: Number, other: Number) -> Number:
    """Returns `one` where the condition holds, else the other."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, one, other)
    return one if condition else other


def negate(condition: Number) -> Number:
    """Returns whether the condition does not hold."""
    return ~condition if isinstance(condition, np.ndarray) else not condition


def anywhere(condition: Number) -> bool:
    """Returns whether the condition holds anywhere."""
    return bool(condition.any()) if isinstance(condition, np.ndarray) else condition


def larger(known: Number, other: Number) -> Number:
    """Returns the larger one; the known one where the other is NaN."""
    if isinstance(other, np.ndarray):
        return np.fmax(known, other)
    return other if other > known else known


def ratio(above: Number, below: Number) -> Number:
    """Returns above / below, NaN where both are 0.

    The callers have no other division by 0 whose result is looked at.
    """
    if isinstance(below, np.ndarray):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return above / below
    return above / below if below else nan
