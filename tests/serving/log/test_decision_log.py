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
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import nan
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.database import open_engine
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog

Decision = Callable[..., DecisionEntry]
Outcome = Callable[..., OutcomeEntry]


@pytest.fixture
def log(url: str) -> Iterator[DecisionLog]:
    log = DecisionLog.open(url)
    yield log
    log.close()


def count(url: str, table: str) -> int:
    engine = open_engine(url, wait=2)
    with engine.connect() as connection:
        return connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0


async def record_all(log: DecisionLog, entries: list[DecisionEntry]) -> list[DecisionEntry]:
    return list(await asyncio.gather(*(log.record(entry) for entry in entries)))


def test_a_decision_comes_back_as_it_was_also_after_a_restart(url: str, decision: Decision) -> None:
    entry = decision(
        observations=[{"error_rate": 0.1, "note": 'Zoë\'s "%s" 🚀', "requests": 10**15}],
        at=1_790_000_000.123456,
        q_values={"CONTINUE": 1 / 3, "ROLLBACK": -1e-300},
        explored=True,
        propensity=0.1,
    )
    log = DecisionLog.open(url)
    assert asyncio.run(log.record(entry)) == entry
    log.close()
    log = DecisionLog.open(url)
    assert log.latest(entry.name) == entry
    assert log.inputs(entry.id) == entry.observations
    log.close()


def test_retries_at_once_are_written_once_and_told_what_was_written(
    url: str, log: DecisionLog, decision: Decision
) -> None:
    first = decision()
    retries = [replace(first, at=first.at + i, decision="PAUSE") for i in range(40)]
    told = asyncio.run(record_all(log, retries))
    assert count(url, "decisions") == 1
    assert len({entry.at for entry in told}) == 1
    again = asyncio.run(log.record(replace(first, decision="ROLLBACK")))
    assert again == told[0] == log.latest(first.name)


def test_processes_that_share_a_log_agree_on_what_was_written(
    url: str, decision: Decision, outcome: Outcome
) -> None:
    first, report = decision(), outcome()

    def in_another(i: int) -> tuple[DecisionEntry, bool]:
        async def write() -> tuple[DecisionEntry, bool]:
            return await log.record(replace(first, at=float(i))), await log.record_outcome(report)

        log = DecisionLog.open(url)
        try:
            return asyncio.run(write())
        finally:
            log.close()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(in_another, range(8)))
    assert len({entry.at for entry, _ in results}) == 1
    assert sum(is_new for _, is_new in results) == 1
    assert count(url, "decisions") == count(url, "outcomes") == count(url, "rollouts") == 1


def test_callers_share_transactions(url: str, log: DecisionLog, decision: Decision) -> None:
    asyncio.run(record_all(log, [decision() for _ in range(200)]))
    engine = open_engine(url, wait=2)
    with engine.connect() as connection:
        batches = connection.scalar(sa.text("SELECT count(DISTINCT batch) FROM decisions"))
    assert count(url, "decisions") == 200
    # The first may go alone; those that come while it is written go together.
    assert batches is not None
    assert batches <= 20


def test_an_entry_that_is_refused_takes_no_other_with_it(
    url: str, log: DecisionLog, decision: Decision
) -> None:
    entries = [decision() for _ in range(20)]
    entries[7] = decision(base="0" * 32, kept=1)

    async def write() -> list[Any]:
        return await asyncio.gather(*map(log.record, entries), return_exceptions=True)

    results = asyncio.run(write())
    assert isinstance(results[7], DeployError)
    assert [r for i, r in enumerate(results) if i != 7] == [*entries[:7], *entries[8:]]
    assert count(url, "decisions") == 19
    assert log.state()["writable"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"observations": [{"error_rate": nan}]}, "observations"),
        ({"q_values": {"CONTINUE": float("inf")}}, "q_values"),
        ({"risk": nan}, "risk"),
        ({"propensity": 0.0}, "propensity"),
        ({"policy_version": "a\0b"}, "policy_version"),
        ({"name": RolloutName("a\ud800", "", "", "")}, "service"),
        ({"kept": 3}, "kept"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    tmp_path: Any, decision: Decision, changes: dict[str, Any], names: str
) -> None:
    log = DecisionLog.open(f"sqlite:///{tmp_path / 'log.db'}")
    with pytest.raises(DeployError, match=f"^{names}: "):
        asyncio.run(log.record(decision(**changes)))
    log.close()


