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
"""The learning loop's record of which policy took another's place, and why."""

import json
from pathlib import Path
from typing import Any

NAME = "history.jsonl"
_MOST = 100
"""Entries that are returned, the newest."""


def read_history(policy: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Reads the history beside a policy file; where there is none, no loop keeps that file.

    Args:
        policy: The policy file.

    Returns:
        The entries, newest first, and what is wrong with the file, None where nothing is.
    """
    path = policy.with_name(NAME)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [], None
    except (OSError, UnicodeDecodeError) as error:
        return [], f"{NAME} cannot be read: {error}"
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    entries, problem = [], None
    for n, line in reversed(numbered[-_MOST:]):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            entries.append(entry)
        else:
            problem = f"{NAME}, line {n}: no JSON object"
    return entries, problem
