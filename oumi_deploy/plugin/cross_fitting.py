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

"""The calibration of a policy that is trained on all releases, from policies trained on folds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.folds import assign_folds

if TYPE_CHECKING:  # the commands import this before they know that pandas is there
    from oumi_deploy.episodes.packed import Episodes
    from oumi_deploy.policy.calibration import Calibration
    from oumi_deploy.policy.guardrails import Guardrails


def deal_folds(episodes: "Episodes", n_folds: int, seed: int, asked_as: str) -> np.ndarray:
    """Deals groups out to folds such that a policy can be trained without each of them.

    Args:
        episodes: The episodes.
        n_folds: Number of folds, 0 for as many as groups.
        seed: Seed of the deal.
        asked_as: The setting that asks for the folds, for messages.

    Returns:
        Fold of each episode, int of shape (n_episodes,).

    Raises:
        DeployError: If there are fewer groups than folds, or one fold has all that are good, or
            all that are bad.
    """
    folds = assign_folds(episodes.group_codes(), n_folds, seed, asked_as)
    for fold in np.unique(folds):
        try:
            episodes.select(folds != fold).require_both_classes()
        except DeployError as error:
            raise DeployError(f"{asked_as} {n_folds}: without one of the folds, {error}") from error
    return folds


def cross_fitted(
    config: Any,
    episodes: "Episodes",
    folds: np.ndarray,
    seed: int,
    changes: Mapping[str, Any] | None = None,
    guardrails: "Guardrails | None" = None,
) -> "Calibration":
    """Returns a calibration from what policies say of the fold that they were not trained on.

    Args:
        config: The training config.
        episodes: The episodes that the policy to calibrate was trained on.
        folds: Fold of each episode, see `deal_folds`.
        seed: Seed of the intervals of the figures.
        changes: Settings that differ from the config's, see `train_policy`.
        guardrails: The team's own limits; those of the config that the episodes give something to
            read if None.

    Raises:
        DeployError: If a setting or the episodes cannot be used, or risk does not rise with
            Q(ROLLBACK) on them.
    """
    from tqdm import tqdm

    from oumi_deploy.evaluation.calibrate import cross_fit
    from oumi_deploy.plugin.calibration import read_calibration_settings
    from oumi_deploy.plugin.runs import train_policy

    settings = read_calibration_settings(config.training.trainer_kwargs)
    if guardrails is None:
        guardrails = settings.readable_guardrails(episodes)
    policies = [
        train_policy(config, episodes.select(folds != fold), changes=changes)[0]
        for fold in tqdm(np.unique(folds), desc="Calibrating", unit="fold", leave=False)
    ]
    return cross_fit(policies, episodes, folds, settings.pauses, guardrails, seed)
