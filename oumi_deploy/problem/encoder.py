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

"""The state encoder: from observations to features, and from features to what a network sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from oumi_deploy.episodes.schema import CONTROL, NUMBER_COLUMNS, ROLLOUT_COLUMNS
from oumi_deploy.errors import DeployError
from oumi_deploy.problem.arithmetic import Number
from oumi_deploy.problem.directions import (
    DIRECTIONS,
    directions_of,
    is_counted,
    signs_of,
)
from oumi_deploy.problem.episode_columns import EpisodeColumns
from oumi_deploy.problem.history import KINDS, Memory
from oumi_deploy.problem.state import (
    BEFORE,
    SHARES,
    Feature,
    metrics_of,
    parse_state,
    telling_metrics,
)

LIMIT = 10.0
"""Bound on the standardised features, so that no outlier leaves the network's range."""

_AT_ONCE = 65_536
"""States standardised at a time, so that intermediate results of millions need no memory."""

_NEAR = 0.85
"""Likeness of two names, 0..1, from which on one is taken for the other misspelt."""

_EPISODES_AT_ONCE = 2_048
"""Episodes encoded side by side: enough for arrays to pay, and few enough to need little memory."""


@dataclass(frozen=True, eq=False)
class StateEncoder:
    """Features of the state, with what standardising them needs.

    Attributes:
        state: The features, in order.
        center: Median of each feature over the training split, shape (n_features,).
        scale: Spread of each feature over the training split, shape (n_features,), above 0.
        low: Smallest value of each feature in the training split, NaN if it had none.
        high: Largest value of each feature in the training split, NaN if it had none.
        directions: Which values of each metric are worse, see `problem.directions`. None of an
            encoder from a policy file of version 1: it knows no order, and clips nothing.
    """

    state: tuple[Feature, ...]
    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    directions: Mapping[str, str] | None = None

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the state is made from."""
        return metrics_of(self.state)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(feature.name for feature in self.state)

    @cached_property
    def untaught(self) -> tuple[str, ...]:
        """Names of the features that the training split never had a value of."""
        return tuple(n for n, x in zip(self.names, self.low, strict=True) if np.isnan(x))

    def unreported(self, features: np.ndarray) -> list[str]:
        """Returns the features that training had values of, and none of these states has.

        Args:
            features: Shape (n, n_features), NaN where missing.
        """
        absent = np.isnan(features).all(axis=0) & ~np.isnan(self.low)
        return [name for name, is_absent in zip(self.names, absent, strict=True) if is_absent]

    @cached_property
    def signs(self) -> np.ndarray:
        """The way that each feature moves with a worse newest value, see `signs_of`."""
        return signs_of(self.state, self.directions or {})

    @cached_property
    def _clip_range(self) -> tuple[np.ndarray, np.ndarray]:
        """The values that are told apart, see `clip`; both of shape (n_features,)."""
        low = np.where(self.signs < 0, -np.inf, self.low)
        high = np.where(self.signs > 0, np.inf, self.high)
        # Nothing was learnt of a feature that training never had: it is missing, not normal.
        untaught = np.isnan(self.low)
        return np.where(untaught, np.nan, low), np.where(untaught, np.nan, high)

    def clip(self, features: np.ndarray) -> np.ndarray:
        """Returns features with nothing better than the best that training has seen.

        A value that is better than all of them says no more than the best; one that is worse
        counts as itself, so at least as the worst. Where no order is known, and for clocks, both
        ends count as the nearest value that training has seen. A feature that training never had
        becomes missing.

        Args:
            features: Shape (n, n_features), NaN where missing.
        """
        low, high = self._clip_range
        return np.maximum(np.minimum(features, high), low)

    def typical(self, features: np.ndarray) -> np.ndarray:
        """Returns features in which what is taken over requests is at most as bad as usual.

        Usual is the training split's median. So an answer can be had that does not rest on the
        errors or the latency of a few requests.

        Args:
            features: Shape (n, n_features), NaN where missing; they stay missing.
        """
        counted = np.array([f.metric is not None and is_counted(f.metric) for f in self.state])
        worst = np.where(self.signs > 0, np.minimum(features, self.center), features)
        worst = np.where(self.signs < 0, np.maximum(features, self.center), worst)
        neither = (self.signs == 0) & np.array([f.kind not in SHARES for f in self.state])
        worst = np.where(neither & ~np.isnan(features), self.center, worst)
        return np.where(counted, worst, features)

    @cached_property
    def _recipe(self) -> tuple[tuple[Callable[[Memory], Number], int], ...]:
        """Of each feature, what makes it, and which metric's memory it is made from."""
        return tuple(
            (KINDS[f.kind], at)
            for f, at in zip(self.state, _columns(self.state, self.metrics), strict=True)
        )

    def encode(self, memories: Sequence[Memory]) -> np.ndarray:
        """Encodes the newest observation of one episode, from the numbers of its metrics.

        Returns:
            Features of shape (1, n_features), NaN where missing.
        """
        return np.array([[make(memories[at]) for make, at in self._recipe]])

    @property
    def n_inputs(self) -> int:
        """Length of `standardise`'s rows: each feature and its mark."""
        return 2 * len(self.state)

    def range_of_values(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values of each feature beyond which nothing is known of a release.

        A value that is better than all that training has seen is no surprise, and more traffic
        than ever is none either.

        Args:
            margin: How much wider on either side, in widths of the range.

        Returns:
            Two of shape (n_features,); infinite for clocks, for shares of observations, for how a
            metric moved before, for features that the training split never had, on the better
            side of a metric with an order, and for columns that tell of the traffic.
        """
        free = (*SHARES, *BEFORE)
        bound = np.array([f.metric is not None and f.kind not in free for f in self.state])
        bound &= ~np.isnan(self.low)
        if self.directions is not None:
            bound &= np.array([f.metric not in ROLLOUT_COLUMNS for f in self.state])
        room = margin * (self.high - self.low)
        low = np.where(bound & (self.signs <= 0), self.low - room, -np.inf)
        return low, np.where(bound & (self.signs >= 0), self.high + room, np.inf)

    def widened(self, features: np.ndarray) -> "StateEncoder":
        """Returns the encoder with a range that holds these features too.

        What standardises them stays, so that weights that were learnt before go on to fit.

        Args:
            features: Shape (n, n_features), NaN where missing.
        """
        low = np.fmin(self.low, np.fmin.reduce(features, axis=0, initial=np.nan))
        high = np.fmax(self.high, np.fmax.reduce(features, axis=0, initial=np.nan))
        return replace(self, low=low, high=high)

    def standardise(self, features: np.ndarray) -> np.ndarray:
        """Turns features into network inputs: asinh((x - center) / scale), and marks.

        The inverse hyperbolic sine is linear around the centre and logarithmic far from it, so
        that an error rate of 0.9 does not flatten the difference between 0.01 and 0.02.

        Args:
            features: Shape (n, n_features), NaN where missing; they are clipped, see `clip`.

        Returns:
            Shape (n, 2 n_features), float32 within -LIMIT..LIMIT: the values, 0 where missing,
            then the marks, 1 where missing.
        """
        n_features = len(self.state)
        inputs = np.empty((len(features), self.n_inputs), dtype=np.float32)
        for start in range(0, len(features), _AT_ONCE):
            values = features[start : start + _AT_ONCE]
            values = (values if self.directions is None else self.clip(values)) - self.center
            values /= self.scale
            missing = np.isnan(values)
            np.arcsinh(values, out=values)
            np.minimum(values, LIMIT, out=values)
            np.maximum(values, -LIMIT, out=values)
            values[missing] = 0.0
            inputs[start : start + _AT_ONCE, :n_features] = values
            inputs[start : start + _AT_ONCE, n_features:] = missing
        return inputs

    def as_dict(self) -> dict[str, Any]:
        """Returns the encoder as plain values, None for a statistic without data."""
        statistics = {
            name: [None if np.isnan(x) else float(x) for x in getattr(self, name)]
            for name in ("center", "scale", "low", "high")
        }
        plain = {"state": list(self.names), **statistics}
        return plain if self.directions is None else {**plain, "directions": dict(self.directions)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "StateEncoder":
        """Reads what `as_dict` returned.

        Raises:
            DeployError: If an entry is missing or its length does not fit the state.
        """
        try:
            state = parse_state(plain["state"])
            statistics = [
                np.array([np.nan if x is None else float(x) for x in plain[name]])
                for name in ("center", "scale", "low", "high")
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DeployError(f"encoder: {error} is missing or malformed") from error
        if any(len(values) != len(state) for values in statistics):
            raise DeployError("encoder: statistics and state differ in length")
        center, scale, low, high = statistics
        if not (np.isfinite(center).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise DeployError("encoder: center must be finite and scale above 0")
        directions = _read_directions(plain.get("directions"), state)
        return cls(state, center, scale, low, high, directions)


def _read_directions(plain: Any, state: Sequence[Feature]) -> dict[str, str] | None:
    if plain is None:
        return None
    if not isinstance(plain, Mapping) or set(plain) != set(metrics_of(state)):
        raise DeployError("encoder: directions and state name different metrics")
    if not all(direction in DIRECTIONS for direction in plain.values()):
        raise DeployError(f"encoder: a direction is not one of {', '.join(DIRECTIONS)}")
    return dict(plain)


def fit_encoder(
    names: Sequence[str],
    episodes: EpisodeColumns,
    directions: Mapping[str, str] | None = None,
) -> StateEncoder:
    """Fits the statistics of a state to the training split.

    Args:
        names: Names of the features.
        episodes: The training split.
        directions: Which values of single metrics are worse, where that is not their default.

    Raises:
        DeployError: If the state is not one, lacks a metric that a direction is given for, or
            cannot be made from the episodes.
    """
    state = parse_state(names)
    given = directions_of(state, directions or {})
    require_columns(state, episodes)
    features = encode_episodes(state, episodes)
    low, center, high, scale = (np.full(len(state), np.nan) for _ in range(4))
    for i, column in enumerate(features.T):
        known = column[~np.isnan(column)]
        if len(known):
            low[i], center[i], high[i] = known.min(), np.median(known), known.max()
            quartiles = np.quantile(known, [0.25, 0.75])
            # 1.349 standard deviations lie between a normal distribution's quartiles. A metric
            # that hardly ever moves has none, so a tenth of its deviation is the least.
            scale[i] = max((quartiles[1] - quartiles[0]) / 1.349, known.std() / 10)
    center = np.nan_to_num(center)
    scale = np.where(scale > 1e-12, scale, 1.0)
    return StateEncoder(state, center, scale, low, high, given)


def require_columns(state: Sequence[Feature], episodes: EpisodeColumns) -> None:
    """Raises DeployError if a state cannot be made from the episodes.

    A column that they lack is missing throughout, as a team may measure less. Without any column
    that tells how a release fares, nothing is left to decide by.
    """
    metrics = metrics_of(state)
    for metric in metrics:
        if metric in episodes.texts:
            raise DeployError(f"state: {metric} is text; only numeric columns can be state")
    telling = telling_metrics(metrics)
    if not any(metric in episodes.numbers for metric in telling):
        raise DeployError(
            f"state: the episodes have no column {' or '.join(telling)}; they have "
            f"{_columns_of(episodes)}. Add one to the data, or train without it"
        )


def require_lessons(encoder: StateEncoder, episodes: EpisodeColumns) -> None:
    """Raises DeployError if a state is not what one can mean to learn from the training split.

    Either none of its features that tell how a release fares has a value, or the episodes lack a
    column and have one of nearly its name. What the format names, and what the state has anyway,
    is no misspelling.
    """
    # Imported here: what decides need not wait for it.
    from difflib import get_close_matches

    others = [name for name in episodes.numbers if name not in encoder.metrics]
    for metric in encoder.metrics:
        if metric in episodes.numbers or metric.removeprefix(CONTROL) in NUMBER_COLUMNS:
            continue
        near = get_close_matches(metric, others, n=1, cutoff=_NEAR)
        if near:
            raise DeployError(
                f"state: the episodes have no column {metric}: did you mean {near[0]}? They have "
                f"{_columns_of(episodes)}"
            )
    telling = telling_metrics(encoder.metrics)
    names = [f.name for f in encoder.state if f.metric in telling and f.kind not in SHARES]
    if names and set(names) <= set(encoder.untaught):
        raise DeployError(
            f"state: the episodes have no value of {', '.join(names)}, so there is nothing to "
            f"learn from; they have {_columns_of(episodes)}. Name features that these columns make"
        )


def _columns_of(episodes: EpisodeColumns) -> str:
    return ", ".join(sorted(episodes.numbers)) or "no numeric column"


def encode_episodes(state: Sequence[Feature], episodes: EpisodeColumns) -> np.ndarray:
    """Encodes every canary observation of every episode.

    Returns:
        Features of shape (n_decisions, n_features), float64, NaN where missing; episodes one
        after the other.
    """
    metrics = metrics_of(state)
    values = np.stack([episodes.column(m) for m in metrics], axis=1)
    control = np.stack([episodes.column(f"control_{m}") for m in metrics], axis=1)
    minutes, planned = episodes.column("timestamp") / 60.0, episodes.column("planned_steps")
    starts, n_canary = episodes.offsets[:-1] + episodes.baseline_lengths, episodes.canary_lengths
    decisions = episodes.canary_offsets

    features = np.empty((int(decisions[-1]), len(state)))
    # Episodes that still go on stand first, so that each step works on the first of them.
    longest = np.argsort(-n_canary, kind="stable")
    for some in range(0, len(longest), _EPISODES_AT_ONCE):
        chosen = longest[some : some + _EPISODES_AT_ONCE]
        memory, lengths = _after_baseline(episodes, chosen, values), n_canary[chosen]
        for t in range(int(lengths[0])):
            going = chosen[: int((lengths > t).sum())]
            rows = starts[going] + t
            memory = memory.first(len(going)).observe(
                values.take(rows, axis=0),
                control.take(rows, axis=0),
                minutes.take(rows)[:, None],
                planned.take(rows)[:, None],
            )
            features[decisions[going] + t] = encode_memory(state, metrics, memory)
    return features


def _after_baseline(episodes: EpisodeColumns, chosen: np.ndarray, values: np.ndarray) -> Memory:
    """Returns what is remembered of the chosen episodes before their first canary observation."""
    starts, lengths = episodes.offsets[chosen], episodes.baseline_lengths[chosen]
    memory = Memory.empty(len(chosen), values.shape[1])
    counts, sums = memory.base_count, memory.base_sum
    longest = np.argsort(-lengths, kind="stable")
    for t in range(int(lengths.max())):
        going = longest[: int((lengths > t).sum())]
        seen = Memory(base_count=counts[going], base_sum=sums[going])
        seen = seen.observe_baseline(values.take(starts[going] + t, axis=0))
        counts[going], sums[going] = seen.base_count, seen.base_sum
    return memory


def encode_memory(state: Sequence[Feature], metrics: Sequence[str], memory: Memory) -> np.ndarray:
    """Encodes the newest observation of n episodes, from arrays.

    Returns:
        Features of shape (n, n_features), NaN where missing.
    """
    history = {kind: KINDS[kind](memory) for kind in dict.fromkeys(f.kind for f in state)}
    return gather(state, metrics, history)


def gather(
    state: Sequence[Feature], metrics: Sequence[str], history: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Picks a state's features out of a history, shape (n, n_features)."""
    columns = _columns(state, metrics)
    return np.stack([history[f.kind][:, at] for f, at in zip(state, columns, strict=True)], axis=1)


def _columns(state: Sequence[Feature], metrics: Sequence[str]) -> list[int]:
    """Returns the column of each feature's metric; clocks are the same in every one."""
    columns = {metric: i for i, metric in enumerate(metrics)}
    return [0 if f.metric is None else columns[f.metric] for f in state]
