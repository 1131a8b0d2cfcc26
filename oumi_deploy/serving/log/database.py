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
import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import LogUnavailable

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}


def open_engine(url: str, *, wait: float, program: str = "oumi-deploy") -> sa.Engine:
    """Returns an engine; nothing is connected to yet.

    Args:
        url: `sqlite:///file.db` or `postgresql://user:password@host/name`.
        wait: Seconds after which to give up on a lock or a server.
        program: Name under which PostgreSQL lists the connections.

    Raises:
        DeployError: If the URL is neither.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(parsed, connect_args={"timeout": wait})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
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


def _set_up_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # Transactions are begun by `_begin_sqlite`: the driver would begin one before a write only.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


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
