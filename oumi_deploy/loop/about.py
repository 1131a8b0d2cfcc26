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

"""What is written of a version, for whoever asks later how it came to be."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oumi_deploy.loop.releases import Releases
from oumi_deploy.loop.reviews import waiting_for_review
from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.serving.policies import read_versioned


def about_policy(
    path: Path, policy: DeploymentPolicy, parent: int | None, settings: LoopSettings
) -> dict[str, Any]:
    """Returns what a policy comes from, JSON-able.

    Args:
        path: Its file.
        policy: The policy.
        parent: The version that its training went on from, None for the first.
        settings: What the loop was told.
    """
    return {
        "parent": parent,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy_version": read_versioned(path).version,
        "split": settings.split(),
        "training_config": hashlib.sha256(settings.training_config.read_bytes()).hexdigest(),
        "training_data": dict(policy.training_data),
    }


def about_releases(releases: Releases) -> dict[str, Any]:
    """Returns what a night's releases were, JSON-able."""
    exported = releases.exported
    return {
        "exported": {
            "n_releases": exported.n_rollouts,
            "n_labelled": exported.n_labelled,
            "n_untold": exported.n_untold,
            "labelled_by": dict(exported.labelled_by),
            "left_out": dict(exported.left_out),
        },
        "data": releases.described(),
        "waiting_for_review": waiting_for_review(releases.judge),
    }
