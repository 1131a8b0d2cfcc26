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

"""What a finished training run leaves behind, as far as pictures need it."""

import json
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.policy import DeploymentPolicy

POLICY_FILE = "deployment_policy_model.json"
CURVE_FILE = "learning_curve.json"


@dataclass(frozen=True, eq=False)
class Run:
    """A run.

    Attributes:
        policy: What it learnt.
        curve: What it logged, one mapping a logged step, each with a `global_step`.
    """

    policy: DeploymentPolicy
    curve: list[dict[str, Any]]


def read_run(folder: Path) -> Run:
    """Reads the folder of a finished run.

    Raises:
        DeployError: If one of its files is missing, truncated or of another kind.
    """
    return Run(DeploymentPolicy.load(folder / POLICY_FILE), _read_curve(folder / CURVE_FILE))


def _read_curve(path: Path) -> list[dict[str, Any]]:
    try:
        curve = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeployError(
            f"{path}: {error.strerror}; name the folder of a finished `oumi train` run"
        ) from error
    except ValueError as error:
        raise DeployError(f"{path}: truncated or not JSON: {error}; train again") from error
    if not isinstance(curve, list) or not curve or not all(map(_is_logged_step, curve)):
        raise DeployError(
            f"{path}: not a learning curve: expected a list of logged steps, each with a "
            "`global_step`; train again"
        )
    return curve


def _is_logged_step(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("global_step"), Real)
