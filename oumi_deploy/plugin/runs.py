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

"""Training as `oumi train` does it, on episodes in memory and without its files."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.rows import to_rows
from oumi_deploy.errors import DeployError
from oumi_deploy.learning.settings import AlgorithmSettings, read_settings
from oumi_deploy.plugin.calibration import SETTING, algorithm_kwargs
from oumi_deploy.plugin.quiet import quiet_oumi
from oumi_deploy.policy.policy import DeploymentPolicy


def load_train_config(path: Path, overrides: Sequence[str] = ()) -> Any:
    """Reads a training config as `oumi train` does.

    Args:
        path: The YAML file.
        overrides: Changes as on Oumi's command line, `training.learning_rate=0.1`.

    Raises:
        DeployError: If the file is missing or not a training config, or the saved model that
            it goes on from is not there.
    """
    from oumi.core.configs import TrainingConfig
    from oumi.exceptions import OumiConfigError
    from yaml import YAMLError

    if not path.is_file():
        raise DeployError(f"{path}: no such config")
    try:
        config = TrainingConfig.from_yaml_and_arg_list(str(path), list(overrides))
        _require_saved_model(config.model, path)
        config.finalize_and_validate()
    except OumiConfigError as error:
        raise DeployError(f"{path}: {' '.join(str(error).split())}") from error
    except DeployError:
        raise
    except (ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DeployError(f"{path}: not a training config: {reason}") from error
    return config


def _require_saved_model(model: Any, path: Path) -> None:
    # Oumi would look for it on the hub, where there are no deployment policies.
    if model.load_pretrained_weights and not Path(model.model_name).is_dir():
        raise DeployError(f"{path}: model_name: there is no {model.model_name}; train it first")


def settings_of(config: Any) -> AlgorithmSettings:
    """Returns the algorithm's settings of a training config; a saved model brings its state.

    Raises:
        DeployError: If one is unknown or impossible.
    """
    plain = algorithm_kwargs(config.training.trainer_kwargs)
    kind, state = _saved_model(config.model.model_name)
    if state is not None:
        plain.setdefault("state", state)
    kind = kind.lower()
    return read_settings(plain, network="network" in kind, trees="trees" in kind)


def _saved_model(model_name: str) -> tuple[str, list[str] | None]:
    """Returns the kind of a registered model, or kind and state of one saved in a folder."""
    about = Path(model_name) / "config.json"
    if not about.is_file():
        return model_name, None
    plain = json.loads(about.read_text(encoding="utf-8"))
    try:
        return plain["model_type"], plain["init_kwargs"]["built"]["encoder"]["state"]
    except (KeyError, TypeError) as error:
        raise DeployError(f"{about}: not a saved deployment model: no {error}") from error


def train_policy(
    config: Any,
    train: Episodes,
    validation: Episodes | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[DeploymentPolicy, dict[str, float]]:
    """Trains a policy with the deployment trainer, in a folder that is thrown away.

    Args:
        config: The training config; its datasets are not read.
        train: Episodes to train on.
        validation: Episodes to validate on.
        changes: Settings of `trainer_kwargs` and, as `model.<name>`, of `model_kwargs` that
            differ from the config's.

    Returns:
        The policy and the figures of the validation split, empty without one.

    Raises:
        DeployError: If a setting or the episodes cannot be used.
    """
    from copy import deepcopy

    from oumi.builders.models import build_model
    from oumi.exceptions import OumiConfigError

    from oumi_deploy.plugin.dataset import as_dataset
    from oumi_deploy.plugin.trainer import DeploymentTrainer

    config = deepcopy(config)
    for name, value in (changes or {}).items():
        kind, dot, rest = name.partition(".")
        if kind == "model" and dot:
            config.model.model_kwargs[rest] = value
        else:
            config.training.trainer_kwargs[name] = value
    config.training.enable_tensorboard = False
    # What calibrates it is the caller's business: it was asked for a policy.
    said = config.training.trainer_kwargs.get(SETTING)
    if isinstance(said, Mapping):
        config.training.trainer_kwargs[SETTING] = {k: v for k, v in said.items() if k != "folds"}
    with quiet_oumi(), tempfile.TemporaryDirectory() as folder:
        config.training.output_dir = folder
        config.training.save_steps = 0
        config.training.logging_steps = 0
        try:
            trainer = DeploymentTrainer(
                model=build_model(config.model),
                processing_class=None,
                args=config.training,
                train_dataset=as_dataset(to_rows(train)),
                eval_dataset=None if validation is None else as_dataset(to_rows(validation)),
                training_config=config,
            )
            trainer.train()
        except OumiConfigError as error:
            raise DeployError(str(error)) from error
        return trainer.policy(), trainer.last_eval
