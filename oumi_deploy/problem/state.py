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

"""The state: an explicit list of features by name.

A feature is the current value of a metric (`error_rate`), a summary of what that metric has
done so far (`error_rate.max`), or the time (`steps`). All look only back.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from oumi_deploy.episodes.schema import CONTROL, NEVER_STATE, ROLLOUT_COLUMNS
from oumi_deploy.errors import DeployError

HISTORY = {
    "mean": "mean over the canary observations so far",
    "max": "maximum over the canary observations so far",
    "slope": "least-squares slope over the canary observations so far, per minute where the "
    "first of them has a timestamp (those without one are left out), else per observation",
    "baseline": "current value minus the mean over the episode's own baseline rows",
    "baseline_mean": "mean so far minus the mean over the episode's own baseline rows",
    "control": "current value minus the old version's value at the same time",
    "control_mean": "mean so far of the value minus the old version's value at the same time",
    "change": "current value minus the mean over the canary observations before it",
    "control_change": "current difference to the old version minus its mean before",
    "slope_before": "slope as it was at the observation before",
    "change_before": "change as it was at the observation before",
    "missing": "share of the canary observations so far in which the metric is missing",
    "unmatched": "share of the canary observations so far in which the metric is missing though "
    "the old version has a value",
}
"""History features of a metric, by suffix."""

BEFORE = ("slope_before", "change_before")
"""Histories that the newest observation has no part in, nor the level that all have in common. How
a metric moved before may speak for a release or against it: what climbs, and what settles."""

TO_BASELINE = ("baseline", "baseline_mean")
TO_CONTROL = ("control", "control_mean", "control_change")
"""Histories beside the release's own baseline, and beside the old version."""

SHARES = ("missing", "unmatched")
"""Histories that count observations: they always have a value, and are no value of the metric."""

CLOCK = {
    "steps": "canary observations before this one",
    "inverse_steps": "1 / (steps + 1), which tells a first look from a second better than a tenth "
    "from an eleventh",
    "minutes": "minutes since the first canary observation, by timestamp",
    "planned_share": "share of `planned_steps` seen, this observation included",
}
"""Features of the time."""


@dataclass(frozen=True)
class Feature:
    """One entry of the state: a metric, optionally a history of it, or (no metric) a clock."""

    name: str
    metric: str | None
    kind: str


def parse_state(names: Iterable[str]) -> tuple[Feature, ...]:
    """Reads a state.

    Args:
        names: Feature names, as in `["error_rate", "error_rate.max", "steps"]`.

    Raises:
        DeployError: At a name that is empty, twice there, or no feature.

    >>> [feature.kind for feature in parse_state(["error_rate", "error_rate.max", "steps"])]
    ['value', 'max', 'steps']
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DeployError(f"state: expected a list of feature names, got {names!r}")
    features = tuple(_parse_feature(name) for name in names)
    if not features:
        raise DeployError("state: the list is empty; name at least one metric")
    seen: set[str] = set()
    for feature in features:
        if feature.name in seen:
            raise DeployError(f"state: {feature.name} stands twice")
        seen.add(feature.name)
    if not metrics_of(features):
        named = ", ".join(feature.name for feature in features)
        raise DeployError(f"state: {named} tells the time only; name a metric too")
    return features


def _parse_feature(name: str) -> Feature:
    if not isinstance(name, str) or not name:
        raise DeployError(f"state: {name!r} is not the name of a feature")
    if name in CLOCK:
        return Feature(name, None, name)
    metric, dot, suffix = name.rpartition(".")
    if not dot:
        metric, suffix = name, "value"
    elif suffix not in HISTORY:
        raise DeployError(
            f"state: {name}: no history is called {suffix!r}; there are {', '.join(HISTORY)}"
        )
    if not metric:
        raise DeployError(f"state: {name} names no metric before its history")
    if metric.removeprefix(CONTROL) in NEVER_STATE:
        raise DeployError(
            f"state: {metric} cannot be state: it gives the label away, names the release or "
            "tells the future; name a metric"
        )
    return Feature(name, metric, suffix)


def metrics_of(features: Iterable[Feature]) -> tuple[str, ...]:
    """Returns the metrics that a state is made from, each once, in order."""
    return tuple(dict.fromkeys(f.metric for f in features if f.metric is not None))


def telling_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """Returns the metrics that tell how the new version fares: all, if there are no others.

    The others tell of the traffic, or are the old version's own.
    """
    metrics = tuple(metrics)
    telling = tuple(m for m in metrics if m not in ROLLOUT_COLUMNS and not m.startswith(CONTROL))
    return telling or metrics
