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

"""Folds that never tear a group."""

from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.errors import DeployError

if TYPE_CHECKING:  # the commands import this before anyone knows that pandas is there
    from oumi_deploy.episodes.packed import Episodes


def assign_folds(
    codes: np.ndarray, n_folds: int, seed: int, asked_as: str = "--folds"
) -> np.ndarray:
    """Deals groups out to folds at random.

    Args:
        codes: Group of each episode, int of shape (n_episodes,).
        n_folds: Number of folds, 0 for as many as groups.
        seed: Seed of the deal.
        asked_as: What asks for the folds, for the message.

    Returns:
        Fold of each episode, int of shape (n_episodes,).

    Raises:
        DeployError: If there are fewer groups than folds.
    """
    n_groups = int(codes.max()) + 1
    n_folds = n_folds or n_groups
    if not 2 <= n_folds <= n_groups:
        raise DeployError(
            f"{asked_as} {n_folds}: {n_groups} groups allow 2 to {n_groups} folds, or 0 to leave "
            "one group out"
        )
    return (np.random.default_rng(seed).permutation(n_groups) % n_folds)[codes]


def codes_by(episodes: "Episodes", by: str) -> np.ndarray:
    """Numbers what episodes are left out by.

    Args:
        episodes: The episodes.
        by: `group`, or the name of a text column.

    Returns:
        Codes from 0, int of shape (n_episodes,).

    Raises:
        DeployError: If the text column is not there, or has gaps.
    """
    if by == "group":
        return episodes.group_codes()
    words = episodes.texts.get(by)
    if words is None or any(word is None for word in words):
        raise DeployError(f"--by {by}: the episodes have no text column {by} without gaps")
    return np.unique(words.astype(str), return_inverse=True)[1]
