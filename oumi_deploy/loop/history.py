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

"""The events of a loop, a line each."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done
from oumi_deploy.loop.disk import sync, told

BACK = "back"
RESUMED = "resumed"
"""Events between which no challenger is promoted."""

_EACH_HAS = {"at": str, "event": str, "champion": int, "policy_version": str, "reason": str}


def read_history(path: Path) -> list[dict[str, Any]]:
    """Returns the events in a file, oldest first; none if there is no such file.

    Raises:
        DeployError: If it cannot be read.
    """
    if not path.is_file():
        return []
    with told():
        lines = path.read_bytes().splitlines()
    return [_event(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def add_event(path: Path, event: dict[str, Any]) -> None:
    """Adds an event to a file; it is on disk when this returns."""
    lines = [json.dumps(one) for one in [*read_history(path), event]]
    with replace_when_done(path) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        sync(draft.parent)
    sync(path.parent, whole=False)


def holds_promotions(history: list[dict[str, Any]]) -> bool:
    """Returns whether somebody went back, and nobody has said since that promotions may go on."""
    said = [line["event"] for line in history if line["event"] in (BACK, RESUMED)]
    return said[-1:] == [BACK]


def _event(line: bytes, place: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
        datetime.fromisoformat(event["at"])
        if not all(type(event[name]) is kind for name, kind in _EACH_HAS.items()):
            raise ValueError
        if type(event.get("version", 0)) is not int:
            raise ValueError
    except (ValueError, TypeError, KeyError) as error:
        raise DeployError(f"{place}: not an event of a loop: take the line out") from error
    return event
