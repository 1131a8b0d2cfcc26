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

"""`oumi evaluate` for deployment policies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from oumi.core.configs import EvaluationConfig, EvaluationTaskParams
from oumi.core.registry import register_evaluation_function
from safetensors import SafetensorError

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import evaluate, warn_of_unreported
from oumi_deploy.plugin.dataset import load_episodes
from oumi_deploy.plugin.errors import as_config_error
from oumi_deploy.plugin.models import (
    DeploymentModel,
    DeploymentQNetwork,
    DeploymentQTable,
    DeploymentTrees,
)
from oumi_deploy.policy.policy import DeploymentPolicy

TASK_NAME = "deployment_policy"


@register_evaluation_function(TASK_NAME)
def deployment_policy(
    task_params: EvaluationTaskParams,
    config: EvaluationConfig,
    dataset_path: str | None,
    generate: Mapping[str, Any] | None,
    per_observation: bool,
) -> dict[str, float]:
    """Scores the policy that `model.model_name` names, the folder `oumi train` left.

    Oumi wants every argument named in `eval_kwargs`, so none has a default.

    Args:
        task_params: The task; `num_samples` takes the first episodes only.
        config: The whole config.
        dataset_path: Episode file, or null.
        generate: `count`, `seed` and optionally `parameters` of a generated sample, for where no
            file is given; or null.
        per_observation: Whether each canary observation is scored as one decision.

    Returns:
        Each figure by name, its interval as `<name>_low` and `<name>_high`, and how many episodes
        were judged; what is undefined is left out.
    """
    with as_config_error("model.model_name"):
        policy = load_policy(Path(config.model.model_name))
    with as_config_error("eval_kwargs"):
        if not isinstance(per_observation, bool):
            raise DeployError(f"per_observation: {per_observation!r} is not true or false")
        if not isinstance(dataset_path, str | None):
            raise DeployError(f"dataset_path: {dataset_path!r} is not the name of a file")
        episodes = load_episodes(dataset_path, generate)
        if task_params.num_samples is not None:
            episodes = episodes.select(np.arange(min(task_params.num_samples, len(episodes))))
        warn_of_unreported(policy, episodes)
        judged = evaluate(policy, episodes, per_observation=per_observation)
    counts = {name: judged[name] for name in ("n_episodes", "n_bad", "n_censored", "n_unlabelled")}
    return {**_flat(judged["metrics"]), **counts}


def load_policy(folder: Path) -> DeploymentPolicy:
    """Reads the policy in a `pretrained` folder.

    Raises:
        DeployError: If it holds none.
    """
    kinds: tuple[type[DeploymentModel], ...] = (
        DeploymentQTable,
        DeploymentQNetwork,
        DeploymentTrees,
    )
    if not (folder / "config.json").is_file():
        raise DeployError(f"{folder} holds no model; train one with `oumi train` first")
    problem = ""
    for kind in kinds:
        try:
            model = kind.from_pretrained(folder)
        except ValueError as error:
            problem = str(error)
            continue
        except (OSError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
            raise DeployError(f"{folder}: {' '.join(str(error).split())}") from error
        assert isinstance(model, DeploymentModel)
        return model.policy()
    raise DeployError(f"{folder} holds no deployment policy: {problem}")


def _flat(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    flat = {}
    for name, metric in metrics.items():
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            if metric[key] is not None:
                flat[name + suffix] = metric[key]
    return flat
