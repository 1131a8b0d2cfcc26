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

"""A decision log that is read and left as it is."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.database import open_engine
from oumi_deploy.serving.log.migrate import HEAD, revision_of
from oumi_deploy.serving.log.queries import reading

_WAIT = 60.0


@contextlib.contextmanager
def left_alone(log_url: str) -> Iterator[None]:
    """Keeps an export in the block from changing the log.

    What else may be wrong with the log is the export's to say.

    Args:
        log_url: URL of the decision log.

    Raises:
        DeployError: If an export would first have to migrate it.
    """
    engine = open_engine(log_url, wait=_WAIT, as_found=True)
    with contextlib.ExitStack() as stack:
        if engine.dialect.name == "sqlite":
            file = Path(str(engine.url.database))
            if not file.is_file():
                # SQLite would make it.
                yield
                return
            if file.with_name(f"{file.name}-wal").is_file():
                stack.enter_context(contextlib.closing(_reader(file)))
        with reading(engine) as connection:
            revision = revision_of(connection)
        engine.dispose()
        if revision is not None and revision < HEAD:
            raise DeployError(
                f"log: its tables are of revision {revision}, older than {HEAD}, and a dry run "
                "does not migrate them: a night without --dry-run does, as does `oumi-deploy serve`"
            )
        yield


def _reader(file: Path) -> sqlite3.Connection:
    """Opens a log that whoever wrote it has not closed.

    Whoever closes such a file last moves what the write-ahead log holds into it, unless they may
    only read.
    """
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT)
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        raise DeployError(f"log: {file}: {error}") from error
    return connection
