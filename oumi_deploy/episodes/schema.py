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

"""The columns of an episode table. `FORMAT.md` beside this file says what each one means."""

from dataclasses import dataclass
from math import inf

FORMAT_VERSION = 1
"""Version of the table format; a column that changes its meaning raises it."""

STANDARD_METRICS = ("error_rate", "memory_usage", "cpu_usage", "health_score")
"""The default state, in this order."""

CONTROL = "control_"
"""Prefix of the old version's value of a metric at the same time."""

GOOD, BAD, UNKNOWN = 0, 1, -1
"""Codes of `label` wherever it is a number."""

LABELS = {"good": GOOD, "bad": BAD}
PHASES = ("baseline", "canary")
LOGGED_ACTIONS = ("CONTINUE", "ROLLBACK", "PAUSE")


@dataclass(frozen=True)
class NumberColumn:
    """A numeric column and the closed range its values lie in."""

    name: str
    low: float = -inf
    high: float = inf
    positive: bool = False

    def accepts(self) -> str:
        """Says the range in words, for messages."""
        if self.positive:
            return f"above 0 and at most {self.high:g}" if self.high < inf else "above 0"
        if self.low > -inf and self.high < inf:
            return f"in {self.low:g}..{self.high:g}"
        return f"{self.low:g} or more" if self.low > -inf else "any finite number"


NUMBER_COLUMNS = {
    column.name: column
    for column in (
        NumberColumn("step"),
        NumberColumn("timestamp"),
        NumberColumn("error_rate", 0, 1),
        NumberColumn("health_score", 0, 1),
        NumberColumn("memory_usage", 0),
        NumberColumn("cpu_usage", 0),
        NumberColumn("canary_share", 0, 1),
        NumberColumn("planned_steps", positive=True),
        NumberColumn("requests", 0),
        NumberColumn("latency", 0),
        NumberColumn("n_pods", 0),
        NumberColumn("propensity", high=1, positive=True),
    )
}

TEXT_COLUMNS = ("episode_id", "label", "group", "service", "version", "environment", "phase")
"""Text columns that mean something to the library; `action` is the other."""

ROLLOUT_COLUMNS = ("requests", "canary_share", "n_pods")
"""Columns that tell of the rollout and its traffic rather than of how the release fares."""

NEVER_STATE = (
    *TEXT_COLUMNS,
    "action",
    "propensity",
    "step",
    "timestamp",
    "planned_steps",
    "fault_type",
    "telemetry",
)
"""Columns that a policy may not see: they hold the answer, name the release, or tell the future."""


def number_column(name: str) -> NumberColumn:
    """Returns the rule for a numeric column; a control column follows its metric's."""
    metric = name.removeprefix(CONTROL)
    rule = NUMBER_COLUMNS.get(metric, NumberColumn(metric))
    return NumberColumn(name, rule.low, rule.high, rule.positive)
