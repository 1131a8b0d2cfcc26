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

"""Rollouts, the decisions on them, and what became of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "rollouts",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("key", sa.String(32), nullable=False, unique=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("rollout", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "decisions",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("rollout_key", sa.String(32), sa.ForeignKey("rollouts.key"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("policy_version", sa.Text, nullable=False),
        sa.Column("base", sa.String(64), sa.ForeignKey("decisions.id")),
        sa.Column("kept", sa.Integer, nullable=False),
        sa.Column("observations", sa.JSON, nullable=False),
        sa.Column("last", sa.Boolean, nullable=False),
        sa.Column("preferred", sa.Text, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("answered", sa.Text, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("explored", sa.Boolean, nullable=False),
        sa.Column("shadow", sa.Boolean, nullable=False),
        sa.Column("risk", sa.Double, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("q_values", sa.JSON, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outcomes",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("rollout_key", sa.String(32), sa.ForeignKey("rollouts.key"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("rollouts_by_name", "rollouts", ["service", "environment", "version", "seq"])
    op.create_index("decisions_of_rollout", "decisions", ["rollout_key", "seq"])
    op.create_index("outcomes_of_rollout", "outcomes", ["rollout_key", "seq"])
