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

"""What statistical baselines compare: a release's metrics with the old version's."""

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import CONTROL

WORSE_WHEN_HIGHER = {
    "error_rate": True,
    "latency": True,
    "memory_usage": True,
    "cpu_usage": True,
    "health_score": False,
}
"""Metrics that are judged, and in which direction they fail."""


def judged_metrics(episodes: Episodes) -> tuple[str, ...]:
    """Returns the metrics that some episode has a value of."""
    return tuple(m for m in WORSE_WHEN_HIGHER if not np.isnan(episodes.column(m)).all())


def baseline_rows(episodes: Episodes) -> np.ndarray:
    """Returns which rows are baseline, bool of shape (n_rows,)."""
    marks = np.ones(episodes.n_rows, dtype=bool)
    marks[episodes.canary_rows] = False
    return marks


def control_values(episodes: Episodes, metric: str) -> np.ndarray:
    """Returns the old version's value at the same time, shape (n_decisions,), NaN if missing."""
    return episodes.column(f"{CONTROL}{metric}")[episodes.canary_rows]
