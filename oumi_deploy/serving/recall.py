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


"""What the log remembers of the rollouts under way, for a service that was started again."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import DecisionEntry, LogUnavailable
from oumi_deploy.serving.log.queries import continue_inputs
from oumi_deploy.serving.log.writer import DecisionLog
from oumi_deploy.serving.together import Windows

_log = logging.getLogger(__name__)

MOST_RECALLED = 10_000
"""Decisions that are read at the start; of more, the oldest are not remembered."""

TRY_AGAIN = 5.0
"""Seconds until a log that could not be read is read again."""

Told = tuple[DecisionEntry, Sequence[Mapping[str, Any]]]
"""A decision, and all that it rests on."""


class Recall:
    """Has the windows remember, before the first decision, what was told before the start.

    While the log is away the answer is PAUSE, and nothing is lost by not knowing; with a spool file
    the service decides without what it cannot read, until it can. So it does where the log is there
    and cannot be read: decisions wait for the first try only.
    """

    def __init__(self, log: DecisionLog, windows: Windows):
        self._log, self._windows = log, windows
        self._is_done = not windows.memory
        self._try: asyncio.Task[None] | None = None
        self._next_try: float | None = None

    async def once(self) -> None:
        """Has the log read, unless that was done, was tried just now, or the log is away."""
        if self._is_done or not self._log.state()["writable"]:
            return
        is_first = self._next_try is None
        if self._try is None or self._try.done():
            if self._next_try is not None and time.monotonic() < self._next_try:
                return
            self._try = asyncio.create_task(self._read())
        if is_first:
            await asyncio.wait({self._try})  # Whoever hangs up does not end it for the others.

    async def _read(self) -> None:
        now = time.time()
        try:
            told = await asyncio.to_thread(told_since, self._log, now - self._windows.memory)
            self._windows.recall(told, now)
        except LogUnavailable as away:
            if self._next_try is None:
                _log.warning("what was told before the start cannot be read yet: %s", away)
            self._next_try = time.monotonic() + TRY_AGAIN
            return
        except Exception:
            # A service that forgets is better than none.
            _log.exception("what was told before the start is not remembered")
        self._is_done = True


def told_since(log: DecisionLog, since: float) -> list[Told]:
    """Returns the decisions made since then, oldest first.

    Args:
        log: The decision log.
        since: Unix seconds.

    Raises:
        LogUnavailable: If the log cannot be read.
    """
    inputs: dict[str, list[dict[str, Any]]] = {}
    told = []
    for entry in log.since(since, MOST_RECALLED):
        try:
            inputs[entry.id] = _inputs_of(entry, inputs, log)
        except LogUnavailable:
            raise
        except DeployError as error:
            _log.warning("a decision on %s is not remembered: %s", entry.name.service, error)
            continue
        told.append((entry, inputs[entry.id]))
    return told


def _inputs_of(
    entry: DecisionEntry, known: Mapping[str, list[dict[str, Any]]], log: DecisionLog
) -> list[dict[str, Any]]:
    if not entry.kept:
        return entry.observations
    base = known.get(entry.base or "")
    if base is None:
        return log.inputs(entry.id)
    return continue_inputs(base, entry.kept, entry.observations)
