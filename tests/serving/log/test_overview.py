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
"""What the log tells of all rollouts at once, on either database."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.endings import Ending
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.episodes import LoggedRollout, labelling
from oumi_deploy.serving.log.overview import MOST_DECISIONS, Standings, Wanted
from oumi_deploy.serving.log.rows import rollout_key
from oumi_deploy.serving.log.stages import Horizons
from oumi_deploy.serving.log.writer import DecisionLog

Decision = Callable[..., DecisionEntry]
Outcome = Callable[..., OutcomeEntry]

ALL = Horizons(0.0, 0.0)
EVERYTHING = Wanted(None, None, ALL)

later = count(2_000_000_000)


@pytest.fixture
def log(url: str) -> Iterator[DecisionLog]:
    log = DecisionLog.open(url)
    yield log
    log.close()


def record(log: DecisionLog, *entries: DecisionEntry) -> None:
    async def one_after_the_other() -> None:
        for entry in entries:
            await log.record(entry)

    asyncio.run(one_after_the_other())


def pages(log: DecisionLog, service: str | None, limit: int) -> list[DecisionEntry]:
    found, cursor = [], None
    while True:
        page = log.standings(Wanted(service, None, ALL), cursor, limit)
        assert len(page.standings) <= limit
        found += [standing.latest for standing in page.standings]
        cursor = page.next
        if cursor is None:
            return found


@given(st.lists(st.integers(0, 4), max_size=14), st.integers(1, 4))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_pages_hold_each_rollout_once_by_its_latest_decision(
    url: str, decision: Decision, turns: list[int], limit: int
) -> None:
    service = uuid4().hex
    made = [
        decision(name=RolloutName(service, "production", f"v{n}"), at=float(i))
        for i, n in enumerate(turns)
    ]
    log = DecisionLog.open(url)
    try:
        record(log, *made)
        latest = {entry.name: entry for entry in made}
        expected = sorted(latest.values(), key=lambda entry: -entry.at)
        assert pages(log, service, limit) == expected
        everybody = pages(log, None, 500)
        assert [entry for entry in everybody if entry.name.service == service] == expected
    finally:
        log.close()


def test_a_standing_tells_the_newest_input_also_where_a_question_brought_none(
    log: DecisionLog, decision: Decision, outcome: Outcome
) -> None:
    lacking = ["error_rate of the new version: no series"]
    first = decision(observations=[{"error_rate": 0.1}, {"error_rate": 0.2}], at=5.0, notes=lacking)
    again = decision(base=first.id, kept=2, observations=[], last=True, at=9.0)
    record(log, first, again)
    asyncio.run(log.record_outcome(outcome(label="good")))
    standing = log.standings(EVERYTHING, None, 10).standings[0]
    assert standing.latest == again
    assert standing.newest == {"error_rate": 0.2}
    assert (standing.began, standing.n_decisions) == (5.0, 2)
    assert [told.label for told in standing.outcomes] == ["good"]
    course = log.course(standing.key)
    assert course is not None
    assert course.standing == standing
    assert list(course.decisions) == [first, again]
    assert list(course.observations) == first.observations
    assert log.grounds(standing.key) == (again, first.observations)


def test_of_a_long_rollout_the_newest_decisions_are_returned(
    log: DecisionLog, decision: Decision
) -> None:
    made = [decision(at=float(n)) for n in range(MOST_DECISIONS + 3)]
    record(log, *made)
    course = log.course(rollout_key(made[0].name))
    assert course is not None
    assert [entry.at for entry in course.decisions] == [entry.at for entry in made[3:]]
    assert course.standing.n_decisions == len(made)


def test_what_was_never_decided_on_has_no_course(log: DecisionLog, outcome: Outcome) -> None:
    told = outcome()
    asyncio.run(log.record_outcome(told))
    assert log.course(rollout_key(told.name)) is None
    assert log.grounds(rollout_key(told.name)) is None
    assert log.standings(EVERYTHING, None, 10) == Standings([], None, None)
    assert log.endings(0) == []


def test_endings_tell_the_last_decision_since_a_time_and_what_was_said(
    log: DecisionLog, decision: Decision, outcome: Outcome
) -> None:
    early = decision(at=10.0, decision="ROLLBACK")
    held = decision(name=replace(early.name, version="2"), at=20.0, decision="PAUSE")
    went_on = decision(name=held.name, at=30.0, decision="CONTINUE", shadow=True)
    record(log, early, held, went_on)
    asyncio.run(log.record_outcome(outcome(name=held.name, label="bad")))
    asyncio.run(log.record_outcome(outcome(name=held.name, label=None)))
    assert log.endings(15.0) == [Ending("CONTINUE", True, True, "bad", 1)]
    # It was held before that time, and yet not undisturbed.
    assert log.endings(25.0) == [Ending("CONTINUE", True, True, "bad", 1)]
    assert sorted(ending.decision for ending in log.endings(0)) == ["CONTINUE", "ROLLBACK"]


said = st.tuples(
    st.sampled_from(["review", "flagger"]),
    st.sampled_from(["good", "bad", None]),
    st.integers(0, 2),
)
ended = st.tuples(
    st.lists(st.sampled_from(["CONTINUE", "PAUSE", "ROLLBACK"]), min_size=1, max_size=3),
    st.booleans(),
    st.lists(said, max_size=4),
)


@given(st.lists(ended, max_size=5))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_endings_are_counted_by_the_label_that_an_export_would_have(
    url: str, decision: Decision, outcome: Outcome, endings: list[Any]
) -> None:
    # The log is one for all examples: each has its own time.
    since = next(later)
    log, expected = DecisionLog.open(url), Counter[tuple[Any, ...]]()
    try:
        for words, shadow, told in endings:
            name = RolloutName(uuid4().hex, "production", "v1")
            made = [decision(name=name, at=since, decision=word, shadow=shadow) for word in words]
            record(log, *made)
            heard = [
                outcome(name=name, source=source, label=label, at=float(at))
                for source, label, at in told
            ]
            for entry in heard:
                asyncio.run(log.record_outcome(entry))
            telling = labelling(LoggedRollout(name, made, heard))
            label = None if telling is None else telling.label
            expected[made[-1].decision, shadow, "PAUSE" in words, label] += 1
        found = {(e.decision, e.shadow, e.paused, e.label): e.n for e in log.endings(since)}
        assert found == expected
    finally:
        log.close()


def test_a_cursor_that_is_none_is_refused(log: DecisionLog) -> None:
    with pytest.raises(DeployError, match="cursor"):
        log.standings(EVERYTHING, "1; DROP TABLE decisions", 10)
