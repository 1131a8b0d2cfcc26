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

"""Reads the settings of the collector from a TOML file.

    url = "http://prometheus.monitoring:9090"
    window = "1m"
    scrape_interval = "30s"

    [canary]
    traffic = 'destination_workload="{service}",destination_version="{version}"'
    [stable]
    traffic = 'destination_workload="{service}",destination_version!="{version}"'

    [queries]
    requests = 'sum(rate(istio_requests_total{{traffic}}[{window}])) * {step}'
    queue = 'max(fresh(queue_length{{pods}}))'
    cpu_usage = false

A query is added, put in place of a default, or switched off; `queries.py` says what stands in it.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.serving.telemetry.queries import (
    DEFAULT_CANARY,
    DEFAULT_QUERIES,
    DEFAULT_STABLE,
    Selector,
)
from oumi_deploy.serving.telemetry.settings import TelemetrySettings


def read_telemetry(path: str | os.PathLike[str]) -> TelemetrySettings:
    """Reads a TOML file.

    Raises:
        DeployError: If the file cannot be read, or says what `TelemetrySettings` refuses.
    """
    path = Path(path)
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeployError(f"{path}: cannot be read as TOML: {reason}") from error
    try:
        return _settings_of(plain, path.parent)
    except DeployError as error:
        raise DeployError(f"{path}: {error}") from error


def _settings_of(plain: Mapping[str, Any], folder: Path) -> TelemetrySettings:
    names = [field.name for field in fields(TelemetrySettings)]
    for name in plain:
        if name not in names:
            raise DeployError(f"unknown setting {name}: {near_name(name, names)}")
    if "per_request" in plain and not plain.get("min_requests"):
        raise DeployError("per_request has no effect without min_requests")
    if "url" not in plain:
        raise DeployError('url is missing: give the address of Prometheus, as "http://host:9090"')
    values = {name: _READERS[name](name, value) for name, value in plain.items()}
    if "token_file" in values:
        values["token_file"] = folder / values["token_file"]
    return TelemetrySettings(**values)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise DeployError(f"{name}: {value!r} is not a text")
    return value


_DURATION = re.compile(r"(?=\d)(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?")


def _duration(name: str, value: Any) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise DeployError(f"{name}: {value!r} is not a duration such as 30s, 1m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DeployError(f"{name}: {value!r} is not a number")
    return float(value)


def _names(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DeployError(f"{name}: {value!r} is not a list of names")
    return tuple(_text(name, item) for item in value)


def _selector(name: str, value: Any) -> Selector:
    default = DEFAULT_CANARY if name == "canary" else DEFAULT_STABLE
    parts = _table(name, value)
    known = [field.name for field in fields(Selector)]
    for part in parts:
        if part not in known:
            raise DeployError(f"unknown setting {name}.{part}: {near_name(part, known)}")
    return replace(default, **{part: _text(f"{name}.{part}", text) for part, text in parts.items()})


def _queries(name: str, value: Any) -> dict[str, str]:
    queries = dict(DEFAULT_QUERIES)
    for metric, query in _table(name, value).items():
        if query is not False:
            queries[metric] = _text(f"{name}.{metric}", query)
        elif metric in queries:
            del queries[metric]
        else:
            hint = near_name(metric, DEFAULT_QUERIES)
            raise DeployError(f"{name}.{metric}: no such query to switch off: {hint}")
    return queries


def _table(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DeployError(f"{name}: expected a table [{name}], got {value!r}")
    return value


_READERS = {
    "url": _text,
    "token_file": _text,
    **dict.fromkeys(
        ("timeout", "scrape_interval", "window", "step", "baseline", "settle"), _duration
    ),
    "min_requests": _number,
    "per_request": _names,
    "canary": _selector,
    "stable": _selector,
    "queries": _queries,
}
