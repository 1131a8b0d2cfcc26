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
"""The decision log at a glance: where each rollout stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry
from oumi_deploy.serving.log.queries import find_inputs, sequence_of
from oumi_deploy.serving.log.rows import entry_of
from oumi_deploy.serving.log.stages import Horizons, Stage, is_of
from oumi_deploy.serving.log.tables import decisions, named, outcomes, rollouts

MOST_DECISIONS = 1000
"""Decisions of one rollout that are returned at once, the newest."""

# Made once: it takes longer than to ask with them.
_OTHER = decisions.alias()
_IS_OF_SAME = _OTHER.c.rollout_key == decisions.c.rollout_key
_IS_OVERTAKEN = sa.exists().where(_IS_OF_SAME, _OTHER.c.seq > decisions.c.seq)
_COUNT = sa.select(sa.func.count()).select_from(_OTHER).where(_IS_OF_SAME).scalar_subquery()
_FIRST = sa.select(_OTHER.c.at).where(_IS_OF_SAME).order_by(_OTHER.c.seq).limit(1).scalar_subquery()


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands.

    Attributes:
        key: The rollout's key, see `rollout_key`.
        latest: The decision on it that came in last.
        n_decisions: How many there are.
        began: When it was first decided on, Unix seconds.
        newest: The newest observation that the latest decision rests on, empty where there is
            none.
        outcomes: What was said of it, in the order in which it came in.
    """

    key: str
    latest: DecisionEntry
    n_decisions: int
    began: float
    newest: dict[str, Any]
    outcomes: Sequence[OutcomeEntry]


@dataclass(frozen=True)
class Course:
    """All that is known of a rollout.

    Attributes:
        standing: Where it stands.
        decisions: The newest decisions on it, oldest first, at most MOST_DECISIONS.
        observations: All that the latest decision rests on, oldest first.
    """

    standing: Standing
    decisions: Sequence[DecisionEntry]
    observations: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """Which rollouts to look for.

    Attributes:
        service: Only those of this service; None for all.
        stage: Only those of this stage; None for all.
        horizons: What the stages go by.
    """

    service: str | None
    stage: Stage | None
    horizons: Horizons


@dataclass(frozen=True)
class Standings:
    """A page of rollouts.

    Attributes:
        standings: Where they stand, that which was decided on last first.
        next: The next page's cursor, None after the last.
        total: How many there are on all pages; None of past ones, and where all were wanted.
    """

    standings: Sequence[Standing]
    next: str | None
    total: int | None


def find_standings(
    connection: sa.Connection, wanted: Wanted, after: str | None, limit: int
) -> Standings:
    """Returns where rollouts stand, that which was decided on last first.

    Args:
        connection: A connection.
        wanted: Which.
        after: Cursor of the page before, None for the first.
        limit: Most rollouts to return, 1 or more.

    Raises:
        DeployError: If the cursor is none.
    """
    before = None if after is None else sequence_of(after)
    if wanted.stage not in (None, "past"):
        late = _late(connection, wanted)
        among = late if before is None else [seq for seq in late if seq < before]
        total, conditions = len(late), [decisions.c.seq.in_(among[: limit + 1])]
    else:
        total, conditions = None, _conditions(wanted)
        if before is not None:
            conditions.append(decisions.c.seq < before)
    query = _latest().where(*conditions).order_by(decisions.c.seq.desc()).limit(limit + 1)
    rows = connection.execute(query).mappings().all()
    following = str(rows[limit - 1]["seq"]) if len(rows) > limit else None
    return Standings(_standings(connection, rows[:limit]), following, total)


def _late(connection: sa.Connection, wanted: Wanted) -> list[int]:
    """Returns the numbers of the latest decisions on rollouts that are not past, newest first.

    They are few, and found by their time. Asked for in their order, a database would look for them
    from the end of the log on until there are enough, which may be never.
    """
    joined = decisions.join(rollouts, rollouts.c.key == decisions.c.rollout_key)
    query = sa.select(decisions.c.seq).select_from(joined).where(*_conditions(wanted))
    return sorted(connection.scalars(query), reverse=True)


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [~_IS_OVERTAKEN]
    if wanted.service is not None:
        conditions.append(rollouts.c.service == wanted.service)
    if wanted.stage is not None:
        conditions.append(is_of(wanted.stage, wanted.horizons))
    return conditions


def find_course(connection: sa.Connection, key: str) -> Course | None:
    """Returns all that is known of a rollout, None where no decision on it is logged."""
    is_mine, newest_first = decisions.c.rollout_key == key, decisions.c.seq.desc()
    latest = _latest().where(is_mine).order_by(newest_first).limit(1)
    standings = _standings(connection, connection.execute(latest).mappings().all())
    if not standings:
        return None
    query = named(decisions).where(is_mine).order_by(newest_first).limit(MOST_DECISIONS)
    made = [entry_of(DecisionEntry, row) for row in connection.execute(query).mappings()]
    observations = find_inputs(connection, standings[0].latest.id)
    return Course(standings[0], made[::-1], observations)


def find_grounds(
    connection: sa.Connection, key: str
) -> tuple[DecisionEntry, list[dict[str, Any]]] | None:
    """Returns the latest decision on a rollout, and all observations that it rests on.

    They come oldest first. None where no decision on it is logged.
    """
    is_mine = decisions.c.rollout_key == key
    newest = named(decisions).where(is_mine).order_by(decisions.c.seq.desc()).limit(1)
    row = connection.execute(newest).mappings().first()
    if row is None:
        return None
    return entry_of(DecisionEntry, row), find_inputs(connection, row["id"])


def _latest() -> sa.Select[Any]:
    """Selects decisions, with what there is of their rollouts beside each."""
    return named(decisions).add_columns(_COUNT.label("n_decisions"), _FIRST.label("began"))


def _standings(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[Standing]:
    keys = [row["rollout_key"] for row in rows]
    said = _group(connection, outcomes.c.rollout_key.in_(keys))
    return [
        Standing(
            key=row["rollout_key"],
            latest=entry_of(DecisionEntry, row),
            n_decisions=row["n_decisions"],
            began=row["began"],
            newest=_newest(connection, row),
            outcomes=said.get(row["rollout_key"], ()),
        )
        for row in rows
    ]


def _newest(connection: sa.Connection, row: sa.RowMapping) -> dict[str, Any]:
    """Returns the newest input; a question that was asked again brought none of its own."""
    inputs = row["observations"] or find_inputs(connection, row["id"])
    return inputs[-1] if inputs else {}


def _group(
    connection: sa.Connection, wanted: sa.ColumnElement[bool]
) -> dict[str, list[OutcomeEntry]]:
    """Returns outcomes by the key of their rollout, in the order in which they came in."""
    said: dict[str, list[OutcomeEntry]] = {}
    query = named(outcomes).where(wanted).order_by(outcomes.c.seq)
    for row in connection.execute(query).mappings():
        said.setdefault(row["rollout_key"], []).append(entry_of(OutcomeEntry, row))
    return said
