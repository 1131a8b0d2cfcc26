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

"""Which of Oumi's own training parameters mean something here; the others are refused by name."""

import torch
from oumi.core.configs import TrainingConfig, TrainingParams
from oumi.core.distributed import is_distributed
from oumi.utils.torch_utils import get_torch_dtype

from oumi_deploy.errors import DeployError

_NO_LOADER = "decisions are gathered in memory, not by a data loader"
_NEVER = {
    "use_peft": "there is no adapter to train",
    "enable_gradient_checkpointing": "the networks are too small to need it",
    "mixed_precision_dtype": "training is in single precision",
    "compile": "the update is written out by hand",
    "metrics_function": "the scoring rules are the library's",
    "label_ignore_index": "labels are not tokens",
    "dataloader_num_workers": _NO_LOADER,
    "dataloader_prefetch_factor": _NO_LOADER,
    "dataloader_persistent_workers": _NO_LOADER,
    "per_device_eval_batch_size": "the validation split is scored whole",
    "include_performance_metrics": "they are those of language models",
    "empty_device_cache_steps": "the networks are too small to need it",
    "ddp_find_unused_parameters": "training runs in one process",
    "grpo": "it is another trainer's",
}
_TABLE = {
    "optimizer": "a table moves towards its targets by the learning rate",
    "weight_decay": "a table has no weights",
    "gradient_accumulation_steps": "a table has no gradients",
    "max_grad_norm": "a table has no gradients",
    "adam_beta1": "a table has no optimiser",
    "adam_beta2": "a table has no optimiser",
    "adam_epsilon": "a table has no optimiser",
    "sgd_momentum": "a table has no optimiser",
}
_TREES = {
    **dict.fromkeys(_TABLE, "trees are fitted by boosting, not by an optimiser"),
    **dict.fromkeys(
        ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        "trees have theirs, model.model_kwargs.learning_rate",
    ),
    "warmup_ratio": "trees have a learning rate of their own, which stays",
    "per_device_train_batch_size": "trees are fitted to all decisions at once",
}
_NO_BATCHES = "a table learns from a pass over all decisions, or in the environment from one step"


def refuse_idle_params(
    params: TrainingParams, config: TrainingConfig | None, *, table: bool, trees: bool = False
) -> None:
    """Raises DeployError for a parameter that was set and would have no effect.

    A parameter counts as set where it differs from Oumi's default.
    """
    unset = TrainingParams()
    idle = {**_NEVER, **(_TABLE if table else _TREES if trees else {})}
    if table:
        idle["per_device_train_batch_size"] = _NO_BATCHES
    for name, why in idle.items():
        if getattr(params, name) != getattr(unset, name):
            raise DeployError(f"training.{name} has no effect here ({why}): take it out")
    if is_distributed():
        raise DeployError("training runs in one process: start it with plain `oumi train`")
    if config is not None:
        _refuse_idle_config(config)
    if table and not 0 < params.learning_rate <= 1:
        raise DeployError(
            f"training.learning_rate: {params.learning_rate:g} is not above 0 and at most 1, the "
            "share of the way to its target that a table moves"
        )
    if params.per_device_train_batch_size < 1:
        raise DeployError(
            f"training.per_device_train_batch_size: {params.per_device_train_batch_size} is not 1 "
            "or more"
        )
    if params.weight_decay < 0:
        raise DeployError(f"training.weight_decay: {params.weight_decay:g} is not 0 or more")
    if isinstance(params.eval_steps, float):
        raise DeployError(
            f"training.eval_steps: {params.eval_steps:g} is not a whole number of steps"
        )
    if not table and params.learning_rate <= 0:
        raise DeployError(f"training.learning_rate: {params.learning_rate:g} is not above 0")


def _refuse_idle_config(config: TrainingConfig) -> None:
    if config.fsdp.enable_fsdp or config.deepspeed.enable_deepspeed:
        raise DeployError("fsdp and deepspeed have no effect here: take them out")
    model = config.model
    if model.freeze_layers:
        raise DeployError("model.freeze_layers has no effect here (all weights learn): take it out")
    for name in ("collator_name", "target_col"):
        if getattr(config.data.train, name) is not None:
            raise DeployError(f"data.train.{name} has no effect here (episodes are not text)")
    precision = model.torch_dtype_str
    if precision != "auto" and get_torch_dtype(precision) != torch.float32:
        raise DeployError(
            f"model.torch_dtype_str: {precision} has no effect here (training is in single "
            "precision): set it to float32"
        )
    if model.load_pretrained_weights and model.model_kwargs:
        raise DeployError("model.model_kwargs has no effect on a model that is loaded: take it out")
