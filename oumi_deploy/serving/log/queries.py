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

"""What the decision log can be asked."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.serving.log.database import unavailable
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.rows import entry_of, rollout_key
from oumi_deploy.serving.log.tables import decisions, named, outcomes, rollouts

_UNTOLD = {"seq", "rollout_key", "batch"}

_FILTERS = {
    "service": lambda value: rollouts.c.service == value,
    "environment": lambda value: rollouts.c.environment == value,
    "version": lambda value: rollouts.c.version == value,
    "rollout": lambda value: rollouts.c.rollout == value,
    "decision": lambda value: decisions.c.decision == value,
    "since": lambda value: decisions.c.at >= value,
    "until": lambda value: decisions.c.at < value,
}


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yields a connection to read from.

    Raises:
        LogUnavailable: If the database cannot be used.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise unavailable(error) from error


def find_decisions(
    connection: sa.Connection, filter: Mapping[str, Any], after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Returns decisions as plain values, newest first.

    A page starts where the one before ended, however many decisions came in between.

    Args:
        connection: A connection.
        filter: What to look for, by the names of `_FILTERS`; `since` is included, `until` is not.
        after: Cursor of the page before, None for the first.
        limit: Most decisions to return, 1 or more.

    Returns:
        The decisions, and the next page's cursor, None after the last.

    Raises:
        DeployError: If a filter is unknown or the cursor is none.
    """
    for name in filter:
        if name not in _FILTERS:
            raise DeployError(f"filter: unknown {name}: {near_name(name, _FILTERS)}")
    wanted = [_FILTERS[name](value) for name, value in filter.items()]
    if after is not None:
        wanted.append(decisions.c.seq < sequence_of(after))
    newest = named(decisions).where(*wanted).order_by(decisions.c.seq.desc()).limit(limit + 1)
    rows = connection.execute(newest).mappings().all()
    page = [{k: v for k, v in row.items() if k not in _UNTOLD} for row in rows[:limit]]
    return page, str(rows[limit - 1]["seq"]) if len(rows) > limit else None


def sequence_of(cursor: str) -> int:
    """Returns the number of the last row of a page from its cursor.

    Raises:
        DeployError: If the cursor is none.
    """
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise DeployError(f"cursor: {cursor!r} is none; pass on what the page before said")
    return int(cursor)


def find_outcomes(connection: sa.Connection, name: RolloutName) -> list[OutcomeEntry]:
    """Returns what was said of a rollout, in the order in which it came in."""
    mine = named(outcomes).where(outcomes.c.rollout_key == rollout_key(name))
    rows = connection.execute(mine.order_by(outcomes.c.seq)).mappings()
    return [entry_of(OutcomeEntry, row) for row in rows]


def find_latest(connection: sa.Connection, name: RolloutName) -> DecisionEntry | None:
    """Returns the decision on a rollout that came in last, None where there is none."""
    mine = named(decisions).where(decisions.c.rollout_key == rollout_key(name))
    newest = mine.order_by(decisions.c.seq.desc()).limit(1)
    row = connection.execute(newest).mappings().first()
    return None if row is None else entry_of(DecisionEntry, row)


def find_since(connection: sa.Connection, since: float, limit: int) -> list[DecisionEntry]:
    """Returns the decisions made since then, Unix seconds, oldest first; of many the newest.

    Args:
        connection: A connection.
        since: The time, included.
        limit: Most decisions to return, 1 or more.
    """
    # By time, which has an index: by number, all of the log would be looked through for them.
    newest = (decisions.c.at.desc(), decisions.c.seq.desc())
    query = named(decisions).where(decisions.c.at >= since).order_by(*newest).limit(limit)
    rows = connection.execute(query).mappings().all()
    return [entry_of(DecisionEntry, row) for row in rows[::-1]]


def find_first_asked(connection: sa.Connection, name: RolloutName) -> float | None:
    """Returns when a rollout was first decided on, Unix seconds, None where it never was."""
    first = sa.select(sa.func.min(decisions.c.at))
    return connection.scalar(first.where(decisions.c.rollout_key == rollout_key(name)))


def find_inputs(connection: sa.Connection, decision_id: str) -> list[dict[str, Any]]:
    """Returns all observations that a decision rests on, oldest first.

    Raises:
        DeployError: If there is no such decision.
    """
    columns = [decisions.c[name] for name in ("id", "base", "kept", "observations")]
    chain = (
        sa.select(*columns, sa.literal(0).label("depth"))
        .where(decisions.c.id == decision_id)
        .cte("chain", recursive=True)
    )
    # Of a base none of whose inputs stand nothing is needed.
    continued = sa.and_(decisions.c.id == chain.c.base, chain.c.kept > 0)
    chain = chain.union_all(sa.select(*columns, chain.c.depth + 1).where(continued))
    links = connection.execute(sa.select(chain).order_by(chain.c.depth.desc())).all()
    if not links:
        raise DeployError(f"decision {decision_id!r}: the log holds none of this id")
    inputs: list[dict[str, Any]] = []
    for link in links:
        inputs = continue_inputs(inputs, link.kept, link.observations)
    return inputs


def continue_inputs(
    base: list[dict[str, Any]], kept: int, observations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the inputs of a decision whose base has the inputs `base`.

    Raises:
        DeployError: If the base has fewer inputs than were kept.
    """
    if kept > len(base):
        raise DeployError(f"the log keeps {kept} observations of a decision that has {len(base)}")
    return [*base[:kept], *observations]


def find_rollouts(
    connection: sa.Connection,
    service: str,
    environment: str | None,
    version: str | None,
    limit: int,
) -> list[RolloutName]:
    """Returns the rollouts of a service that were decided on, the one begun last first."""
    wanted = {"service": service, "environment": environment, "version": version}
    query = sa.select(*(rollouts.c[f.name] for f in fields(RolloutName))).where(
        *(rollouts.c[name] == value for name, value in wanted.items() if value is not None),
        sa.exists().where(decisions.c.rollout_key == rollouts.c.key),
    )
    newest = query.order_by(rollouts.c.seq.desc()).limit(limit)
    return [RolloutName(*row) for row in connection.execute(newest)]
