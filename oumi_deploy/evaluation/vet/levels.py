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

"""What is usual in good releases: the values that the cases of a vet start from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, CONTROL, NEVER_STATE, number_column
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.rulers import range_seen
from oumi_deploy.problem.encoder import StateEncoder

QUANTILES = (0.05, 0.5, 0.95)
"""What is kept of each metric, and of the rollouts' lengths."""

MOST = 60
"""Columns that are described at most."""

_LEVELS = ("value", "mean", "max")

_DEFAULTS = {
    "error_rate": 0.005,
    "latency": 0.2,
    "memory_usage": 0.5,
    "cpu_usage": 0.35,
    "health_score": 1.0,
    "requests": 1000.0,
    "canary_share": 0.25,
    "n_pods": 3.0,
}
"""What stands for a metric, or one that has its name in front, of which neither the policy file nor
its state tells a level."""

_STEP_MINUTES = 1.0


@dataclass(frozen=True)
class Levels:
    """What a policy takes for usual.

    Attributes:
        usual: Value of each metric in a good release, in its unit.
        share: Least and largest usual `canary_share`, 0..1.
        minutes: Time between two observations.
        guessed: Metrics whose level is a default, as neither the file nor the state tells it.
    """

    usual: Mapping[str, float]
    share: tuple[float, float]
    minutes: float
    guessed: tuple[str, ...]


def describe_levels(episodes: Episodes, first: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what a policy file keeps of the levels of its training split.

    Args:
        episodes: The training split; releases that are known to be bad are left out.
        first: Metrics to describe before the others: at most MOST columns are.

    Returns:
        `metrics`, the quantiles (QUANTILES) of each numeric column over the canary observations,
        `observations`, those of the canary observations of a release, and `minutes` between two,
        None where no time is known.
    """
    episodes = episodes.select(episodes.labels != BAD)
    rows = episodes.canary_rows
    names = [name for name in episodes.numbers if name.removeprefix(CONTROL) not in NEVER_STATE]
    wanted = [name for name in first if name in episodes.numbers]
    columns = list(dict.fromkeys([*wanted, *names]))[:MOST]
    between = np.diff(episodes.column("timestamp")[rows]) / 60.0
    # From the last observation of one release to the first of the next no time passes.
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    between = between[np.diff(of) == 0]
    return {
        "metrics": {
            name: told
            for name in columns
            if (told := _quantiles(episodes.column(name)[rows])) is not None
        },
        "observations": _quantiles(episodes.canary_lengths.astype(float)),
        "minutes": None if np.isnan(between).all() else _rounded(float(np.nanmedian(between))),
    }


def _quantiles(values: np.ndarray) -> list[float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    return [_rounded(float(x)) for x in np.quantile(known, QUANTILES)]


def _rounded(x: float) -> float:
    return float(f"{x:.6g}")


def read_levels(policy: DeploymentPolicy, others: Sequence[str] = ()) -> Levels:
    """Returns the levels of a policy's training data; older files know those of the state alone.

    Args:
        policy: The policy.
        others: Metrics to have a level of beside the state's, as guardrails read them.
    """
    told = policy.training_data.get("levels") or {}
    known: Mapping[str, Sequence[float]] = told.get("metrics") or {}
    encoder, usual, guessed = policy.encoder, {}, []
    for metric in dict.fromkeys([*encoder.metrics, *others, "requests"]):
        name = metric.removeprefix(CONTROL)
        found = _known_level(name, known, encoder)
        if found is None:
            guessed.append(name)
            found = _default(name)
        rule = number_column(name)
        usual[name] = min(max(found, rule.low), rule.high)
    low, _, high = known.get("canary_share") or _share_in(encoder)
    minutes = told.get("minutes") or _STEP_MINUTES
    return Levels(usual, (low, high), minutes, tuple(dict.fromkeys(guessed)))


def _known_level(
    metric: str, known: Mapping[str, Sequence[float]], encoder: StateEncoder
) -> float | None:
    """Returns the usual level of a metric, its own or else the old version's; None if unknown."""
    for name in (metric, CONTROL + metric):
        if name in known:
            return float(known[name][1])
    for kind in _LEVELS:
        for name in (metric, CONTROL + metric):
            for at, feature in enumerate(encoder.state):
                is_taught = isfinite(encoder.low[at])
                if is_taught and (feature.metric, feature.kind) == (name, kind):
                    return float(encoder.center[at])
    return None


def _default(metric: str) -> float:
    names = (n for n in _DEFAULTS if metric == n or metric.startswith(n + "_"))
    return _DEFAULTS.get(next(names, ""), 0.0)


def _share_in(encoder: StateEncoder) -> tuple[float, float, float]:
    """Returns least, usual and largest share of traffic that the state knows."""
    for at, feature in enumerate(encoder.state):
        if (feature.metric, feature.kind) == ("canary_share", "value"):
            ends = float(encoder.low[at]), float(encoder.high[at])
            if all(map(isfinite, ends)):
                return ends[0], float(encoder.center[at]), ends[1]
    usual = _DEFAULTS["canary_share"]
    return usual, usual, usual


def range_of_training(encoder: StateEncoder, metric: str, usual: float) -> tuple[float, float]:
    """Returns the least and largest value of a metric that training has seen, and the usual one.

    Differences are taken from the usual level.
    """
    low, high = range_seen(encoder, metric, usual, usual) or (usual, usual)
    rule = number_column(metric)
    return max(min(low, usual), rule.low), min(max(high, usual), rule.high)
