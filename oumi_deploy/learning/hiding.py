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

"""Learning with part of the state hidden.

A network, or trees, that always saw every metric has no idea what to do without one. Some decisions
are therefore learnt from as a team would see them that does not measure some of the metrics, keeps
no baseline, or has no old version beside the new one: the values are taken out and marked missing,
as the encoder would have done. What is hidden, and for which decision, depends on seed
and epoch alone. Networks draw anew for every decision and epoch; trees, which see all decisions at
once, for every release. Nothing is hidden from releases that were made to look like an outage: what
tells them apart is the comparison, and without it they would teach that outages are good.
"""

from dataclasses import dataclass

import numpy as np
import torch

from oumi_deploy.episodes.schema import ROLLOUT_COLUMNS
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.state import SHARES, TO_BASELINE, TO_CONTROL, Feature

N_PATTERNS = 4096
"""Ways of hiding that are drawn once and used again and again."""

_CHANCE = 0.5


@dataclass(frozen=True, eq=False)
class Hiding:
    """Ways of hiding, each as `inputs * keep + fill`.

    Attributes:
        keep: 1 where the input stays, else 0, float32 of shape (N_PATTERNS + 1, n_inputs); the last
            hides nothing.
        fill: What stands in the place of hidden inputs, same shape.
    """

    keep: torch.Tensor
    fill: torch.Tensor

    def to(self, device: str | torch.device) -> "Hiding":
        """Moves the patterns to where the network is."""
        return Hiding(self.keep.to(device), self.fill.to(device))

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Draws a pattern for each of n decisions, int64 of shape (n,)."""
        return torch.randint(N_PATTERNS, (n,), generator=generator)

    def apply(self, inputs: torch.Tensor, patterns: torch.Tensor) -> torch.Tensor:
        """Hides from encoded states, shape (n, n_inputs), by patterns of shape (n,)."""
        keep, fill = (x.index_select(0, patterns) for x in (self.keep, self.fill))
        return torch.addcmul(fill, inputs, keep)


def hiding_for(encoder: StateEncoder, share: float, dropout: float, seed: int) -> Hiding:
    """Draws the ways of hiding for a state.

    Args:
        encoder: The encoder of the state.
        share: Share of patterns as of a team that measures less, 0..1.
        dropout: Probability with which each feature is hidden by itself, 0..1.
        seed: Seed of the draw.
    """
    random = np.random.default_rng([seed, 3])
    gone = _draw_patterns(encoder, share, random)
    dropped = random.random(gone.shape) < dropout
    known, hidden = gone & ~dropped & _are_shares(encoder), gone | dropped
    shares = encoder.standardise(_shares_of_nothing(encoder)[None])[0, : len(encoder.state)]
    values = np.where(known, shares, 0.0)
    keep = np.pad(
        1.0 - np.concatenate([hidden, hidden], axis=1), ((0, 1), (0, 0)), constant_values=1
    )
    fill = np.pad(np.concatenate([values, hidden & ~known], axis=1), ((0, 1), (0, 0)))
    return Hiding(*(torch.from_numpy(x.astype(np.float32)) for x in (keep, fill)))


def hide_from_releases(
    encoder: StateEncoder,
    features: np.ndarray,
    lengths: np.ndarray,
    is_whole: np.ndarray,
    share: float,
    seed: int,
) -> np.ndarray:
    """Returns states of which some releases hide a part, each the same part throughout.

    Args:
        encoder: The encoder of the state.
        features: Shape (n_decisions, n_features), releases one after the other.
        lengths: Decisions of each release, int of shape (n_releases,).
        is_whole: Decisions from which nothing is hidden, bool of shape (n_decisions,).
        share: Share of releases as of a team that measures less, 0..1.
        seed: Seed of the draw.
    """
    random = np.random.default_rng([seed, 3])
    patterns = _draw_patterns(encoder, share, random)
    drawn = random.integers(len(patterns), size=len(lengths))
    gone = patterns[drawn].repeat(lengths, axis=0) & ~is_whole[:, None]
    left = np.where(_are_shares(encoder), _shares_of_nothing(encoder), np.nan)
    return np.where(gone, left, features)


def _are_shares(encoder: StateEncoder) -> np.ndarray:
    return np.array([feature.kind in SHARES for feature in encoder.state])


def _shares_of_nothing(encoder: StateEncoder) -> np.ndarray:
    """Returns the shares of a metric that is never there: all missing, and none unmatched."""
    return np.array([float(feature.kind == "missing") for feature in encoder.state])


def _draw_patterns(encoder: StateEncoder, share: float, random: np.random.Generator) -> np.ndarray:
    """Draws what is hidden in each way of hiding, bool of shape (N_PATTERNS, n_features)."""
    gone = np.stack([_draw_hidden(encoder, random) for _ in range(N_PATTERNS)])
    return gone & (random.random((N_PATTERNS, 1)) < share)


def _draw_hidden(encoder: StateEncoder, random: np.random.Generator) -> np.ndarray:
    """Draws which features are hidden, bool of shape (n_features,); one metric always stays."""
    metrics = [m for m in encoder.metrics if m not in ROLLOUT_COLUMNS] or list(encoder.metrics)
    n_gone = int(random.integers(0, len(metrics)))
    gone = set(random.permutation(metrics)[:n_gone])
    gone |= {m for m in ROLLOUT_COLUMNS if m not in metrics and random.random() < _CHANCE}
    beside = (TO_BASELINE, (*TO_CONTROL, "unmatched"))
    kinds = {kind for one in beside if random.random() < _CHANCE for kind in one}
    clocks = {k for k in ("minutes", "planned_share") if random.random() < _CHANCE}
    return np.array([_is_hidden(feature, gone, kinds, clocks) for feature in encoder.state])


def _is_hidden(feature: Feature, gone: set[str], kinds: set[str], clocks: set[str]) -> bool:
    if feature.metric is None:
        return feature.kind in clocks
    return feature.metric in gone or feature.kind in kinds
