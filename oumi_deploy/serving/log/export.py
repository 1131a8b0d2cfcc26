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

"""From the decision log to an episode file."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done
from oumi_deploy.serving.log.database import open_engine
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.episodes import (
    LoggedRollout,
    Row,
    day_and_environment,
    episode_id,
    episode_rows,
    labelling,
)
from oumi_deploy.serving.log.migrate import HEAD, migrate, revision_of
from oumi_deploy.serving.log.queries import reading
from oumi_deploy.serving.log.rows import entry_of
from oumi_deploy.serving.log.tables import decisions, named, outcomes, rollouts

_log = logging.getLogger(__name__)

_SUFFIXES = (".parquet", ".csv", ".jsonl")
_AT_ONCE = 100
"""Rollouts in memory at a time."""

_WAIT = 60.0

NO_DECISION = "no decision on them is logged"
NO_CANARY = "nothing was observed of the new version"
NOT_VALID = "what was observed is against the episode format"


class NothingToExport(DeployError):
    """The log is there, and holds no rollout that makes an episode."""


@dataclass
class Exported:
    """What an export came to.

    Attributes:
        n_rollouts: Rollouts written, each an episode.
        n_rows: Observations written.
        n_labelled: Rollouts of these whose label is known.
        n_untold: Rollouts of these that only a source which does not count would label.
        labelled_by: Rollouts whose label is known, by the source that counted.
        left_out: Rollouts left out, by reason.
    """

    n_rollouts: int = 0
    n_rows: int = 0
    n_labelled: int = 0
    n_untold: int = 0
    labelled_by: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def export_episodes(
    log_url: str,
    path: Path,
    *,
    since: float | None = None,
    until: float | None = None,
    group: Callable[[LoggedRollout], str] = day_and_environment,
    sources: Collection[str] | None = None,
    columns: Sequence[str] = (),
    overwrite: bool = False,
) -> Exported:
    """Writes logged rollouts as an episode file, one episode a rollout, see `episode_rows`.

    The log may be in use meanwhile: what is written is what it held at the start. Memory does not
    grow with the log.

    Args:
        log_url: URL of the log.
        path: File to write; its suffix picks Parquet, CSV or JSON Lines.
        since: Unix seconds; only rollouts that were first decided on then or later.
        until: Unix seconds; only rollouts that were first decided on before.
        group: Names what an episode may not be separated from; by default the environment and the
            UTC day of its first decision.
        sources: The sources whose labels count, see `labelling`; all if None.
        columns: Metrics that have a column, also where nobody reported them.
        overwrite: Whether `path` may be replaced.

    Raises:
        NothingToExport: If there is nothing to write.
        DeployError: If there is no such log, or `path` cannot be written.
    """
    from oumi_deploy.serving.log.episode_files import EpisodeDraft

    if path.suffix not in _SUFFIXES:
        raise DeployError(f"{path}: the name of an episode file must end in {', '.join(_SUFFIXES)}")
    engine = open_engine(log_url, wait=_WAIT, as_found=True)
    _require_log(engine)
    exported = Exported()
    with replace_when_done(path, overwrite=overwrite) as final:
        draft = EpisodeDraft(final.with_name("rows"), columns)
        try:
            for chunk in _chunks(engine, since, until):
                for rollout, rows in _episodes(chunk, group, sources, exported):
                    draft.add(rows)
                    _count(rollout, rows, sources, exported)
            if not exported.n_rollouts:
                raise NothingToExport(f"nothing to export{_reasons(exported.left_out)}")
            draft.finish(final)
        finally:
            draft.close()
            engine.dispose()
    return exported


def _count(
    rollout: LoggedRollout, rows: list[Row], sources: Collection[str] | None, exported: Exported
) -> None:
    exported.n_rollouts += 1
    exported.n_rows += len(rows)
    counting = labelling(rollout, sources)
    if counting is not None:
        exported.n_labelled += 1
        exported.labelled_by[counting.source] += 1
    elif labelling(rollout) is not None:
        exported.n_untold += 1


def _reasons(left_out: Counter[str]) -> str:
    told = [f"{reason} ({n})" for reason, n in left_out.items()]
    return f": of the rollouts there are, {'; '.join(told)}" if told else ": no rollout is logged"


def _require_log(engine: sa.Engine) -> None:
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file is not None and not Path(file).is_file():
        # SQLite would make it.
        raise DeployError(f"log: {file}: no such file")
    with reading(engine) as connection:
        revision = revision_of(connection)
    if revision is None:
        raise DeployError("log: the database holds no decision log")
    if revision != HEAD:
        with reading(engine.execution_options(writes=True)) as connection, connection.begin():
            migrate(connection)


def _chunks(
    engine: sa.Engine, since: float | None, until: float | None
) -> Iterator[list[LoggedRollout]]:
    """Yields all rollouts in the order in which the log first heard of them."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    first_at = (
        sa.select(sa.func.min(decisions.c.at))
        .where(decisions.c.rollout_key == rollouts.c.key)
        .scalar_subquery()
    )
    wanted = [first_at >= since] if since is not None else []
    wanted += [first_at < until] if until is not None else []
    asked = sa.or_(first_at.is_(None), sa.and_(sa.true(), *wanted))
    query = sa.select(rollouts).where(asked).order_by(rollouts.c.seq).limit(_AT_ONCE)
    with reading(engine) as connection:
        seq = 0
        while rows := connection.execute(query.where(rollouts.c.seq > seq)).all():
            seq = rows[-1].seq
            names = {
                row.key: RolloutName(row.service, row.environment, row.version, row.rollout)
                for row in rows
            }
            yield _load(connection, names)


