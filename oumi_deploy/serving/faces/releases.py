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
"""Which rollout an event is about that does not name one."""

from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.log.writer import DecisionLog

_LOOKED_THROUGH = 50
"""Latest rollouts of a service among which an event's version is looked for."""


def rollout_of(
    log: DecisionLog, service: str, environment: str, artifacts: tuple[str, ...]
) -> RolloutName:
    """Returns the newest rollout of a service that an event can mean.

    Args:
        log: The decision log.
        service: The service, as the event calls it.
        environment: The environment.
        artifacts: What the event says of the version: a tag, a commit, an image, a package URL.
            Empty words say nothing.

    Returns:
        The newest rollout of one of these versions that was decided on; where there is none, one
        named by the first artifact, which nothing else may ever be of.
    """
    told = tuple(a for a in artifacts if a)
    for name in log.find_rollouts(service, environment, limit=_LOOKED_THROUGH):
        if any(_names(artifact, name.version) for artifact in told):
            return name
    return RolloutName(service, environment, told[0] if told else "", "")


def try_of(log: DecisionLog, name: RolloutName) -> RolloutName:
    """Returns the newest try at a version where none is named, else the name as it is."""
    if name.rollout or log.first_asked(name) is not None:
        return name
    tries = log.find_rollouts(name.service, name.environment, name.version, limit=1)
    return tries[0] if tries else name


def _names(artifact: str, version: str) -> bool:
    """Returns whether an artifact is of a version, as image:v2 and pkg:oci/image@sha256?tag=v2 are.

    >>> _names("registry/shop:v2", "v2"), _names("pkg:oci/shop@sha256%3Aab?tag=v2", "v2")
    (True, True)
    >>> _names("registry/shop:v12", "v2")
    False
    """
    if not version:
        return False
    return artifact == version or any(
        artifact.endswith(mark + version) or f"{mark}{version}{end}" in artifact
        for mark in (":", "@", "tag=")
        for end in ("?", "&", "@")
    )