def test_an_outcome_may_come_first_and_counts_once(
    url: str, log: DecisionLog, outcome: Outcome
) -> None:
    report = outcome(label=None, detail={"text": "\0"})
    assert asyncio.run(log.record_outcome(report))
    assert not asyncio.run(log.record_outcome(replace(report, label="bad")))
    assert log.outcomes(report.name) == [report]
    assert log.latest(report.name) is None
    # No decision can be of it, so no event without a name is.
    assert log.find_rollouts("pay") == []


def test_pages_are_stable_while_decisions_come_in(log: DecisionLog, decision: Decision) -> None:
    entries = [decision(at=float(i)) for i in range(25)]
    for entry in entries:
        asyncio.run(log.record(entry))
    seen, cursor = [], None
    while True:
        page, cursor = log.decisions({}, cursor, 10)
        seen += [row["id"] for row in page]
        json.dumps(page, allow_nan=False)
        if cursor is None:
            break
        asyncio.run(log.record(decision(at=99.0)))
    assert seen == [entry.id for entry in reversed(entries)]


def test_filters_leave_what_was_asked_for(log: DecisionLog, decision: Decision) -> None:
    other = RolloutName("search", "staging", "3", "")
    asyncio.run(
        record_all(
            log,
            [
                decision(id="a", at=1.0),
                decision(id="b", at=2.0, decision="PAUSE"),
                decision(id="c", at=3.0, name=other),
            ],
        )
    )

    def ids(**filter: Any) -> str:
        return "".join(sorted(row["id"] for row in log.decisions(filter)[0]))

    assert ids(service="pay") == ids(rollout="7") == ids(until=3.0) == "ab"
    assert ids(environment="staging") == ids(version="3") == ids(since=3.0) == "c"
    assert ids(decision="PAUSE") == ids(service="pay", since=2.0) == "b"
    assert ids(rollout="") == "c"
    with pytest.raises(DeployError, match="did you mean service"):
        log.decisions({"servcie": "pay"})
    with pytest.raises(DeployError, match="cursor"):
        log.decisions({}, "1; DROP TABLE decisions")


def test_what_was_decided_since_comes_oldest_first_and_of_many_the_newest(
    log: DecisionLog, decision: Decision
) -> None:
    # Clocks of two services differ: by time, whatever the order in which they wrote.
    entries = [decision(at=at) for at in (1.0, 4.0, 2.0, 3.0)]
    asyncio.run(record_all(log, entries))
    assert [entry.at for entry in log.since(2.0, 10)] == [2.0, 3.0, 4.0]
    assert log.since(2.0, 2) == [entries[3], entries[1]]
    assert log.since(9.0, 10) == []


def test_rollouts_are_found_newest_first(log: DecisionLog, decision: Decision) -> None:
    names = [RolloutName("pay", "production", "2", str(i)) for i in range(3)]
    for name in [*names, RolloutName("pay", "staging", "2", "9")]:
        asyncio.run(log.record(decision(name=name)))
    assert log.find_rollouts("pay", "production", limit=2) == [names[2], names[1]]
    assert log.find_rollouts("pay", "staging", "2")[0].rollout == "9"
    assert log.find_rollouts("pay", version="3") == []


OBSERVATIONS = st.lists(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
        max_size=3,
    ),
    max_size=3,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_inputs_are_what_the_bases_make_them(
    log: DecisionLog, decision: Decision, data: st.DataObject
) -> None:
    inputs: dict[str, list[Any]] = {}
    entries = []
    for _ in range(data.draw(st.integers(1, 6))):
        base = data.draw(st.none() | st.sampled_from(list(inputs)) if inputs else st.none())
        kept = 0 if base is None else data.draw(st.integers(0, len(inputs[base])))
        new = data.draw(OBSERVATIONS)
        entries.append(decision(base=base, kept=kept, observations=new))
        inputs[entries[-1].id] = [*(inputs[base][:kept] if base else []), *new]
    asyncio.run(record_all(log, entries))
    assert {id: log.inputs(id) for id in inputs} == inputs


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://root:secret@db/log", "log.db", "http://x"]
)
def test_other_databases_are_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(DeployError, match="sqlite:///FILE or postgresql://") as caught:
        DecisionLog.open(url)
    assert "secret" not in str(caught.value)


def test_closing_writes_what_waits(url: str, decision: Decision) -> None:
    log = DecisionLog.open(url)
    entries = [decision() for _ in range(50)]

    async def close_under_way() -> list[DecisionEntry]:
        tasks = [asyncio.create_task(log.record(entry)) for entry in entries]
        await asyncio.sleep(0)
        await asyncio.to_thread(log.close)
        with pytest.raises(DeployError, match="closed"):
            await log.record(decision())
        return await asyncio.gather(*tasks)

    assert asyncio.run(close_under_way()) == entries
    assert count(url, "decisions") == 50
