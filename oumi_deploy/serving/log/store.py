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

"""The one connection that writes: a group of entries, one transaction, each entry once."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.database import is_astray, one_line, open_engine, unavailable
from oumi_deploy.serving.log.entries import DecisionEntry, Entry, LogUnavailable, OutcomeEntry
from oumi_deploy.serving.log.migrate import VERSION_TABLE, migrate
from oumi_deploy.serving.log.rows import Prepared, entry_of, rollout_row
from oumi_deploy.serving.log.tables import decisions, named, outcomes, rollouts

Kind = type[Entry]
Stored = tuple[Entry, bool]

_TABLES: dict[Kind, sa.Table] = {DecisionEntry: decisions, OutcomeEntry: outcomes}
_ROLLOUTS_KNOWN = 10_000


class Refused(DeployError):
    """The database takes entries, but not this one."""


class Store:
    """Writes entries, and says what the database holds under their ids.

    A connection that is lost while it commits leaves in doubt whether the group was written.
    Where its callers are told that it was not, it is withdrawn once the database is back: rows
    bear the batch that wrote them or the latest that was told of them.
    """

    def __init__(self, url: str, wait: float):
        # Its name finds, on the server, a connection of ours that we have lost.
        self._program = f"oumi-deploy {uuid4().hex[:16]}"
        self._engine = open_engine(url, wait=wait, program=self._program)
        self.backend = self._engine.dialect.name
        self._connection: sa.Connection | None = None
        self._line: socket.socket | None = None
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._withdrawn: list[tuple[str, Sequence[Entry]]] = []

    def write(self, batch: str, group: Sequence[Prepared], patience: float) -> list[Stored]:
        """Commits entries in one transaction.

        Args:
            batch: Names the group; an attempt that follows another has the same.
            group: The entries, oldest first.
            patience: Seconds to wait for a lock.

        Returns:
            For each what the log holds under its id, and whether it is this one.

        Raises:
            LogUnavailable: If the database cannot be used.
            Refused: If it can, but does not take one of them; then none is written.
        """
        new = {rollout_row(p.entry.name)["key"]: p.entry.name for p in group}
        with self._transaction(patience) as connection:
            unknown = [rollout_row(name) for key, name in new.items() if key not in self._known]
            if unknown:
                connection.execute(self._insert_into(rollouts, "key"), unknown)
            found = {kind: self._insert(connection, batch, kind, group) for kind in _TABLES}
        if len(self._known) > _ROLLOUTS_KNOWN:
            self._known.clear()
        self._known |= new.keys()
        told = set[tuple[Kind, str]]()
        results = []
        for entry, _ in group:
            stored, ours = found[type(entry)][entry.id]
            results.append((stored, ours and (type(entry), entry.id) not in told))
            told.add((type(entry), entry.id))
        return results

    def find(self, group: Sequence[Prepared], patience: float) -> dict[tuple[Kind, str], Entry]:
        """Returns what the database holds under these ids, by kind and id.

        Raises:
            LogUnavailable: If the database cannot be used.
        """
        batch = uuid4().hex
        with self._transaction(patience) as connection:
            return {
                (kind, entry.id): entry
                for kind in _TABLES
                for entry, _ in self._adopt(connection, batch, kind, _first_of(kind, group))
            }

    @property
    def is_astray(self) -> bool:
        """Whether it would have to connect anew to write where others read."""
        return self._connection is None or is_astray(self._connection.connection)

    def probe(self, patience: float) -> None:
        """Finds out whether entries could be written.

        Raises:
            LogUnavailable: If not.
        """
        with self._transaction(patience) as connection:
            # A change that changes nothing: a full disk shows only to those who write.
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = version_num")

    def withdraw(self, batch: str, entries: Sequence[Entry]) -> None:
        """Has a group in doubt, whose callers were told that it is not written, not appear."""
        self._withdrawn.append((batch, entries))

    def cut(self) -> None:
        """Ends the wait for a server that does not answer; any thread may call it."""
        with self._lock, contextlib.suppress(OSError):
            # It fails where the server has hung up by itself, which is as good.
            if self._line is not None:
                self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection."""
        self._drop()
        self._engine.dispose()

    @contextlib.contextmanager
    def _transaction(self, patience: float) -> Iterator[sa.Connection]:
        commits = False
        try:
            connection = self._connect(patience)
            with connection.begin() as transaction:
                yield connection
                commits = True
                transaction.commit()
        except (IntegrityError, DataError) as error:
            # A rollout that we remember may have been deleted by hand.
            self._known.clear()
            raise Refused(f"the decision log refuses an entry: {one_line(error)}") from error
        except SQLAlchemyError as error:
            self._drop()
            failure = unavailable(error)
            failure.in_doubt = commits
            raise failure from error
        except DeployError:
            self._drop()
            raise

    def _connect(self, patience: float) -> sa.Connection:
        if self._connection is not None and is_astray(self._connection.connection):
            self._drop()
        connection, is_new = self._connection, self._connection is None
        if connection is None:
            connection = self._connection = self._engine.connect().execution_options(writes=True)
            self._hold_line(connection)
        if self.backend == "sqlite":
            # Begins no transaction, as SQLAlchemy's own way of executing would.
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        if is_new:
            with connection.begin():
                migrate(connection)
            self._delete_withdrawn(connection)
        return connection

    def _hold_line(self, connection: sa.Connection) -> None:
        """Keeps a handle of our own on the connection's socket, for `cut`."""
        driver = connection.connection.driver_connection
        if self.backend == "postgresql" and driver is not None:
            with self._lock:
                self._line = socket.socket(fileno=os.dup(driver.fileno()))

    def _drop(self) -> None:
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = None
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
        self._connection = None
        # Another file may be there next time.
        self._known.clear()

    def _delete_withdrawn(self, connection: sa.Connection) -> None:
        if not self._withdrawn:
            return
        with connection.begin():
            if self.backend == "postgresql":
                # What we sent before the line broke may still lie before the server, and would
                # be committed after this look.
                ended = (
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                    "WHERE application_name = :program AND pid <> pg_backend_pid()"
                )
                connection.execute(sa.text(ended), {"program": self._program})
        with connection.begin():
            for batch, entries in self._withdrawn:
                for kind, table in _TABLES.items():
                    ids = [entry.id for entry in entries if type(entry) is kind]
                    written = sa.delete(table).where(table.c.id.in_(ids), table.c.batch == batch)
                    connection.execute(written)
        self._withdrawn.clear()

    def _insert(
        self, connection: sa.Connection, batch: str, kind: Kind, group: Sequence[Prepared]
    ) -> dict[str, Stored]:
        first = _first_of(kind, group)
        if not first:
            return {}
        rows = [{**prepared.row, "batch": batch} for prepared in first.values()]
        written = connection.execute(self._insert_into(_TABLES[kind], "id"), rows)
        if written.rowcount == len(rows):
            return {id: (prepared.entry, True) for id, prepared in first.items()}
        stored = self._adopt(connection, batch, kind, first)
        if len(stored) < len(first):
            raise LogUnavailable(
                "the decision log is not available: another process withdrew an entry just now"
            )
        return {entry.id: (entry, ours) for entry, ours in stored}

    def _adopt(
        self, connection: sa.Connection, batch: str, kind: Kind, first: dict[str, Prepared]
    ) -> list[Stored]:
        """Returns what is stored, which whoever wrote it must not withdraw any more."""
        table = _TABLES[kind]
        among = table.c.id.in_(list(first))
        rows = connection.execute(named(table).where(among).with_for_update(of=table)).mappings()
        stored = [(entry_of(kind, row), row["batch"] == batch) for row in rows]
        connection.execute(sa.update(table).where(among).values(batch=batch))
        return stored

    def _insert_into(self, table: sa.Table, unique: str) -> sa.Insert:
        dialect = sqlite if self.backend == "sqlite" else postgresql
        return dialect.insert(table).on_conflict_do_nothing(index_elements=[unique])


def _first_of(kind: Kind, group: Sequence[Prepared]) -> dict[str, Prepared]:
    """Returns the entries of a kind by id, of several with one id the first."""
    first: dict[str, Prepared] = {}
    for prepared in group:
        if type(prepared.entry) is kind:
            first.setdefault(prepared.entry.id, prepared)
    return first
