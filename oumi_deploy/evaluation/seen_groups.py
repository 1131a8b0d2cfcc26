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

"""Knowing a policy's training groups again, so that it is not tested on what it was taught."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from oumi_deploy.episodes.packed import Episodes

MOST = 20_000
"""Groups of a training split up to which a policy file lists their digests."""


def names_of_groups(episodes: Episodes) -> set[str]:
    """Returns the names of the groups; an episode without one goes by its `episode_id`."""
    alone = pd.isna(episodes.groups)
    return {*map(str, episodes.groups[~alone]), *map(str, episodes.ids[alone])}


def group_digests(episodes: Episodes) -> list[str] | None:
    """Returns short digests of the groups' names, sorted; None where there are more than MOST."""
    if episodes.n_groups > MOST:
        return None
    return sorted(map(_digest, names_of_groups(episodes)))


def of_seen_groups(training_data: Mapping[str, Any], episodes: Episodes) -> np.ndarray:
    """Returns which episodes are of a group in the training split.

    An episode that had no group when it was trained on is known by its `episode_id`, whatever
    group it has now.

    Args:
        training_data: What a policy file says of its training split.
        episodes: The episodes.

    Returns:
        Bool of shape (n_episodes,).
    """
    if training_data.get("fingerprint") == episodes.fingerprint():
        return np.ones(len(episodes), dtype=bool)
    seen = frozenset(training_data.get("group_digests") or ())
    if not seen:
        return np.zeros(len(episodes), dtype=bool)

    def is_seen(name: object) -> bool:
        return _digest(name) in seen

    by_group = [not pd.isna(group) and is_seen(group) for group in episodes.groups]
    return np.array(by_group, dtype=bool) | np.array([*map(is_seen, episodes.ids)], dtype=bool)


def without_digests(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is said of a data set without the digests of its groups: no person reads them.

    Args:
        about: What a policy file says of its training split, or of what it was calibrated on.
    """
    return {name: told for name, told in about.items() if name != "group_digests"}


def _digest(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()[:12]
