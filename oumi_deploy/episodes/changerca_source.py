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

"""Reads the measurements of a ChangeRCA experiment, and finds the experiments in a clone.

The clone of IntelligentDDS/ChangeRCA holds one folder per experiment, `<day>/<day>_<n>/`: the
plan, one file per pod, caller and callee with a row per minute, and the success rates of whole
services. What the rows mean for an episode is decided in `changerca.py`.
"""

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oumi_deploy.errors import DeployError

_POD_FILE = re.compile(
    r"(?P<pod>(?P<service>[^_]+?)-(?P<version>v[12])-[^_]+)_(?P<caller>[^_]+)_(?P<callee>[^_]+)\.csv"
)
# The header of the pod files is wrong: it has the latency behind the success rate, where the
# values have it last. So the values are taken by their place; the node's are not used.
_TIME, _SUCCESS, _CPU, _MEMORY, _LATENCY = 1, 2, 3, 4, 7
_POD_FILE_WIDTH = 8
_SERVICE_FILE = "destination_success.csv"


class Call(NamedTuple):
    """What one pod reported of its calls to or from one other service in a minute."""

    service: str
    version: str
    """The pod's version: v1 is the old one, v2 the one that is released."""
    pod: str
    caller: str
    callee: str
    time: int
    """Unix seconds of the report."""
    success: float
    """Share of the calls that succeeded, percent. NaN here and below: not measured."""
    cpu: float
    """The pod's CPU use, percent of its limit."""
    memory: float
    """The pod's memory use, percent of its limit; may pass 100."""
    latency: float
    """Mean latency of the calls, seconds."""

    @property
    def minute(self) -> int:
        """Start of the report's minute, Unix seconds."""
        return floor_to_minute(self.time)


def floor_to_minute(time: int) -> int:
    """Takes Unix seconds to the start of their minute."""
    return time // 60 * 60


def find_experiments(clone: Path) -> list[Path]:
    """Lists the folders of a clone's experiments.

    Args:
        clone: The repository's root or its `data` folder.

    Returns:
        The folders that hold a plan of their own name, sorted by that name.

    Raises:
        DeployError: There is none.
    """
    data = clone / "data" if (clone / "data").is_dir() else clone
    folders = [plan.parent for plan in data.glob("*/*/*.json") if plan.stem == plan.parent.name]
    if not folders:
        raise DeployError(
            f"{clone}: no experiment here (<day>/<day>_<n>/<day>_<n>.json): give the root of a "
            "clone of IntelligentDDS/ChangeRCA, or its data folder"
        )
    return sorted(folders, key=lambda folder: folder.name)


def read_calls(folder: Path) -> list[Call]:
    """Reads what the pods of one experiment reported.

    Args:
        folder: The experiment's folder.

    Returns:
        The reports of all pods of all services, file by file.

    Raises:
        DeployError: There is no report, or a file is malformed (the message says file and line).
    """
    calls = []
    for path in sorted(folder.glob("*.csv")):
        if name := _POD_FILE.fullmatch(path.name):
            calls += _pod_calls(path, name)
    if not calls:
        raise DeployError(f"{folder}: no pod has reported anything: fetch the folder again")
    return calls


def _pod_calls(path: Path, name: re.Match[str]) -> Iterator[Call]:
    for line, values in _csv_rows(path):
        _check_width(values, _POD_FILE_WIDTH, path, line)
        yield Call(
            **name.groupdict(),
            time=_seconds(values[_TIME], path, line),
            success=_number(values[_SUCCESS], path, line),
            cpu=_number(values[_CPU], path, line),
            memory=_number(values[_MEMORY], path, line),
            latency=_number(values[_LATENCY], path, line),
        )


def read_service_success(folder: Path) -> dict[int, dict[str, float]]:
    """Reads the success rates of whole services, both versions together.

    Args:
        folder: The experiment's folder.

    Returns:
        For each reported minute (Unix seconds) the success rate by `<caller>_<callee>`, percent,
        NaN if not measured. Empty if the experiment has no such file.

    Raises:
        DeployError: The file is malformed (the message says file and line).
    """
    path = folder / _SERVICE_FILE
    if not path.exists():
        return {}
    header = _header(path)
    pairs = header[_TIME + 1 :]
    by_minute = {}
    for line, values in _csv_rows(path):
        _check_width(values, len(header), path, line)
        minute = floor_to_minute(_seconds(values[_TIME], path, line))
        rates = (_number(text, path, line) for text in values[_TIME + 1 :])
        by_minute[minute] = dict(zip(pairs, rates, strict=True))
    return by_minute


def _header(path: Path) -> list[str]:
    return next((values for _, values in _csv_lines(path)), [])


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows below the header with their line numbers."""
    lines = _csv_lines(path)
    next(lines, None)
    yield from lines


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            for values in reader:
                if values:
                    yield reader.line_num, values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DeployError(f"{path}: cannot be read ({error}): fetch the file again") from error


def _check_width(values: list[str], width: int, path: Path, line: int) -> None:
    if len(values) != width:
        raise DeployError(
            f"{path}, line {line}: {len(values)} columns, expected {width}: fetch the file again"
        )


def _seconds(text: str, path: Path, line: int) -> int:
    if not text.strip().isdecimal():
        raise DeployError(
            f"{path}, line {line}: {text!r} is no time in Unix seconds: fetch the file again"
        )
    return int(text)


def _number(text: str, path: Path, line: int) -> float:
    """Reads a number; empty, NaN and infinite (a rate over no calls) mean not measured."""
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise DeployError(
            f"{path}, line {line}: {text!r} is no number: fetch the file again"
        ) from None
    return value if math.isfinite(value) else math.nan
