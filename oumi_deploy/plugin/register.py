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

"""What Oumi imports: it makes our dataset, models, evaluation and trainer known.

Oumi's registry has no trainers, so `build_trainer` is wrapped: a config that names our trainer in
`training.trainer_kwargs` gets it, any other what it asked for.
"""

import sys
from collections.abc import Callable
from typing import Any

import oumi.builders.training as oumi_training

import oumi_deploy.plugin.dataset
import oumi_deploy.plugin.evaluation
import oumi_deploy.plugin.models
from oumi_deploy.errors import DeployError
from oumi_deploy.plugin.errors import as_config_error

__all__ = ["build_trainer", "install"]

_oumi_build_trainer = oumi_training.build_trainer


def build_trainer(trainer_type: Any, processor: Any, verbose: bool = False) -> Callable[..., Any]:
    """Returns what creates the trainer; see Oumi's function of this name."""

    def create(*args: Any, **kwargs: Any) -> Any:
        params = kwargs["args"]
        name = params.trainer_kwargs.get("trainer")
        if name is None and not isinstance(
            kwargs["model"], oumi_deploy.plugin.models.DeploymentModel
        ):
            return _oumi_build_trainer(trainer_type, processor, verbose)(*args, **kwargs)
        # Imported only here: while Oumi itself is being imported, half of this is not there yet.
        from oumi_deploy.plugin.trainer import TRAINER_NAME, DeploymentTrainer

        with as_config_error("training.trainer_kwargs.trainer"):
            if name != TRAINER_NAME:
                raise DeployError(f"{name!r} is no trainer; set it to {TRAINER_NAME}")
        return DeploymentTrainer(*args, **kwargs)

    return create


def install() -> None:
    """Puts our `build_trainer` wherever Oumi has its own by now."""
    for module in ("oumi.builders.training", "oumi.builders", "oumi.train"):
        if hasattr(sys.modules.get(module), "build_trainer"):
            setattr(sys.modules[module], "build_trainer", build_trainer)  # noqa: B010


install()
