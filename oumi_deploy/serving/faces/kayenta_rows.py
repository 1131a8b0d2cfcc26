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
"""Kayenta's series as observations: the experiment's values are canary rows, a step apart.

The control's values stand beside them where they are of the same time, and before them as baseline
rows where they are of an earlier one, as in an analysis that compares after with before.
"""

from collections import defaultdict
from math import isfinite
from typing import Any

from oumi_deploy.episodes.schema import CONTROL, NEVER_STATE, number_column
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.faces.kayenta_request import (
    MOST_STEPS,
    JudgeRequest,
    MetricSetPair,
    Scope,
    column_of,
)

_Rows = dict[int, dict[str, float | None]]
"""The row of each time, Unix milliseconds."""


def observations_of(request: JudgeRequest) -> list[dict[str, Any]]:
    """Returns the rollout so far: oldest first, baseline rows before canary rows.

    A muted metric is left out. A time at which only the old version reported is a row without
    values: the new one's telemetry is missing there.

    Raises:
        DeployError: If a value is not one the episode format allows, a name is not that of a
            metric, two series have one name, or there are too many steps.
    """
    settings = request.settings()
    start = min(_start(pair) for pair in request.metricSetPairList)
    rows: _Rows = defaultdict(dict)
    rows[start] = {}
    taken: set[str] = set()
    for pair in request.metricSetPairList:
        config = settings[pair.name]
        if config.analysisConfigurations.canary.muted:
            continue
        column = column_of(config)
        if column in taken:
            raise DeployError(
                f"metricSetPairList: two series of {column}: have each query return one, without "
                "grouping"
            )
        taken.add(column)
        _check_name(pair.name, column)
        _add(rows, pair, column, start)
    if len(rows) > MOST_STEPS:
        raise DeployError(
            f"metricSetPairList: {len(rows):,} times, more than {MOST_STEPS:,}: give the "
            "scopes one start and a longer step"
        )
    return [_observation(at, rows[at], start) for at in sorted(rows)]


def _start(pair: MetricSetPair) -> int:
    if "experiment" not in pair.scopes:
        raise DeployError(f"metricSetPairList: {pair.name}: scopes: there is no experiment")
    return pair.scopes["experiment"].startTimeMillis


def _check_name(name: str, column: str) -> None:
    if column in NEVER_STATE or column.startswith(CONTROL):
        raise DeployError(
            f"metricSetPairList: {name}: a policy sees no metric {column}; give another name in "
            "analysisConfigurations.oumi_deploy.metric"
        )


def _add(rows: _Rows, pair: MetricSetPair, column: str, start: int) -> None:
    experiment = pair.scopes["experiment"]
    for i, value in enumerate(pair.of("experiment")):
        rows[_time(experiment, i)][column] = _checked(pair.name, column, value)
    control = pair.scopes.get("control", experiment)
    for i, value in enumerate(pair.of("control")):
        at = _on_grid(_time(control, i), experiment)
        named = column if at < start else CONTROL + column
        rows[at][named] = _checked(pair.name, column, value)
        # Where the old version alone reports, the new one's value is missing, and said to be.
        rows[at].setdefault(column, None)


def _time(scope: Scope, i: int) -> int:
    return scope.startTimeMillis + i * scope.stepMillis


def _on_grid(at: int, scope: Scope) -> int:
    """Returns the nearest time at which the experiment has a value, or would have had one."""
    steps = round((at - scope.startTimeMillis) / scope.stepMillis)
    return scope.startTimeMillis + steps * scope.stepMillis


def _checked(name: str, column: str, value: float | None) -> float | None:
    """Returns a value, None for one that is no number.

    Raises:
        DeployError: If it is outside of what the episode format allows.
    """
    if value is None or not isfinite(value):
        return None
    rule = number_column(column)
    if rule.low <= value <= rule.high:
        return value
    mend = "divide by 100 in its query" if value > rule.high == 1 else "mend its query"
    raise DeployError(f"metric {name}: {value:g} is not {rule.accepts()}, as {column} is: {mend}")


def _observation(at: int, row: dict[str, float | None], start: int) -> dict[str, Any]:
    phase = "baseline" if at < start else "canary"
    return {"timestamp": at / 1000, "phase": phase, **row}
