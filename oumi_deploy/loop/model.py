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

"""Whether a saved model is the one that a policy file was made of.

Training goes on from the model while the policy decides, so they must be one. The same releases
and the same state do not say so: a second training on them has other weights.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import NetworkQ, TableQ, TreesQ
from oumi_deploy.problem.encoder import StateEncoder

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"


def require_model_of(policy: DeploymentPolicy, policy_file: Path, model: Path) -> None:
    """Raises DeployError if a folder is no saved model, or not that of a policy.

    Args:
        policy: The policy.
        policy_file: Its file, for the message.
        model: Folder `pretrained` of a training.
    """
    try:
        built = json.loads((model / _CONFIG).read_bytes())["init_kwargs"]["built"]
        fingerprint = built["about"]["training_data"]["fingerprint"]
        encoder = StateEncoder.from_dict(built["encoder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeployError(
            f"{model}: not a model that `oumi train` saved: {_CONFIG} cannot be read, or tells "
            "nothing of its training"
        ) from error
    if fingerprint != policy.training_data.get("fingerprint"):
        differs = "they were trained on different releases"
    elif encoder.as_dict() != policy.encoder.as_dict():
        differs = "they see different states, or scale them differently"
    elif not _has_weights_of(policy, model / _WEIGHTS):
        differs = "their weights differ, so another training made it"
    else:
        return
    raise DeployError(
        f"{model}: not the model of {policy_file}: {differs}; name the folder `pretrained` that "
        "the same training left"
    )


def _has_weights_of(policy: DeploymentPolicy, file: Path) -> bool:
    """Returns whether a model's table, leaves, or first layer of its networks are the policy's.

    The policy file has the last layer with dueling and scale folded in; the first tells trainings
    apart as well, as each begins with weights of its own and changes them all.
    """
    try:
        tensors = load_file(file)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DeployError(
            f"{file}: cannot be read: name a folder that `oumi train` saved"
        ) from error
    if isinstance(policy.q_function, TableQ):
        names, theirs = ["table"], policy.q_function.table
    elif isinstance(policy.q_function, TreesQ):
        names, theirs = ["value"], policy.q_function.trees.value
    else:
        assert isinstance(policy.q_function, NetworkQ)
        # By length first: member 10 of an ensemble comes after member 9.
        first = (name for name in tensors if name.endswith("layers.0.weight"))
        names = sorted(first, key=lambda name: (len(name), name))
        theirs = policy.q_function.layers[0][0]
    ours = [tensors[name] for name in names if name in tensors]
    return bool(ours) and np.array_equal(np.concatenate(ours), theirs)
