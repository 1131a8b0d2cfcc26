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

"""What a person says of champions: who is the first, the way back, and on from there."""

import shutil
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.vet.vet import in_words, kept_vet
from oumi_deploy.loop.about import about_policy
from oumi_deploy.loop.folder import POLICY, PRETRAINED, LoopFolder
from oumi_deploy.loop.history import BACK, RESUMED
from oumi_deploy.loop.model import require_model_of
from oumi_deploy.loop.settings import read_settings
from oumi_deploy.loop.unseen import not_listed, require_unseen, taught
from oumi_deploy.serving.policies import read_versioned


def begin(folder: LoopFolder, policy_file: Path, pretrained: Path | None) -> dict[str, Any]:
    """Makes a policy the first champion.

    Args:
        folder: The loop, with its settings.
        policy_file: A calibrated policy.
        pretrained: Folder of its model, for training to go on from; None to train anew each time.

    Raises:
        DeployError: If there is a champion already, if the policy was trained or calibrated on
            groups of the trusted file, or if something cannot be used.
    """
    settings = read_settings(folder.path)
    policy = read_versioned(policy_file).policy
    require_unseen(policy, policy_file, settings.trusted_episodes)
    if pretrained is not None:
        require_model_of(policy, policy_file, pretrained)
    with folder.locked():
        if folder.is_begun:
            raise DeployError(f"{folder.path}: version {folder.champion} is champion already")
        with folder.workplace() as work:
            draft = work / "version"
            draft.mkdir()
            shutil.copyfile(policy_file, draft / POLICY)
            if pretrained is not None:
                shutil.copytree(pretrained, draft / PRETRAINED)
            reason, unknown = "the loop begins with it", not_listed(taught(policy, "it"))
            if unknown is not None:
                reason += f"; new releases will not count: they may be among {unknown}"
            vet = kept_vet(policy)
            if not vet["passes"]:
                reason += f"; it {in_words(vet)}, and may be replaced"
            about = {
                **about_policy(draft / POLICY, policy, None, settings),
                "outcome": "promoted",
                "reason": reason,
            }
            number = folder.keep(draft, about)
            folder.promote(number)
            folder.note("begun", reason, version=number)
    return {**about, "champion": number}


def go_back(folder: LoopFolder) -> dict[str, Any]:
    """Makes the version that the champion took the place of champion again.

    From then on nothing is promoted until `resume`: what made the champion would make it again.

    Raises:
        DeployError: If there is none.
    """
    with folder.locked():
        folder.settle()
        left = folder.champion
        parent = folder.about(left)["parent"]
        if parent is None:
            raise DeployError(f"{folder.path}: version {left} is the first: nothing to go back to")
        reason = f"somebody went back from version {left}; nothing is promoted until --resume"
        # First, so that whoever is killed in between leaves promotions held.
        folder.note(BACK, reason, champion=parent, version=left)
        folder.promote(parent)
    return {"outcome": BACK, "reason": reason, "champion": parent}


def resume(folder: LoopFolder) -> dict[str, Any]:
    """Lets challengers be promoted again after `go_back`.

    Raises:
        DeployError: If they may be already.
    """
    with folder.locked():
        folder.settle()
        if not folder.is_held:
            raise DeployError(f"{folder.path}: promotions are not held: there is nothing to resume")
        reason = "somebody said that what is better may be promoted again"
        folder.note(RESUMED, reason)
    return {"outcome": RESUMED, "reason": reason, "champion": folder.champion}
