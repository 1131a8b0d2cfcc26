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

"""Bringing the tables of a decision log up to this version of the program."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from oumi_deploy.errors import DeployError

HEAD = "0006"
"""The newest revision under `migrations/versions`."""

VERSION_TABLE = "decision_log_revision"
"""Where a database says which revision it is of."""

_LOCK = 0x6F756D69
"""PostgreSQL's advisory lock that keeps two programs from migrating at once."""


def migrate(connection: sa.Connection, revision: str = HEAD) -> None:
    """Migrates within the transaction that is under way, from whatever revision there is.

    Args:
        connection: A connection that may write.
        revision: Where to stop.

    Raises:
        DeployError: If a newer version of the program made the tables.
    """
    if connection.dialect.name == "postgresql":
        # A long table takes longer to change than an entry may take to write.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    if revision_of(connection) == revision:
        return
    # Imported here: a log that is up to date need not wait for it at every start.
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(_config(connection), revision)
    except CommandError as error:
        raise DeployError(
            f"log: {error}; a newer version of oumi-deploy wrote it: install that one"
        ) from error


def revision_of(connection: sa.Connection) -> str | None:
    """Returns the revision that a database is of, None if it holds no decision log."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))


def _config(connection: sa.Connection) -> Any:
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    # A percent sign in a path is its own escape in alembic's settings.
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    return config
