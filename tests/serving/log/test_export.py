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
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from oumi_deploy.episodes.packed import read_episodes
from oumi_deploy.episodes.table import read_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.export import NO_CANARY, NO_DECISION, NOT_VALID, export_episodes
from oumi_deploy.serving.log.writer import DecisionLog

Decision = Callable[..., DecisionEntry]
Outcome = Callable[..., OutcomeEntry]
START = 1_790_000_000.0


def observation(minute: int, **values: Any) -> dict[str, Any]:
    return {"timestamp": START + 60 * minute, "error_rate": minute / 64, **values}


def baseline(minute: int) -> dict[str, Any]:
    return observation(minute, phase="baseline")


def write(url: str, *entries: DecisionEntry | OutcomeEntry) -> None:
    async def record(log: DecisionLog) -> None:
        for entry in entries:
            if isinstance(entry, DecisionEntry):
                await log.record(entry)
            else:
                await log.record_outcome(entry)

    log = DecisionLog.open(url)
    asyncio.run(record(log))
    log.close()


def chain(decision: Decision, answers: Sequence[str], **changes: Any) -> list[DecisionEntry]:
    """Decides after one baseline and each canary observation in turn."""
    made: list[DecisionEntry] = []
    for number, answer in enumerate(answers):
        new = [observation(number + 1)] if made else [baseline(0), observation(1)]
        base, kept = (made[-1].id, number + 1) if made else (None, 0)
        values = {"at": START, "decision": answer, "answered": answer, **changes}
        made.append(decision(base=base, kept=kept, observations=new, **values))
    return made


def exported(url: str, tmp_path: Path, suffix: str = ".parquet", **options: Any) -> pd.DataFrame:
    path = tmp_path / f"episodes{suffix}"
    export_episodes(url, path, overwrite=True, **options)
    read_episodes(path)
    return read_frame(path)


