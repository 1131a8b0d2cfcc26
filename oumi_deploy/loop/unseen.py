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

"""Keeping what taught a policy from judging it.

A policy file lists digests of the groups that the policy was trained on and calibrated on, up to
20,000 of each; a release without a group goes by its `episode_id`, in older files by nothing. Where
one does not list all, only whole files are known by their fingerprints, and any new group may be
among those that taught it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes, read_episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.seen_groups import of_seen_groups
from oumi_deploy.policy.policy import DeploymentPolicy

Taught = dict[str, Mapping[str, Any]]
"""What policy files say of the releases that taught, by what they did, as "it was trained on"."""


def trained_on(policy: DeploymentPolicy, name: str) -> Taught:
    """Returns what a policy's file says of its training split."""
    return {f"{name} was trained on": policy.training_data}


def taught(policy: DeploymentPolicy, name: str) -> Taught:
    """Returns what a policy's file says of its training split, and of what calibrated it."""
    calibration = policy.calibration
    calibrated_on = {} if calibration is None else calibration.fitted_on
    return {**trained_on(policy, name), f"{name} was calibrated on": calibrated_on}


def unseen(episodes: Episodes, taught: Taught) -> Episodes:
    """Returns the episodes of groups that taught nobody, as far as the policy files tell."""
    seen = np.zeros(len(episodes), dtype=bool)
    for about in taught.values():
        seen |= of_seen_groups(about, episodes)
    return episodes.select(~seen)


def not_listed(taught: Taught) -> str | None:
    """Returns what taught and may be among new groups for all that is known, None if nothing."""
    unlisted = [did for did, about in taught.items() if not _lists_all(about)]
    if not unlisted:
        return None
    return f"what {unlisted[0]}, whose policy file does not list all groups of that"


def _lists_all(about: Mapping[str, Any]) -> bool:
    """Returns whether each group has a digest; in older files those without a name have none."""
    digests = about.get("group_digests") or ()
    return len(digests) >= max(1, about.get("n_groups", 1))


def require_unseen(policy: DeploymentPolicy, policy_file: Path, trusted_file: Path) -> None:
    """Raises DeployError if a policy was trained or calibrated on groups of the trusted file."""
    trusted = read_episodes(trusted_file)
    for did, about in taught(policy, "it").items():
        n_seen = int(of_seen_groups(about, trusted).sum())
        if n_seen:
            raise DeployError(
                f"{policy_file}: {did} {n_seen} of the {len(trusted)} releases of "
                f"trusted_episodes {trusted_file}, by their groups, and what taught may not judge: "
                "bring a policy made without these groups, or a trusted file of others"
            )