def _load(connection: sa.Connection, names: dict[str, RolloutName]) -> list[LoggedRollout]:
    made: dict[str, list[DecisionEntry]] = {key: [] for key in names}
    for row in _rows_of(connection, decisions, names):
        made[row["rollout_key"]].append(entry_of(DecisionEntry, row))
    said: dict[str, list[OutcomeEntry]] = {key: [] for key in names}
    for row in _rows_of(connection, outcomes, names):
        said[row["rollout_key"]].append(entry_of(OutcomeEntry, row))
    return [LoggedRollout(name, made[key], said[key]) for key, name in names.items()]


def _rows_of(connection: sa.Connection, table: sa.Table, keys: Iterable[str]) -> sa.MappingResult:
    mine = named(table).where(table.c.rollout_key.in_(list(keys)))
    return connection.execute(mine.order_by(table.c.seq)).mappings()


def _episodes(
    chunk: list[LoggedRollout],
    group: Callable[[LoggedRollout], str],
    sources: Collection[str] | None,
    exported: Exported,
) -> Iterator[tuple[LoggedRollout, list[Row]]]:
    """Yields each rollout that makes a valid episode with its rows, and counts the others."""
    from oumi_deploy.serving.log.episode_files import problems_of

    episodes = []
    for rollout in chunk:
        if not rollout.decisions:
            exported.left_out[NO_DECISION] += 1
            continue
        try:
            rows = episode_rows(rollout, group(rollout), sources)
        except DeployError as error:
            _leave_out(rollout.name, str(error), exported)
            continue
        if any(row.get("phase") != "baseline" for row in rows):
            episodes.append((rollout, rows))
        else:
            exported.left_out[NO_CANARY] += 1
    all_valid = not problems_of([row for _, rows in episodes for row in rows]) if episodes else True
    for rollout, rows in episodes:
        problems = [] if all_valid else problems_of(rows)
        if problems:
            _leave_out(rollout.name, str(problems[0]), exported)
        else:
            yield rollout, rows


def _leave_out(name: RolloutName, problem: str, exported: Exported) -> None:
    exported.left_out[NOT_VALID] += 1
    _log.warning("%s is left out: %s", episode_id(name), problem)
