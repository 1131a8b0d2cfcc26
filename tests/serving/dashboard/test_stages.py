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
"""Rollouts on hold, to review, going on and past: each is one of these, and all are counted."""

import asyncio
import time
from dataclasses import replace
from typing import Any, get_args
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oumi_deploy.serving.dashboard.lines import LEFT_FOR, QUIET_AFTER, rollout_line
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.overview import Wanted
from oumi_deploy.serving.log.stages import Horizons, Stage
from oumi_deploy.serving.log.writer import DecisionLog

NOW, INTERVAL = 2_000_000_000.0, 60.0
HORIZONS = Horizons(NOW - QUIET_AFTER * INTERVAL, NOW - LEFT_FOR)
AGES = (0.0, QUIET_AFTER * INTERVAL, QUIET_AFTER * INTERVAL + 1, LEFT_FOR, LEFT_FOR + 1)
WORDS = ("CONTINUE", "PAUSE", "ROLLBACK")


@st.composite
def rollouts(draw) -> tuple[list[DecisionEntry], list[OutcomeEntry]]:
    name = RolloutName(draw(st.sampled_from("ab")), "", uuid4().hex)
    made = []
    for age in sorted(draw(st.lists(st.sampled_from(AGES), min_size=1, max_size=2)), reverse=True):
        decision, shadow = draw(st.sampled_from(WORDS)), draw(st.booleans())
        answered = draw(st.sampled_from(WORDS)) if shadow else decision
        made.append(
            DecisionEntry(
                id=uuid4().hex,
                name=name,
                at=NOW - age,
                asked_by="api",
                policy_version="v",
                base=None,
                kept=0,
                observations=[],
                last=draw(st.booleans()),
                preferred=decision,
                decision=decision,
                answered=answered,
                propensity=1.0,
                explored=False,
                shadow=shadow,
                risk=0.5,
                confidence=0.5,
                q_values={},
                reasons=draw(st.sampled_from([[], ["held_for_a_person"]])),
                asks_again=draw(st.booleans()),
            )
        )
    said = st.tuples(st.sampled_from(["review", "flagger"]), st.sampled_from(["good", "bad", None]))
    told = OutcomeEntry("", name, NOW, "", None, "", "", {})
    return made, [
        replace(told, id=uuid4().hex, source=source, label=label)
        for source, label in draw(st.lists(said, max_size=2))
    ]


def write(log: DecisionLog, made: list[DecisionEntry], told: list[OutcomeEntry]) -> None:
    async def both() -> None:
        for entry in made:
            await log.record(entry)
        for entry in told:
            await log.record_outcome(entry)

    asyncio.run(both())


def stage_of(line: Any) -> str:
    if line.status == "deploying":
        return "going_on"
    is_late = NOW - line.latest.at <= LEFT_FOR
    if line.status == "rolled_back" and line.label is None and is_late:
        return "to_review"
    is_left = line.status == "undecided" and line.latest.answered == "PAUSE" and is_late
    return "on_hold" if line.status in ("paused", "for_a_person") or is_left else "past"


@given(st.lists(rollouts(), max_size=5))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_rollout_is_of_the_stage_that_its_status_says(tmp_path, logged):
    log = DecisionLog.open(f"sqlite:///{tmp_path / uuid4().hex}.db")
    try:
        for made, told in logged:
            write(log, made, told)
        everything = log.standings(Wanted(None, None, HORIZONS), None, 500).standings
        assert len(everything) == len(logged)
        for service in (None, "a"):
            lines = [rollout_line(standing, NOW, INTERVAL) for standing in everything]
            mine = [line for line in lines if service in (None, line.service)]
            for stage in get_args(Stage):
                wanted = Wanted(service, stage, HORIZONS)
                expected = [line.id for line in mine if stage_of(line) == stage]
                found, page = [], log.standings(wanted, None, 2)
                while True:
                    found += [standing.key for standing in page.standings]
                    assert page.total == (None if stage == "past" else len(expected))
                    if page.next is None:
                        break
                    page = log.standings(wanted, page.next, 2)
                assert found == expected
    finally:
        log.close()


@pytest.mark.parametrize(
    ("rate", "stage"), [(0.1, "going_on"), (None, "on_hold"), (0.9, "to_review")]
)
def test_all_rollouts_under_way_are_counted_however_many_are_shown(serve, ask, rate, stage):
    client = serve()
    for n in range(7):
        ask(client, rate, rate, rate, version=f"v{n}")
    ask(client, rate, rate, rate, service="mail")
    shown = client.get(f"/v1/rollouts?stage={stage}&limit=3").json()
    assert (len(shown["rollouts"]), shown["total"]) == (3, 8)
    of_mail = client.get(f"/v1/rollouts?stage={stage}&service=mail").json()
    assert (len(of_mail["rollouts"]), of_mail["total"]) == (1, 1)
    assert client.get("/v1/rollouts?stage=past").json() == {
        "rollouts": [],
        "next": None,
        "total": None,
    }


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, "undecided"),
        ({"last": True, "asks_again": True}, "undecided"),
        ({"last": True}, "for_a_person"),
    ],
)
def test_a_rollout_that_was_left_on_hold_is_on_hold_for_a_day(
    serve, ask, monkeypatch, told, status
):
    client = serve()
    ask(client, None, **told)

    def on_hold_after(seconds: float) -> int:
        later = time.time() + seconds
        with monkeypatch.context() as clock:
            clock.setattr("oumi_deploy.serving.dashboard.routes.time.time", lambda: later)
            lines = client.get("/v1/rollouts?stage=on_hold").json()["rollouts"]
            assert all(line["status"] == status for line in lines)
            return len(lines)

    assert on_hold_after(LEFT_FOR - 60) == 1
    assert on_hold_after(LEFT_FOR + 60) == 0
