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

"""Opening the log's database, and telling why it cannot be used."""

import math
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import LogUnavailable

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}

_FILE = "file"
"""Under which a connection to SQLite keeps its path, and what the file there was."""

_MAGIC = b"SQLite format 3\0"
"""What a file of SQLite begins with."""


def open_engine(
    url: str, *, wait: float, program: str = "oumi-deploy", as_found: bool = False
) -> sa.Engine:
    """Returns an engine; nothing is connected to yet.

    Args:
        url: `sqlite:///file.db` or `postgresql://user:password@host/name`.
        wait: Seconds after which to give up on a lock or a server.
        program: Name under which PostgreSQL lists the connections.
        as_found: Whether a file of SQLite keeps its kind of journal, for those who only read: to
            change it is to write to the file.

    Raises:
        DeployError: If the URL is neither, or names a file that can be no database.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, wait, as_found)
    limits = {"connect_timeout": max(2, math.ceil(wait)), "application_name": program}
    engine = sa.create_engine(parsed, connect_args=limits, pool_pre_ping=True)
    event.listen(engine, "connect", lambda *args: _set_up_postgresql(args[0], wait))
    return engine


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DeployError(f"log: not the URL of a database; {_wanted()}") from error
    backend = parsed.get_backend_name()
    if _DRIVERS.get(parsed.drivername, parsed.drivername) not in _DRIVERS.values():
        raise DeployError(f"log: {parsed.drivername} is not supported; {_wanted()}")
    parsed = parsed.set(drivername=_DRIVERS[backend])
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DeployError(f"log: a database in memory forgets everything; {_wanted()}")
    return parsed


def _wanted() -> str:
    return "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"


def _open_sqlite(url: sa.URL, wait: float, as_found: bool) -> sa.Engine:
    path = Path(str(url.database))
    _check_file(path)
    engine = sa.create_engine(url, connect_args={"timeout": wait})

    def note(_: sqlite3.Connection, record: Any) -> None:
        record.info[_FILE] = path, _identity(path)

    event.listen(engine, "connect", _set_up_sqlite)
    if not as_found:
        event.listen(engine, "connect", _write_ahead)
    event.listen(engine, "connect", note)
    event.listen(engine, "checkout", _refuse_astray)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _check_file(path: Path) -> None:
    """Refuses what will not be there by itself, as a server will that is away for a while."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "there is no such folder"
        raise DeployError(f"log: {path}: {what}; {_wanted()}")
    try:
        with path.open("rb") as file:
            begin = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeployError(f"log: {path}: {error.strerror}") from error
    if begin not in (b"", _MAGIC):
        raise DeployError(f"log: {path}: holds something else than a database; name another file")


def is_astray(connection: sa.PoolProxiedConnection) -> bool:
    """Returns whether the file of a connection is no more where it was opened.

    SQLite writes on into a file that was deleted or moved away, where nobody will find it.
    """
    path, identity = connection.info.get(_FILE, (None, None))
    return path is not None and identity != _identity(path)


def _refuse_astray(_: Any, __: Any, connection: sa.PoolProxiedConnection) -> None:
    if is_astray(connection):
        raise DisconnectionError("the file was moved away")  # The pool opens another.


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_up_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # Transactions are begun by `_begin_sqlite`: the driver would begin one before a write only.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _write_ahead(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    # Whoever will write takes the lock at once: one taken later is refused without a wait where
    # somebody else has written in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, wait: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {math.ceil(wait * 1000)}")
        # A server that is told not to wait for its disk would have us acknowledge what a power
        # cut takes away.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def one_line(error: SQLAlchemyError) -> str:
    """Returns what the database said, in one line, without the statement."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__


def unavailable(error: SQLAlchemyError) -> LogUnavailable:
    """Returns what a caller is told of a database that cannot be used."""
    return LogUnavailable(f"the decision log is not available: {one_line(error)}")
