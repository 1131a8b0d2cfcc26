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

"""Reads a list of past releases, whose telemetry is to be collected."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from oumi_deploy.episodes.schema import LABELS
from oumi_deploy.episodes.times import unix_seconds
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry.queries import ReleaseName


@dataclass(frozen=True)
class PastRelease:
    """A release that is over.

    Attributes:
        service: Name of the service.
        environment: Where it ran: a namespace, on Kubernetes.
        version: The new version.
        started_at: When the canary began, Unix seconds.
        ended_at: When it had all the traffic or was taken back, Unix seconds, after the start.
        label: `good` or `bad`; None where nobody knows.
        group: What the release is not independent of, such as an incident; None: it stands alone.
    """

    service: str
    environment: str
    version: str
    started_at: float
    ended_at: float
    label: str | None = None
    group: str | None = None

    @property
    def name(self) -> ReleaseName:
        """What Prometheus is asked about."""
        return ReleaseName(self.service, self.environment, self.version)

    @property
    def episode_id(self) -> str:
        """Name of its episode: service, environment, version and start."""
        start = datetime.fromtimestamp(self.started_at, UTC).isoformat()
        return f"{self.service}/{self.environment}/{self.version}/{start}"


_COLUMNS = [field.name for field in fields(PastRelease)]
_OPTIONAL = ("label", "group")


def read_releases(path: str | os.PathLike[str]) -> list[PastRelease]:
    """Reads releases from a CSV file with a header line, or from JSON Lines.

    The columns are the attributes of `PastRelease`; times are Unix seconds or ISO 8601 (UTC unless
    they name a zone), `label` and `group` may be empty or left out.

    Raises:
        DeployError: If the file cannot be read, or at the first line that is no release or stands
            twice.
    """
    path = Path(path)
    readers = {".csv": _csv_records, ".jsonl": _json_records}
    if path.suffix not in readers:
        raise DeployError(f"{path}: the name of a list of releases must end in .csv or .jsonl")
    releases: dict[str, PastRelease] = {}
    try:
        for line, record in readers[path.suffix](path):
            release = _release_of(record, f"{path}, line {line}")
            if release.episode_id in releases:
                raise DeployError(f"{path}, line {line}: {release.episode_id} stands twice")
            releases[release.episode_id] = release
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeployError(f"{path}: cannot be read: {reason}") from error
    if not releases:
        raise DeployError(f"{path}: no releases in it; the columns are {', '.join(_COLUMNS)}")
    return list(releases.values())


def _csv_records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="(cells beyond the header)", strict=True)
        for record in reader:
            yield reader.line_num, record


def _json_records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DeployError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise DeployError(f"{path}, line {number}: a release is an object")
            yield number, record


def _release_of(record: Mapping[str, Any], where: str) -> PastRelease:
    foreign = [name for name in record if name not in _COLUMNS]
    if foreign:
        raise DeployError(
            f"{where}: unknown column {foreign[0]}: the columns are {', '.join(_COLUMNS)}"
        )
    for name in _COLUMNS:
        if name not in _OPTIONAL and record.get(name) in (None, ""):
            raise DeployError(f"{where}: {name} is missing")
    release = PastRelease(
        service=_text(record, "service", where),
        environment=_text(record, "environment", where),
        version=_text(record, "version", where),
        started_at=_time(record, "started_at", where),
        ended_at=_time(record, "ended_at", where),
        label=_text(record, "label", where) or None,
        group=_text(record, "group", where) or None,
    )
    if not release.started_at < release.ended_at:
        raise DeployError(f"{where}: ended_at is not after started_at")
    if release.label not in (None, *LABELS):
        raise DeployError(f"{where}: label: {release.label!r} is not {' or '.join(LABELS)}")
    return release


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise DeployError(f"{where}: {name}: {value!r} is not a text")
    return value or ""


def _time(record: Mapping[str, Any], name: str, where: str) -> float:
    value = record[name]
    try:
        seconds = unix_seconds(value) if isinstance(value, str) else float(value)
        datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        seconds = float("nan")
    if not isfinite(seconds) or seconds < 0 or isinstance(value, bool):
        raise DeployError(f"{where}: {name}: {value!r} is not Unix seconds or ISO 8601")
    return seconds
