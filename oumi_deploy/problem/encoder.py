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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.history import Memory
from oumi_deploy.problem.state import SHARES, Feature, metrics_of, parse_state

LIMIT = 10.0
"""Bound on the standardised features, so that no outlier leaves the network's range."""

_AT_ONCE = 65_536
"""States standardised at a time, so that intermediate results of millions need no memory."""


class EpisodeColumns(Protocol):
    """What the encoder needs of a set of episodes, such as `episodes.packed.Episodes`."""

    @property
    def offsets(self) -> np.ndarray:
        """First row of each episode, and the number of rows at the end."""
        ...

    @property
    def baseline_lengths(self) -> np.ndarray:
        """Baseline rows of each episode."""
        ...

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """Numeric columns by name."""
        ...

    @property
    def texts(self) -> dict[str, np.ndarray]:
        """Text columns by name."""
        ...

    @property
    def canary_lengths(self) -> np.ndarray:
        """Decisions of each episode."""
        ...

    @property
    def canary_offsets(self) -> np.ndarray:
        """First decision of each episode, and their number at the end."""
        ...

    def column(self, name: str) -> np.ndarray:
        """A numeric column, NaN where the table has none."""
        ...


@dataclass(frozen=True, eq=False)
class StateEncoder:
    """Features of the state, with what standardising them needs.

    Attributes:
        state: The features, in order.
        center: Median of each feature over the training split, shape (n_features,).
        scale: Spread of each feature over the training split, shape (n_features,), above 0.
        low: Smallest value of each feature in the training split, NaN if it had none.
        high: Largest value of each feature in the training split, NaN if it had none.
    """

    state: tuple[Feature, ...]
    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray

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

    @property
    def n_inputs(self) -> int:
        """Length of `standardise`'s rows: each feature and its mark."""
        return 2 * len(self.state)

    def range_of_values(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lowest and highest value of each feature that training has seen.

        Args:
            margin: How much wider on either side, in widths of the range.

        Returns:
            Two of shape (n_features,); infinite for clocks, for shares of observations, and for
            features that the training split never had.
        """
        bound = np.array([f.metric is not None and f.kind not in SHARES for f in self.state])
        bound &= ~np.isnan(self.low)
        room = margin * (self.high - self.low)
        low = np.where(bound, self.low - room, -np.inf)
        return low, np.where(bound, self.high + room, np.inf)

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
            features: Shape (n, n_features), NaN where missing.

        Returns:
            Shape (n, 2 n_features), float32 within -LIMIT..LIMIT: the values, 0 where missing,
            then the marks, 1 where missing.
        """
        inputs = np.empty((len(features), self.n_inputs), dtype=np.float32)
        for start in range(0, len(features), _AT_ONCE):
            some = features[start : start + _AT_ONCE]
            missing = np.isnan(some)
            values = np.arcsinh((some - self.center) / self.scale)
            values = np.where(missing, 0.0, np.clip(values, -LIMIT, LIMIT))
            np.concatenate(
                [values, missing],
                axis=1,
                out=inputs[start : start + _AT_ONCE],
                casting="unsafe",
            )
        return inputs

    def as_dict(self) -> dict[str, Any]:
        """Returns the encoder as plain values, None for a statistic without data."""
        statistics = {
            name: [None if np.isnan(x) else float(x) for x in getattr(self, name)]
            for name in ("center", "scale", "low", "high")
        }
        return {"state": list(self.names), **statistics}

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
        center, scale = statistics[:2]
        if not (np.isfinite(center).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise DeployError("encoder: center must be finite and scale above 0")
        return cls(state, *statistics)


def fit_encoder(names: Sequence[str], episodes: EpisodeColumns) -> StateEncoder:
    """Fits the statistics of a state to the training split.

    Raises:
        DeployError: If the state is not one, or names a metric that the episodes lack.
    """
    state = parse_state(names)
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
    return StateEncoder(state, center, scale, low, high)


def require_columns(state: Sequence[Feature], episodes: EpisodeColumns) -> None:
    """Raises DeployError if the episodes lack a column that the state is made from."""
    for metric in metrics_of(state):
        if metric in episodes.texts:
            raise DeployError(f"state: {metric} is text; only numeric columns can be state")
        if metric not in episodes.numbers:
            has = ", ".join(sorted(episodes.numbers))
            raise DeployError(
                f"state: the episodes have no column {metric}; they have {has}. Add the column "
                "to the data (and to `metrics` of an Oumi dataset), or train without it"
            )


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
    starts, base = episodes.offsets[:-1], episodes.baseline_lengths
    n_canary, decisions = episodes.canary_lengths, episodes.canary_offsets

    memory = Memory.empty(len(starts), len(metrics))
    # Episodes that still go on stand first, so that each step works on views of their memory.
    longest_base, longest = np.argsort(-base, kind="stable"), np.argsort(-n_canary, kind="stable")
    base_memory = memory if not base.any() else Memory.empty(len(starts), len(metrics))
    for t in range(int(base.max(initial=0))):
        going = longest_base[: int((base > t).sum())]
        base_memory.first(len(going)).observe_baseline(values[starts[going] + t])
    if base.any():
        memory.base_count[np.argsort(longest)[longest_base]] = base_memory.base_count
        memory.base_sum[np.argsort(longest)[longest_base]] = base_memory.base_sum

    features = np.empty((int(decisions[-1]), len(state)))
    for t in range(int(n_canary.max(initial=0))):
        going = longest[: int((n_canary > t).sum())]
        rows = starts[going] + base[going] + t
        history = memory.first(len(going)).observe(values[rows], control[rows], minutes[rows, None])
        history["planned_share"] = (history["steps"] + 1) / planned[rows, None]
        features[decisions[going] + t] = gather(state, metrics, history)
    return features


def gather(
    state: Sequence[Feature], metrics: Sequence[str], history: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Picks a state's features out of a history, shape (n, n_features)."""
    columns = {metric: i for i, metric in enumerate(metrics)}
    return np.stack(
        [history[f.kind][:, columns[f.metric] if f.metric is not None else 0] for f in state],
        axis=1,
    )
