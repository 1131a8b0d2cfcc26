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

"""Reads the plan of a ChangeRCA experiment: what was released when, and where the fault was."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from oumi_deploy.errors import DeployError


class Step(NamedTuple):
    """One completed step of a release: some pods moved to the new version."""

    complete: int
    """When the step was complete, Unix seconds."""
    canary_share: float
    """Share of the pods on the new version from then on, 0..1."""
    deleted_pods: tuple[str, ...]
    """The pods that the step removed."""


class Release(NamedTuple):
    """One service's release, as it was carried out."""

    service: str
    begin: int
    """When the release began, Unix seconds."""
    steps: tuple[Step, ...]
    """The completed steps in the order of their completion; at least one."""
    bad: bool
    """Whether the fault was injected into this release."""


class Plan(NamedTuple):
    """The releases of one experiment, by service name."""

    releases: tuple[Release, ...]
    fault: str | None
    """What was injected into the bad release, in the source's words."""


def read_plan(path: Path) -> Plan:
    """Reads an experiment's plan.

    Args:
        path: The experiment's `<day>_<n>.json`.

    Raises:
        DeployError: The file cannot be read, or an entry is missing or of the wrong kind.
    """
    content = _read_json(path)
    planned = _entry(content, "plan", dict, path)
    bad = _entry(content, "fault_release_service", str | None, path)
    good = _entry(content, "normal_service_list", list, path)
    for service in sorted(planned):
        if service != bad and service not in good:
            raise DeployError(
                f"{path}: {service} is in plan, but neither the fault_release_service nor in "
                "normal_service_list: say there whether its release is bad or good"
            )
    releases = tuple(
        _release(service, _entry(planned, service, dict, path, "plan"), service == bad, path)
        for service in sorted(planned)
    )
    if not releases:
        raise DeployError(f"{path}: plan is empty: fetch the file again")
    return Plan(releases, _entry(content, "fault", str | None, path))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DeployError(
            f"{path}, line {error.lineno}: broken JSON ({error.msg}): fetch the file again"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: cannot be read ({error}): fetch the file again") from error


def _release(service: str, entry: dict, bad: bool, path: Path) -> Release:
    place = f"plan.{service}"
    process = _entry(entry, "process", dict, path, place)
    steps = [
        _step(_entry(process, key, dict, path, f"{place}.process"), path, f"{place}.process.{key}")
        for key in process
    ]
    if not steps:
        raise DeployError(f"{path}: {place}.process has no step: take {service} out of plan")
    # The keys of the steps are no clock: some lie before the completion of earlier steps.
    steps.sort(key=lambda step: step.complete)
    return Release(service, _entry(entry, "release_time", int, path, place), tuple(steps), bad)


def _step(entry: dict, path: Path, place: str) -> Step:
    old, new = (_entry(entry, version, int, path, place) for version in ("v1", "v2"))
    if min(old, new) < 0 or old + new == 0:
        raise DeployError(f"{path}: {place} has {old} v1 and {new} v2 pods: correct the numbers")
    return Step(
        _entry(entry, "release_complete_timestamp", int, path, place),
        new / (old + new),
        tuple(map(str, _entry(entry, "delete_pod", list, path, place))),
    )


def _entry(holder: Any, key: str, kind: Any, path: Path, place: str = "") -> Any:
    """Looks up a required entry of the JSON and makes sure that it is of the right kind."""
    name = f"{place}.{key}" if place else key
    if not isinstance(holder, dict) or key not in holder:
        raise DeployError(f"{path}: {name} is missing: fetch the file again")
    value = holder[key]
    if not isinstance(value, kind):
        wanted = getattr(kind, "__name__", str(kind))
        raise DeployError(
            f"{path}: {name} is {value!r:.40}, expected {wanted}: fetch the file again"
        )
    return value
