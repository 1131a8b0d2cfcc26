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

"""The tables of the decision log. `migrations` beside this file makes them."""

import json
from typing import Any

import sqlalchemy as sa


class JsonText(sa.types.UserDefinedType[Any]):
    """A JSON column that takes text: entries are written as JSON, and judged, before they wait."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Returns the type's name in SQL."""
        return "JSON"

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Returns what reads a cell: one driver parses JSON by itself, the other does not."""
        return lambda value: json.loads(value) if isinstance(value, str) else value


SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
metadata = sa.MetaData()

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True),
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Index("rollouts_by_name", "service", "environment", "version", "seq"),
    sqlite_autoincrement=True,
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("rollout_key", sa.ForeignKey(rollouts.c.key), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("asked_by", sa.Text, nullable=False),
    sa.Column("policy_version", sa.Text, nullable=False),
    sa.Column("base", sa.ForeignKey("decisions.id")),
    sa.Column("kept", sa.Integer, nullable=False),
    sa.Column("observations", JsonText, nullable=False),
    sa.Column("last", sa.Boolean, nullable=False),
    sa.Column("preferred", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("answered", sa.Text, nullable=False),
    sa.Column("propensity", sa.Double, nullable=False),
    sa.Column("explored", sa.Boolean, nullable=False),
    sa.Column("shadow", sa.Boolean, nullable=False),
    sa.Column("risk", sa.Double, nullable=False),
    sa.Column("confidence", sa.Double, nullable=False),
    sa.Column("q_values", JsonText, nullable=False),
    sa.Column("reasons", JsonText, nullable=False),
    sa.Column("suspects", JsonText),
    sa.Column("notes", JsonText),
    sa.Column("batch", sa.String(32)),
    sa.Column("asks_again", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("pauses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("pause_limit", sa.Integer, nullable=False, server_default="0"),
    sa.Column("guardrails", JsonText),
    sa.Index("decisions_of_rollout", "rollout_key", "seq"),
    sa.Index("decisions_by_time", "at"),
    sqlite_autoincrement=True,
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("rollout_key", sa.ForeignKey(rollouts.c.key), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("detail", JsonText, nullable=False),
    sa.Column("batch", sa.String(32)),
    sa.Index("outcomes_of_rollout", "rollout_key", "seq"),
    sqlite_autoincrement=True,
)


def named(table: sa.Table) -> sa.Select[Any]:
    """Selects decisions or outcomes, with the names of their rollouts beside each."""
    names = (rollouts.c.service, rollouts.c.environment, rollouts.c.version, rollouts.c.rollout)
    joined = table.join(rollouts, rollouts.c.key == table.c.rollout_key)
    return sa.select(*table.c, *names).select_from(joined)