def cells(frame: pd.DataFrame, column: str) -> list[Any]:
    return [None if pd.isna(value) else value for value in frame[column]]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_finished_rollout_is_an_episode_that_passes_the_check(
    url: str, tmp_path: Path, decision: Decision, outcome: Outcome, suffix: str
) -> None:
    name = RolloutName('a/b,"c"\r\n', "production", "1.10", "")
    write(url, *chain(decision, ["PAUSE", "CONTINUE"], name=name), outcome(name=name))
    path = tmp_path / f"episodes{suffix}"
    counts = export_episodes(url, path)
    assert (counts.n_rollouts, counts.n_rows, counts.n_labelled) == (1, 3, 1)
    assert not counts.left_out
    command = [sys.executable, "-m", "oumi_deploy.cli.main", "check", str(path)]
    check = subprocess.run(command, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    frame = read_frame(path)
    assert cells(frame, "phase") == ["baseline", None, None]
    assert cells(frame, "action") == [None, "PAUSE", "CONTINUE"]
    assert cells(frame, "propensity") == [None, 1.0, 1.0]
    assert cells(frame, "timestamp") == [START, START + 60, START + 120]
    assert cells(frame, "error_rate") == [0, 1 / 64, 2 / 64]
    assert set(cells(frame, "label")) == {"good"}
    assert set(cells(frame, "service")) == {name.service}
    assert set(cells(frame, "version")) == {"1.10"}
    assert set(cells(frame, "group")) == {"production 2026-09-21"}


def test_an_export_is_a_log_that_policies_can_be_judged_from(
    url: str, tmp_path: Path, decision: Decision, outcome: Outcome
) -> None:
    explored = chain(decision, ["PAUSE", "CONTINUE"])
    explored[0] = replace(explored[0], propensity=0.125, explored=True, preferred="ROLLBACK")
    write(url, *explored, outcome())
    frame = exported(url, tmp_path)
    assert cells(frame, "action") == [None, "PAUSE", "CONTINUE"]
    assert cells(frame, "propensity") == [None, 0.125, 1.0]


def test_rows_that_nobody_asked_about_went_on_for_certain(
    url: str, tmp_path: Path, decision: Decision
) -> None:
    rows = [baseline(0), *(observation(minute) for minute in range(1, 5))]
    first = decision(observations=rows[:3])
    last = decision(base=first.id, kept=3, observations=rows[3:], decision="PAUSE")
    write(url, first, last)
    frame = exported(url, tmp_path)
    assert cells(frame, "action") == [None, "CONTINUE", "CONTINUE", "CONTINUE", "PAUSE"]
    assert cells(frame, "propensity") == [None, 1, 1, 1, 1]


def test_several_decisions_in_one_row_have_the_probability_of_all(
    url: str, tmp_path: Path, decision: Decision
) -> None:
    rows = [observation(1), observation(2)]
    first = decision(observations=rows[:1], decision="PAUSE", propensity=0.5)
    again = replace(first, id="1" * 32, propensity=0.25)
    third = decision(base=first.id, kept=1, observations=rows[1:], decision="PAUSE", propensity=0.5)
    ended = replace(third, id="2" * 32, decision="ROLLBACK", base=third.id, kept=2, observations=[])
    write(url, first, again, third, ended)
    frame = exported(url, tmp_path)
    assert cells(frame, "action") == ["PAUSE", "ROLLBACK"]
    assert cells(frame, "propensity") == [0.125, 1 - 0.5 * 0.5]


@pytest.mark.parametrize(
    ("answers", "said", "label"),
    [
        (["CONTINUE", "ROLLBACK"], [("flagger", "bad", 1)], None),
        (["CONTINUE", "ROLLBACK"], [("review", "bad", 1), ("flagger", "good", 2)], "bad"),
        (["CONTINUE", "CONTINUE"], [("flagger", "good", 1), ("incident", "bad", 2)], "bad"),
        (["CONTINUE", "CONTINUE"], [("flagger", "good", 2), ("incident", "bad", 1)], "good"),
        (["CONTINUE", "CONTINUE"], [("review", "good", 1), ("incident", "bad", 2)], "good"),
        (["CONTINUE", "CONTINUE"], [("review", None, 3), ("incident", "bad", 2)], "bad"),
        (["CONTINUE", "CONTINUE"], [("cdevents", None, 1)], None),
        (["ROLLBACK", "CONTINUE"], [("flagger", "good", 1)], "good"),
    ],
)
def test_the_label_is_what_somebody_could_know(
    tmp_path: Path,
    decision: Decision,
    outcome: Outcome,
    answers: list[str],
    said: list[tuple[str, Any, float]],
    label: str | None,
) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    reports = [outcome(source=source, label=word, at=at) for source, word, at in said]
    write(url, *chain(decision, answers), *reports)
    assert set(cells(exported(url, tmp_path), "label")) == {label}


def test_a_rollback_ends_the_episode_and_one_that_was_not_heeded_does_not(
    url: str, tmp_path: Path, decision: Decision
) -> None:
    heeded = RolloutName("pay", "", "1", "heeded")
    write(
        url,
        *chain(decision, ["CONTINUE", "ROLLBACK"], name=heeded),
        *chain(decision, ["CONTINUE", "ROLLBACK", "CONTINUE"]),
    )
    frame = exported(url, tmp_path)
    assert cells(frame, "action") == [
        *(None, "CONTINUE", "ROLLBACK"),
        *(None, "CONTINUE", None, "CONTINUE"),
    ]
    assert cells(frame, "propensity") == [None, 1, 1, None, 1, None, 1]


def test_shadow_decisions_leave_no_trace_but_their_inputs(
    url: str, tmp_path: Path, decision: Decision, outcome: Outcome
) -> None:
    write(url, *chain(decision, ["CONTINUE", "ROLLBACK"], shadow=True), outcome(label="bad"))
    frame = exported(url, tmp_path)
    assert len(frame) == 3
    assert cells(frame, "action") == cells(frame, "propensity") == [None] * 3
    assert set(cells(frame, "label")) == {"bad"}


def test_a_decision_on_a_gap_that_was_filled_later_stands_in_the_row_before_it(
    url: str, tmp_path: Path, decision: Decision
) -> None:
    first = decision(observations=[observation(1), {"timestamp": START + 150}], decision="PAUSE")
    first = replace(first, propensity=0.5, explored=True)
    second = decision(
        base=first.id, kept=1, observations=[observation(2), observation(3)], decision="CONTINUE"
    )
    write(url, first, second)
    frame = exported(url, tmp_path)
    assert cells(frame, "action") == ["CONTINUE", "PAUSE", "CONTINUE"]
    assert cells(frame, "propensity") == [1, 0.5, 1]


def test_what_cannot_be_written_is_counted_and_takes_nothing_with_it(
    url: str, tmp_path: Path, decision: Decision, outcome: Outcome
) -> None:
    def named(word: str) -> RolloutName:
        return RolloutName("pay", "", "1", word)

    write(
        url,
        decision(name=named("late"), observations=[observation(2), observation(1)]),
        decision(name=named("text"), observations=[observation(1, requests="many")]),
        decision(name=named("huge"), observations=[observation(1, queue=10**400)]),
        decision(name=named("old"), observations=[baseline(1)]),
        decision(name=named("none"), observations=[]),
        outcome(name=named("unknown")),
        decision(name=named("good"), observations=[observation(1, canary_share=0.5, up=True)]),
        decision(name=named("words"), observations=[observation(1, zone="b", queue=3)]),
    )
    path = tmp_path / "episodes.csv"
    counts = export_episodes(url, path)
    assert counts.left_out == {NOT_VALID: 3, NO_CANARY: 2, NO_DECISION: 1}
    assert counts.n_rollouts == 2
    frame = read_frame(path)
    assert cells(frame, "episode_id") == ["pay//1/good", "pay//1/words"]
    assert cells(frame, "up") == [1, None]
    assert cells(frame, "zone") == [None, "b"]


def test_periods_side_by_side_hold_every_rollout_once(
    url: str, tmp_path: Path, decision: Decision
) -> None:
    names = [RolloutName("pay", "", str(day), "") for day in range(4)]
    for day, name in enumerate(names):
        entries = chain(decision, ["CONTINUE", "CONTINUE"], name=name, at=float(day))
        write(url, entries[0], replace(entries[1], at=day + 1.5))
    early = exported(url, tmp_path, until=2.0)
    late = exported(url, tmp_path, since=2.0)
    assert [*dict.fromkeys(early["version"]), *dict.fromkeys(late["version"])] == list("0123")
    assert len(early) == len(late) == 6


def test_nothing_is_made_up_or_replaced_where_there_is_nothing_to_export(
    tmp_path: Path, url: str, outcome: Outcome
) -> None:
    with pytest.raises(DeployError, match="no such file"):
        export_episodes(f"sqlite:///{tmp_path / 'typo.db'}", tmp_path / "e.csv")
    assert not (tmp_path / "typo.db").exists()
    write(url, outcome())
    path = tmp_path / "e.csv"
    path.write_text("mine")
    with pytest.raises(DeployError, match="exists already"):
        export_episodes(url, path)
    with pytest.raises(DeployError, match=f"nothing to export.*{NO_DECISION}"):
        export_episodes(url, path, overwrite=True)
    assert path.read_text() == "mine"
    with pytest.raises(DeployError, match="must end in"):
        export_episodes(url, tmp_path / "e.txt")


def test_memory_does_not_grow_with_the_log(tmp_path: Path, decision: Decision) -> None:
    def peak(n: int) -> int:
        url = f"sqlite:///{tmp_path / f'{n}.db'}"
        names = [RolloutName("pay", "", str(number), "") for number in range(n)]
        rows = [observation(minute) for minute in range(20)]
        write_at_once(url, [decision(name=name, observations=rows) for name in names])
        exported = tmp_path / f"{n}.jsonl"
        tracemalloc.start()
        export_episodes(url, exported)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(100)
    assert peak(2000) < 2 * peak(200)


def write_at_once(url: str, entries: list[DecisionEntry]) -> None:
    async def record(log: DecisionLog) -> None:
        await asyncio.gather(*map(log.record, entries))

    log = DecisionLog.open(url)
    asyncio.run(record(log))
    log.close()
