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

"""Entries as rows of the tables, and as lines of the spool file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from math import isfinite
from typing import Any, NamedTuple, TypeVar

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import DecisionEntry, Entry, OutcomeEntry, RolloutName

Row = dict[str, Any]
E = TypeVar("E", bound=Entry)

_FIELDS = {kind: [f.name for f in fields(kind)] for kind in (DecisionEntry, OutcomeEntry)}
_JSON = {"observations", "q_values", "reasons", "suspects", "notes", "detail", "guardrails"}
_NAMES = [f.name for f in fields(RolloutName)]
_KINDS: dict[str, type[Entry]] = {"decision": DecisionEntry, "outcome": OutcomeEntry}


class Prepared(NamedTuple):
    """An entry and its row, which is checked and written as JSON before it waits."""

    entry: Entry
    row: Row


def rollout_key(name: RolloutName) -> str:
    """Returns the key of a rollout: 32 hexadecimal digits, a digest of its name."""
    # A digest needs no look into the database, and no answer from it, before a decision of a
    # rollout that it does not know is written.
    words = json.dumps([getattr(name, part) for part in _NAMES]).encode()
    return hashlib.blake2b(words, digest_size=16).hexdigest()


def rollout_row(name: RolloutName) -> Row:
    """Returns a rollout's row."""
    return {"key": rollout_key(name), **{part: getattr(name, part) for part in _NAMES}}


def prepare(entry: Entry) -> Prepared:
    """Returns an entry with its row.

    Raises:
        DeployError: If a value cannot be kept by either database.
    """
    row: Row = {"rollout_key": rollout_key(entry.name)}
    for field in _FIELDS[type(entry)]:
        value = getattr(entry, field)
        if field in _JSON:
            row[field] = _json(field, value)
        elif field != "name":
            row[field] = _checked(field, value)
    for part in _NAMES:
        _checked(part, getattr(entry.name, part))
    if isinstance(entry, DecisionEntry):
        _check_decision(entry)
    return Prepared(entry, row)


def entry_of(kind: type[E], row: Mapping[Any, Any]) -> E:
    """Returns the entry of a row that is joined with its rollout's."""
    name = RolloutName(**{part: row[part] for part in _NAMES})
    values = {field: row[field] for field in _FIELDS[kind] if field != "name"}
    return kind(name=name, **values)


def line_of(entry: Entry) -> bytes:
    """Returns an entry as a line of JSON, its end included."""
    kind = "decision" if isinstance(entry, DecisionEntry) else "outcome"
    return json.dumps({"kind": kind, **asdict(entry)}, allow_nan=False).encode() + b"\n"


def entry_of_line(line: bytes) -> Entry:
    """Returns the entry of a line.

    Raises:
        ValueError: If the line is no entry.
    """
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("kind")]
        entry = kind(**{**values, "name": RolloutName(**values["name"])})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no entry: {error}") from error
    prepare(entry)
    return entry


def _json(field: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DeployError(
            f"{field}: {error}; the log keeps plain values and finite numbers, null for a missing "
            "one"
        ) from error


def _checked(field: str, value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        raise DeployError(f"{field}: {value} is not a finite number")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DeployError(f"{field}: {value!r} is not valid Unicode text") from error
        if "\0" in value:
            # PostgreSQL's text cannot hold it, and one bad entry must not hold up the others.
            raise DeployError(f"{field}: {value!r} holds a NUL character; leave it out")
    return value


def _check_decision(entry: DecisionEntry) -> None:
    if not 0 < entry.propensity <= 1:
        raise DeployError(f"propensity: {entry.propensity:g} is not above 0 and at most 1")
    if entry.kept < 0 or (entry.kept and entry.base is None):
        raise DeployError(f"kept: {entry.kept} observations of no decision; name it in base")
