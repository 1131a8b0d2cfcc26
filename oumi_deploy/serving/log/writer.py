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

"""The decision log."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log import endings, overview, queries
from oumi_deploy.serving.log.committer import Committer, Waiting
from oumi_deploy.serving.log.database import open_engine
from oumi_deploy.serving.log.endings import Ending
from oumi_deploy.serving.log.entries import (
    DecisionEntry,
    Entry,
    LogUnavailable,
    OutcomeEntry,
    RolloutName,
)
from oumi_deploy.serving.log.overview import Course, Standings, Wanted
from oumi_deploy.serving.log.queries import reading
from oumi_deploy.serving.log.rows import prepare
from oumi_deploy.serving.log.spool import Spool
from oumi_deploy.serving.log.store import Store, Stored

__all__ = ["DecisionLog", "LogUnavailable"]


class DecisionLog:
    """Remembers decisions and outcomes in SQLite or PostgreSQL.

    What is recorded is on disk before the call returns; entries of many callers share a
    transaction. One process may open a log on SQLite or PostgreSQL beside others; a spool file
    belongs to one process.
    """

    def __init__(self, url: str, spool: Path | None, wait: float):
        self._wait = wait
        self._engine = open_engine(url, wait=wait)
        self._store = Store(url, wait)
        self._committer = Committer(self._store, None if spool is None else Spool(spool))
        self._is_open = True

    @classmethod
    def open(cls, url: str, *, spool: Path | None = None, wait: float = 2.0) -> "DecisionLog":
        """Opens a log, and makes or migrates its tables.

        A database that is away is no error: `state` tells, and the tables are migrated once it is
        back.

        Args:
            url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME` (PostgreSQL 14 or
                later).
            spool: File for entries while the database is away; None to refuse them then.
            wait: Seconds until a database that does not take an entry counts as away.

        Raises:
            DeployError: If the URL is none, the tables are newer than this program, or the spool
                file cannot be used.
        """
        log = cls(url, spool, wait)
        try:
            log._committer.start(wait)
        except DeployError:
            log._committer.release()
            raise
        return log

    async def record(self, entry: DecisionEntry) -> DecisionEntry:
        """Records a decision, and returns once it is durable.

        Returns:
            What is recorded under its id: of a retry, what was recorded first.

        Raises:
            LogUnavailable: If it cannot be recorded; it will not be later either.
            DeployError: If it holds what the log cannot keep, such as NaN, or its base is
                unknown.
        """
        stored, _ = await self._put(entry)
        assert isinstance(stored, DecisionEntry)
        return stored

    async def record_outcome(self, entry: OutcomeEntry) -> bool:
        """Records what became of a release, and returns once it is durable.

        Returns:
            Whether it is new: False if its id was there.

        Raises:
            LogUnavailable: If it cannot be recorded; it will not be later either.
            DeployError: If it holds what the log cannot keep.
        """
        _, is_new = await self._put(entry)
        return is_new

    async def _put(self, entry: Entry) -> Stored:
        if not self._is_open:
            raise LogUnavailable("the decision log is closed")
        prepared = prepare(entry)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._committer.put(Waiting(prepared, future, time.monotonic() + self._wait))
        # The thread cannot look up from a server that has stopped in mid-sentence.
        watch = loop.call_later(1.25 * self._wait, self._store.cut)
        try:
            return await future
        finally:
            watch.cancel()

    def state(self) -> dict[str, Any]:
        """Returns `writable`, the number of entries `spooled`, `backend`, and `error` or None."""
        error = self._committer.error if self._is_open else "the decision log is closed"
        return {
            "writable": error is None,
            "spooled": self._committer.spooled,
            "backend": self._store.backend,
            "error": error,
        }

    def close(self) -> None:
        """Writes what waits, and closes the log; what its spool file holds may stay there."""
        if self._is_open:
            self._is_open = False
            self._committer.close()
            self._engine.dispose()

    def decisions(
        self, filter: Mapping[str, Any], after: str | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Returns a page of decisions and the next page's cursor, see `find_decisions`."""
        with reading(self._engine) as connection:
            return queries.find_decisions(connection, filter, after, limit)

    def outcomes(self, name: RolloutName) -> list[OutcomeEntry]:
        """Returns what was said of a rollout, see `find_outcomes`."""
        with reading(self._engine) as connection:
            return queries.find_outcomes(connection, name)

    def inputs(self, decision_id: str) -> list[dict[str, Any]]:
        """Returns all observations that a decision rests on, see `find_inputs`."""
        with reading(self._engine) as connection:
            return queries.find_inputs(connection, decision_id)

    def latest(self, name: RolloutName) -> DecisionEntry | None:
        """Returns the newest decision on a rollout, see `find_latest`."""
        with reading(self._engine) as connection:
            return queries.find_latest(connection, name)

    def since(self, since: float, limit: int) -> list[DecisionEntry]:
        """Returns the decisions made since then, oldest first, see `find_since`."""
        with reading(self._engine) as connection:
            return queries.find_since(connection, since, limit)

    def first_asked(self, name: RolloutName) -> float | None:
        """Returns when a rollout was first decided on, see `find_first_asked`."""
        with reading(self._engine) as connection:
            return queries.find_first_asked(connection, name)

    def find_rollouts(
        self,
        service: str,
        environment: str | None = None,
        version: str | None = None,
        limit: int = 10,
    ) -> list[RolloutName]:
        """Returns the rollouts of a service, newest first, see `find_rollouts`."""
        with reading(self._engine) as connection:
            return queries.find_rollouts(connection, service, environment, version, limit)

    def standings(self, wanted: Wanted, after: str | None, limit: int) -> Standings:
        """Returns a page of rollouts, see `find_standings`."""
        with reading(self._engine) as connection:
            return overview.find_standings(connection, wanted, after, limit)

    def course(self, key: str) -> Course | None:
        """Returns all that is known of a rollout, see `find_course`."""
        with reading(self._engine) as connection:
            return overview.find_course(connection, key)

    def grounds(self, key: str) -> tuple[DecisionEntry, list[dict[str, Any]]] | None:
        """Returns the latest decision on a rollout and its inputs, see `find_grounds`."""
        with reading(self._engine) as connection:
            return overview.find_grounds(connection, key)

    def endings(self, since: float) -> list[Ending]:
        """Returns how rollouts ended, see `count_endings`."""
        with reading(self._engine) as connection:
            return endings.count_endings(connection, since)

    def newest_outcome(self) -> int:
        """Returns the number of the newest outcome, see `newest_outcome`."""
        with reading(self._engine) as connection:
            return endings.newest_outcome(connection)
