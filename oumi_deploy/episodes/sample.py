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

"""Generated episodes, packed."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from oumi_deploy.episodes.generator import ReleaseParameters, stream_episodes
from oumi_deploy.episodes.packed import Episodes, concatenate, episodes_of_frame
from oumi_deploy.errors import DeployError, near_name


def release_parameters(changes: Mapping[str, Any]) -> ReleaseParameters:
    """Returns the generator's parameters with some changed.

    Args:
        changes: Fields of `ReleaseParameters` by name; a range may be a list.

    Raises:
        DeployError: If a name is unknown or a value impossible.
    """
    known = {f.name for f in fields(ReleaseParameters)}
    for name in changes:
        if name not in known:
            hint = near_name(name, known, "`oumi-deploy generate --parameters` lists them")
            raise DeployError(f"parameters: unknown {name}: {hint}")
    pairs: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in changes.items()}
    return ReleaseParameters(**pairs)


def generate_sample(count: int, seed: int, parameters: Mapping[str, Any] | None = None) -> Episodes:
    """Generates releases and packs them.

    Args:
        count: Number of episodes, 1 or more.
        seed: Seed; the first episodes of a larger sample are those of a smaller one.
        parameters: Fields of `ReleaseParameters` that differ from their defaults.

    Raises:
        DeployError: If a parameter is unknown or impossible.
    """
    chunks = stream_episodes(count, seed, release_parameters(parameters or {}))
    return concatenate([episodes_of_frame(chunk, "generated episodes") for chunk in chunks])
