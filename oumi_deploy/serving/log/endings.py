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
"""How rollouts ended, counted by the database."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from oumi_deploy.serving.log.tables import decisions, outcomes


@dataclass(frozen=True)
class Ending:
    """One way in which rollouts ended, as far as they did.

    Attributes:
        decision: The last decision on them.
        shadow: Whether it had no effect.
        paused: Whether any decision on them was PAUSE, however long ago.
        label: What they turned out to be, None where nobody knows.
        n: How many they are.
    """

    decision: str
    shadow: bool
    paused: bool
    label: Literal["good", "bad"] | None
    n: int


def count_endings(connection: sa.Connection, since: float) -> list[Ending]:
    """Counts the rollouts that were decided on since then, Unix seconds, by how they ended."""
    is_pause = sa.case((decisions.c.decision == "PAUSE", 1), else_=0)
    made = (
        sa.select(
            decisions.c.rollout_key,
            sa.func.max(decisions.c.seq).label("seq"),
            sa.func.max(is_pause).label("paused"),
        )
        .where(decisions.c.at >= since)
        .group_by(decisions.c.rollout_key)
        .subquery()
    )
    earlier = decisions.alias()
    # Of a rollout that had begun by then, what disturbed it counts too.
    was_paused_before = sa.exists().where(
        earlier.c.rollout_key == made.c.rollout_key,
        earlier.c.at < since,
        earlier.c.decision == "PAUSE",
    )
    told = _telling()
    was_rolled_back = sa.and_(decisions.c.decision == "ROLLBACK", sa.not_(decisions.c.shadow))
    counts = sa.or_(told.c.source == "review", sa.not_(was_rolled_back))
    ended = (
        sa.select(
            decisions.c.decision,
            decisions.c.shadow,
            sa.case((made.c.paused == 1, 1), (was_paused_before, 1), else_=0).label("paused"),
            sa.case((counts, told.c.label)).label("label"),
        )
        .join_from(made, decisions, decisions.c.seq == made.c.seq)
        .outerjoin(told, told.c.rollout_key == made.c.rollout_key)
        .subquery()
    )
    query = sa.select(*ended.c, sa.func.count().label("n")).group_by(*ended.c)
    return [
        Ending(row.decision, row.shadow, bool(row.paused), row.label, row.n)
        for row in connection.execute(query)
    ]


def newest_outcome(connection: sa.Connection) -> int:
    """Returns the number of the outcome that came in last, 0 where there is none."""
    return connection.scalar(sa.select(sa.func.max(outcomes.c.seq))) or 0


def _telling() -> sa.Subquery:
    """Selects of each rollout the label that tells most, as `episodes.settling` does."""
    most_telling = sa.func.row_number().over(
        partition_by=outcomes.c.rollout_key,
        order_by=(
            sa.case((outcomes.c.source == "review", 0), else_=1),
            outcomes.c.at.desc(),
            outcomes.c.seq.desc(),
        ),
    )
    columns = (outcomes.c.rollout_key, outcomes.c.label, outcomes.c.source)
    ranked = (
        sa.select(*columns, most_telling.label("place"))
        .where(outcomes.c.label.is_not(None))
        .subquery()
    )
    return sa.select(ranked).where(ranked.c.place == 1).subquery()
