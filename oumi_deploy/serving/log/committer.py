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

"""The thread that writes what callers wait for, in groups."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import LogUnavailable
from oumi_deploy.serving.log.rows import Prepared, line_of, prepare
from oumi_deploy.serving.log.spool import Spool
from oumi_deploy.serving.log.store import Refused, Store, Stored

_log = logging.getLogger(__name__)

GROUP = 500
"""Entries of one transaction at most."""

_PROBE = 0.5
"""Seconds between looks whether a database that was away is back."""

_IDLE = 1.0
"""Seconds without an entry after which to look whether the file of the log is still there."""

_QUICK = 0.05
"""Seconds to wait for a lock at least, however late it is, and between attempts."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """An entry that its caller waits for.

    Attributes:
        prepared: The entry.
        future: Where the caller waits, in its own event loop.
        deadline: When to give up, by the monotonic clock.
    """

    prepared: Prepared
    future: asyncio.Future[Stored]
    deadline: float


class Committer:
    """Commits entries in groups: all that wait, in one transaction.

    With a spool file, entries go there while the database is away, and as long as others wait
    there: so they reach the database in their order.

    Attributes:
        error: Why the database cannot be used, None while it can.
    """

    def __init__(self, store: Store, spool: Spool | None):
        self.error: str | None = None
        self._store, self._spool = store, spool
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="decision log", daemon=True)
        self._next_look = 0.0

    def start(self, patience: float) -> None:
        """Starts the thread, after a first look at the database, which may be away.

        Raises:
            DeployError: If the database is there and cannot be used, as with newer tables.
        """
        try:
            self._store.probe(patience)
        except LogUnavailable as error:
            self._note_away(error)
        self._thread.start()

    @property
    def spooled(self) -> int:
        """Entries that wait in the spool file."""
        return 0 if self._spool is None else len(self._spool)

    def put(self, waiting: Waiting) -> None:
        """Has an entry written; its future is settled in its event loop."""
        self._queue.put(waiting)

    def close(self) -> None:
        """Writes what waits, and ends the thread; what the spool file holds may stay there."""
        self._queue.put(None)
        self._thread.join()
        self.release()

    def release(self) -> None:
        """Lets go of the database and the spool file."""
        self._store.close()
        if self._spool is not None:
            self._spool.close()

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._take()
            try:
                if self._is_behind and (not going or time.monotonic() >= self._next_look):
                    self._recover()
                if group:
                    self._write(group)
                elif going and not self._is_behind and self._store.is_astray:
                    # Whoever reads opens the file that is there now, and finds no tables in it.
                    self._recover()
            except Exception as error:
                # A mistake of ours must not leave callers waiting, nor end the thread.
                _log.exception("the decision log failed")
                _settle(group, [error] * len(group))

    @property
    def _is_behind(self) -> bool:
        return self.error is not None or self.spooled > 0

    def _take(self) -> tuple[list[Waiting], bool]:
        """Returns all that waits, after a wait for the first, and whether more may come.

        Nothing waits where it is time to look after the database.
        """
        until_look = max(self._next_look - time.monotonic(), 0.0) if self._is_behind else _IDLE
        group: list[Waiting] = []
        try:
            waiting = self._queue.get(timeout=until_look)
            while waiting is not None:
                group.append(waiting)
                if len(group) == GROUP:
                    return group, True
                waiting = self._queue.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _recover(self) -> None:
        """Looks whether the database is back, and moves the oldest of the spool file there."""
        try:
            if self._spool is not None and len(self._spool):
                self._move(self._spool)
            else:
                self._store.probe(_QUICK)
        except DeployError as error:
            self._note_away(error)
        else:
            self.error = None

    def _move(self, spool: Spool) -> None:
        entries = spool.first(GROUP)
        group = [prepare(entry) for entry in entries]
        try:
            self._store.write(uuid4().hex, group, _QUICK)
        except Refused:
            for prepared in group:
                try:
                    self._store.write(uuid4().hex, [prepared], _QUICK)
                except Refused as error:
                    spool.set_aside(line_of(prepared.entry), str(error))
        spool.remove(entries)

    def _write(self, group: Sequence[Waiting]) -> None:
        batch = uuid4().hex
        try:
            _settle(group, self._results(batch, group))
        except Refused as error:
            if len(group) == 1:
                _settle(group, [error])
                return
            for waiting in group:
                self._write([waiting])
        except LogUnavailable as error:
            if error.in_doubt:
                self._store.withdraw(batch, [w.prepared.entry for w in group])
            _settle(group, [error] * len(group))

    def _results(self, batch: str, group: Sequence[Waiting]) -> list[Stored]:
        if self._spool is not None and self._is_behind:
            return self._keep(self._spool, group)
        try:
            results = self._commit(batch, group)
        except LogUnavailable as away:
            self._note_away(away)
            if self._spool is None:
                raise
            try:
                return self._keep(self._spool, group)
            except LogUnavailable as full:
                full.in_doubt = away.in_doubt
                raise
        self.error = None
        return results

    def _commit(self, batch: str, group: Sequence[Waiting]) -> list[Stored]:
        """Commits a group, and tries again until its oldest entry's time is up."""
        prepared, deadline = [w.prepared for w in group], group[0].deadline
        in_doubt = False
        while True:
            left = max(deadline - time.monotonic(), _QUICK)
            try:
                return self._store.write(batch, prepared, left)
            except LogUnavailable as error:
                error.in_doubt |= in_doubt
                in_doubt = error.in_doubt
                # Callers of a database that was away before need not wait for it.
                if self.error is not None or time.monotonic() + _QUICK >= deadline:
                    raise
            time.sleep(_QUICK)

    def _keep(self, spool: Spool, group: Sequence[Waiting]) -> list[Stored]:
        """Adds to the spool file what is not in the database, as far as that can be told."""
        prepared = [w.prepared for w in group]
        known = {}
        if self.error is None:
            try:
                known = self._store.find(prepared, _QUICK)
            except LogUnavailable as error:
                self._note_away(error)
        fresh = [p.entry for p in prepared if (type(p.entry), p.entry.id) not in known]
        kept = iter(spool.add(fresh))
        return [
            (found, False) if (found := known.get((type(e), e.id))) is not None else next(kept)
            for e, _ in prepared
        ]

    def _note_away(self, error: DeployError) -> None:
        if self.error is None:
            _log.warning("%s", error)
        self.error = str(error)
        self._next_look = time.monotonic() + _PROBE


def _settle(group: Sequence[Waiting], results: Sequence[Stored | Exception]) -> None:
    """Hands results to the callers, each in its own event loop."""
    of_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting, Stored | Exception]]] = {}
    for waiting, result in zip(group, results, strict=True):
        of_loop.setdefault(waiting.future.get_loop(), []).append((waiting, result))
    for loop, settled in of_loop.items():
        # A loop that was closed has nobody in it who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, settled)


def _resolve(settled: Sequence[tuple[Waiting, Stored | Exception]]) -> None:
    for waiting, result in settled:
        if waiting.future.done():
            continue
        if isinstance(result, Exception):
            waiting.future.set_exception(result)
        else:
            waiting.future.set_result(result)
