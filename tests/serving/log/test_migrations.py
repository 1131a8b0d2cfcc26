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

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log import migrate
from oumi_deploy.serving.log.database import open_engine
from oumi_deploy.serving.log.entries import DecisionEntry
from oumi_deploy.serving.log.export import export_episodes
from oumi_deploy.serving.log.writer import DecisionLog

Decision = Callable[..., DecisionEntry]


def make_first_revision(url: str) -> None:
    """Makes a log as the first version of the program did, with one decision in it."""
    engine = open_engine(url, wait=2)
    with engine.connect().execution_options(writes=True) as connection:
        with connection.begin():
            migrate.migrate(connection, "0001")
        with connection.begin():
            key = "f" * 32
            connection.exec_driver_sql(
                "INSERT INTO rollouts (key, service, environment, version, rollout) "
                f"VALUES ('{key}', 'pay', 'production', '1', '')"
            )
            connection.exec_driver_sql(
                "INSERT INTO decisions (id, rollout_key, at, asked_by, policy_version, kept, "
                "observations, last, preferred, decision, answered, propensity, explored, shadow, "
                f"risk, confidence, q_values, reasons) VALUES ('old', '{key}', 1, 'api', 'v', 0, "
                "'[{\"error_rate\": 0.5}]', false, 'PAUSE', 'PAUSE', 'PAUSE', 1, false, false, "
                "0.5, 0.5, '{}', '[]')"
            )
    engine.dispose()


def test_a_log_of_the_first_revision_is_migrated_with_all_it_holds(
    url: str, decision: Decision
) -> None:
    make_first_revision(url)
    log = DecisionLog.open(url)
    assert log.inputs("old") == [{"error_rate": 0.5}]
    told = asyncio.run(log.record(decision(id="old", decision="ROLLBACK")))
    assert told.decision == "PAUSE"
    asyncio.run(log.record(decision(base="old", kept=1)))
    log.close()
    with open_engine(url, wait=2).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM decisions")) == 2


def test_a_log_of_the_first_revision_can_be_exported(url: str, tmp_path: Path) -> None:
    make_first_revision(url)
    assert export_episodes(url, tmp_path / "episodes.csv").n_rows == 1


def test_a_database_without_a_log_is_not_exported_nor_touched(url: str, tmp_path: Path) -> None:
    with open_engine(url, wait=2).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE other (id INTEGER)")
    with pytest.raises(DeployError, match="holds no decision log"):
        export_episodes(url, tmp_path / "episodes.csv")
    with open_engine(url, wait=2).connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["other"]


def test_the_newest_revision_makes_the_tables_that_entries_are_written_to(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from oumi_deploy.serving.log.tables import JsonText, metadata

    def same_type(_: Any, __: Any, ___: Any, ____: Any, mine: Any) -> bool | None:
        return False if isinstance(mine, JsonText) else None

    DecisionLog.open(url).close()
    with open_engine(url, wait=2).connect() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "compare_type": same_type}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == migrate.HEAD


def test_a_log_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    DecisionLog.open(url).close()
    with open_engine(url, wait=2).execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(DeployError, match="newer version"):
        DecisionLog.open(url)
