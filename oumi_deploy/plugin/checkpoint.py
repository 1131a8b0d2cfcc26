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

"""Checkpoints that appear whole or not at all."""

import json
from pathlib import Path
from typing import Any

import torch

from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done

_TENSORS, _PLAIN = "state.pt", "trainer_state.json"


def checkpoint_path(output_dir: str, step: int) -> Path:
    """Returns the folder of a step, where Oumi's search for the last checkpoint finds it."""
    return Path(output_dir) / f"checkpoint-{step}"


def write_checkpoint(folder: Path, tensors: dict[str, Any], plain: dict[str, Any]) -> None:
    """Writes a checkpoint beside its name and renames it; one of an earlier run is replaced."""
    with replace_when_done(folder, folder=True) as draft:
        draft.mkdir()
        torch.save(tensors, draft / _TENSORS)
        (draft / _PLAIN).write_text(json.dumps(plain, indent=1), encoding="utf-8")


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads tensors and plain values.

    Raises:
        DeployError: If the folder is no checkpoint.
    """
    try:
        plain = json.loads((folder / _PLAIN).read_text(encoding="utf-8"))
        _ = plain["made_with"]
        return torch.load(folder / _TENSORS, weights_only=True), plain
    except Exception as error:  # A damaged file can raise anything when it is unpacked.
        raise DeployError(
            f"{folder}: not a checkpoint that can be resumed; it is missing, damaged or another "
            "trainer's: delete it to go on from the one before"
        ) from error
