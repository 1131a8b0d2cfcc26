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

"""Which of an observation's values the state can use.

An error rate that is in the state only as a difference to the old version says nothing where the
old version does not report it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oumi_deploy.problem.state import (
    BEFORE,
    SHARES,
    TO_BASELINE,
    TO_CONTROL,
    Feature,
    metrics_of,
    telling_metrics,
)


@dataclass(frozen=True, eq=False)
class Usable:
    """How a state uses the metrics that tell how the new version fares.

    Columns that tell of the traffic, and the old version's own, are left out, unless the state has
    no others.

    Attributes:
        columns: Their columns among the state's metrics.
        alone: Whether a value is used by itself, of each of them.
        to_baseline: Whether it is used as a difference to the baseline.
        to_control: Whether it is used as a difference to the old version.
        unmatched: Whether it is used that the old version alone reports it.
    """

    columns: tuple[int, ...]
    alone: tuple[bool, ...]
    to_baseline: tuple[bool, ...]
    to_control: tuple[bool, ...]
    unmatched: tuple[bool, ...]

    @classmethod
    def of(cls, state: Sequence[Feature], *, alone: bool = False) -> "Usable":
        """Returns how a state uses its metrics; with `alone` as if it used each by itself."""
        metrics = metrics_of(state)
        telling = telling_metrics(metrics)
        columns = [i for i, metric in enumerate(metrics) if metric in telling]
        no_values = {*SHARES, *BEFORE}
        all_kinds = [{f.kind for f in state if f.metric == metrics[i]} for i in columns]
        kinds = [of_metric - no_values for of_metric in all_kinds]
        differences = {*TO_BASELINE, *TO_CONTROL}
        return cls(
            tuple(columns),
            tuple(alone or bool(k - differences) for k in kinds),
            tuple(not k.isdisjoint(TO_BASELINE) for k in kinds),
            tuple(not k.isdisjoint(TO_CONTROL) for k in kinds),
            tuple("unmatched" in k for k in all_kinds),
        )

    def is_silent(
        self, values: np.ndarray, control: np.ndarray, has_baseline: np.ndarray
    ) -> np.ndarray:
        """Returns where the state can use nothing, bool of shape (n,).

        Args:
            values: The state's metrics, shape (n, m), NaN where missing.
            control: The old version's, likewise.
            has_baseline: Whether the baseline has a value, bool of shape (n, m).
        """
        at = list(self.columns)
        can = np.array(self.alone) | (np.array(self.to_baseline) & has_baseline[:, at])
        can |= np.array(self.to_control) & ~np.isnan(control[:, at])
        return np.logical_not((can & ~np.isnan(values[:, at])).any(axis=1))

    def is_silent_one(
        self, values: Sequence[float], control: Sequence[float], has_baseline: Sequence[bool]
    ) -> bool:
        """Returns the same of one observation, from its metrics' numbers."""
        for at, alone, to_baseline, to_control in zip(
            self.columns, self.alone, self.to_baseline, self.to_control, strict=True
        ):
            if values[at] == values[at] and (
                alone
                or (to_baseline and has_baseline[at])
                or (to_control and control[at] == control[at])
            ):
                return False
        return True

    def is_unmatched(self, values: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Returns where the old version alone reports what the state looks for in both.

        Args:
            values: The state's metrics, shape (n, m), NaN where missing.
            control: The old version's, likewise.

        Returns:
            Bool of shape (n,).
        """
        at = list(self.columns)
        alone = np.isnan(values[:, at]) & ~np.isnan(control[:, at])
        return np.any(alone & np.array(self.unmatched), axis=1)

    def is_unmatched_one(self, values: Sequence[float], control: Sequence[float]) -> bool:
        """Returns the same of one observation, from its metrics' numbers."""
        return any(
            used and values[at] != values[at] and control[at] == control[at]
            for at, used in zip(self.columns, self.unmatched, strict=True)
        )
