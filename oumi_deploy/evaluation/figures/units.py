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

"""What stands on the axes: names as the config has them, with their units."""

from oumi_deploy.problem.state import SHARES, Feature

_METRICS = {
    "error_rate": "share of requests",
    "health_score": "0 to 1",
    "memory_usage": "share of the limit",
    "cpu_usage": "share of the limit",
    "latency": "seconds",
    "requests": "per interval",
    "n_pods": "pods",
    "canary_share": "share of traffic or pods",
}

_CLOCKS = {
    "steps": "canary observations before",
    "inverse_steps": "1 at the first canary observation",
    "minutes": "since the canary began",
    "planned_share": "share of the planned steps",
}

_DIFFERENCES = {
    "baseline": "above the own baseline",
    "baseline_mean": "above the own baseline",
    "change": "above the mean before",
    "change_before": "above the mean before it",
    "control_change": "more above the old version than before",
    "control": "above the old version",
    "control_mean": "above the old version",
}


def metric_label(metric: str) -> str:
    """Returns a metric's name and unit.

    >>> metric_label("latency")
    'latency (seconds)'
    """
    return f"{metric} ({_unit(metric)})"


def feature_label(feature: Feature) -> str:
    """Returns a feature's name and unit."""
    if feature.metric is None:
        return f"{feature.name} ({_CLOCKS[feature.kind]})"
    if feature.kind in SHARES:
        return f"{feature.name} (share of observations)"
    unit = _unit(feature.metric)
    if feature.kind in ("slope", "slope_before"):
        unit += ", per minute"
    elif feature.kind in _DIFFERENCES:
        unit += f", {_DIFFERENCES[feature.kind]}"
    return f"{feature.name} ({unit})"


def _unit(metric: str) -> str:
    return _METRICS.get(metric, "unit of the data")
