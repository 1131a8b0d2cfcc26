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
"""The policy in use: taken up when its file changes, kept when the new one is no good."""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.vet.vet import in_words, kept_vet
from oumi_deploy.policy import version_1
from oumi_deploy.policy.policy import DeploymentPolicy

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Versioned:
    """A policy and what names it.

    Attributes:
        policy: The policy, calibrated.
        version: The first 12 hexadecimal digits of the file's SHA-256.
        vet: What is kept of its vet, see `kept_vet`.
    """

    policy: DeploymentPolicy
    version: str
    vet: Mapping[str, Any]

    @property
    def warnings(self) -> list[str]:
        """What an operator is to know of the policy before its answers."""
        old = [version_1.WARNING] * (self.policy.version == 1)
        return [*old, *[f"it {in_words(self.vet)}"] * (not self.vet["passes"])]


class PolicyFile:
    """A policy file that may be replaced while the service runs.

    Attributes:
        path: The file.
        current: The policy in use.
        refused: Why the file as it stands was refused, None where it is in use.
    """

    def __init__(self, path: Path, collected: Collection[str] | None = None):
        """Reads the file.

        Args:
            path: The file.
            collected: The columns that the service collects; None where it collects none.

        Raises:
            DeployError: If it is missing, no policy, or not calibrated.
        """
        self.path, self._collected = path, collected
        self._seen = _stamp(path)
        self.current = read_versioned(path)
        self._warn()
        self.refused: str | None = None

    def refresh(self) -> bool:
        """Takes up the file if it has changed; returns whether another policy is in use now."""
        stamp = _stamp(self.path)
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            fresh = read_versioned(self.path)
        except Exception as error:  # Whatever a broken file does, the old policy goes on.
            self.refused = str(error)
            _log.error("policy refused, version %s goes on: %s", self.current.version, error)
            return False
        self.refused = None
        if fresh.version == self.current.version:
            return False
        _log.info("policy %s takes the place of %s", fresh.version, self.current.version)
        self.current = fresh
        self._warn()
        return True

    def _warn(self) -> None:
        for warning in self.current.warnings:
            _log.warning("policy %s: %s", self.current.version, warning)
        if self._collected is None:
            return
        for rail in self.current.policy.guardrails.rails:
            lacking = [column for column in rail.columns if column not in self._collected]
            if lacking:
                _log.warning(
                    "policy %s: the guardrail %s reads %s, which is not collected: add a query, or "
                    "send it with the question",
                    self.current.version,
                    rail.name,
                    " and ".join(lacking),
                )


def read_versioned(path: Path) -> Versioned:
    """Reads a calibrated policy.

    Raises:
        DeployError: If the file is missing, no policy, or not calibrated.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeployError(f"{path}: {error.strerror}; train one with `oumi train`") from error
    try:
        policy = DeploymentPolicy.from_dict(json.loads(content))
    except (ValueError, RecursionError) as error:
        what = error if isinstance(error, DeployError) else f"truncated or not JSON: {error}"
        raise DeployError(f"{path}: {what}") from error
    if policy.calibration is None:
        raise DeployError(
            f"{path}: the policy is not calibrated, so it can state no risk and cannot pause: run "
            "`oumi-deploy calibrate` first"
        )
    return Versioned(policy, hashlib.sha256(content).hexdigest()[:12], kept_vet(policy))


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
