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

"""The service says what its policy's vet came to, and how like its releases are to its training."""

import asyncio
import logging
import time
from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.evaluation.vet.vet import vetted
from oumi_deploy.serving import likeness
from oumi_deploy.serving.likeness import LikenessWatch
from oumi_deploy.serving.log.overview import Standings
from oumi_deploy.serving.log.writer import DecisionLog, LogUnavailable
from oumi_deploy.serving.policies import PolicyFile


@pytest.fixture
def watch(policy_file, tmp_path, serve, ask):
    """Logs releases and returns a watch of them: `watch(12, 0.1, 0.2)` logs twelve."""

    def start(n: int, *error_rates: float | None, interval: float = 0.0) -> LikenessWatch:
        client = serve()
        for number in range(n):
            ask(client, *error_rates, version=str(number), last=True)
        log = DecisionLog.open(f"sqlite:///{tmp_path / 'log.db'}")
        return LikenessWatch(log, PolicyFile(policy_file), interval)

    return start


def test_the_start_warns_of_a_policy_that_fails_its_vet(serve, caplog, policy, policy_file):
    with caplog.at_level(logging.WARNING):
        state = serve().get("/v1/state").json()["policy"]
    assert state["vet"]["failed"] == ["tenfold errors that stay"]
    assert state["warnings"] == ["it fails its vet: tenfold errors that stay"]
    warned = [r.getMessage() for r in caplog.records if "fails its vet" in r.getMessage()]
    assert len(warned) == 1
    assert state["version"] in warned[0]


def test_the_start_warns_of_an_old_file_and_of_nothing_else_where_all_is_well(
    serve, policy, policy_file, caplog
):
    edges = replace(policy.q_function, edges=[np.array([0.04])])
    sound, _ = vetted(replace(policy, q_function=edges))
    replace(sound, version=1).save(policy_file)
    with caplog.at_level(logging.WARNING):
        warnings = serve().get("/v1/state").json()["policy"]["warnings"]
    assert len(warnings) == 1
    assert "oumi-deploy calibrate" in warnings[0]
    assert sum("oumi-deploy calibrate" in r.getMessage() for r in caplog.records) == 1
    sound.save(policy_file)
    told = serve().get("/v1/policy").json()
    assert told["warnings"] == []
    assert told["vet"]["passes"]


def test_the_latest_releases_are_held_against_the_training(watch):
    found = watch(12, 0.1, 0.2).look()
    assert found["n"] == 12
    assert found["verdict"] == "made for releases like these"
    assert found["problem"] is None
    assert found["share_rolled_back"] == 0.0


def test_releases_without_telemetry_are_not_what_it_was_made_for(watch):
    found = watch(12, None, None).look()
    assert found["verdict"] == "train on your own first"
    assert found["missing"] == ("error_rate",)
    assert "error_rate hardly ever reported" in found["line"]


def test_a_release_under_way_is_left_for_later_and_the_number_is_bounded(watch, monkeypatch):
    assert watch(3, 0.1, interval=3600.0).look()["line"] == "no release is over yet"
    monkeypatch.setattr(likeness, "MOST", 2)
    assert watch(3, 0.1).look()["n"] == 2


def test_a_release_against_the_format_does_not_hide_the_others(watch, serve, rows):
    body = {"service": "other", "observations": [{**row, "queue": "long"} for row in rows(0.1)]}
    client = serve()
    assert client.post("/v1/decide", json=body).status_code == 200
    bad = [{"error_rate": 0.1, "latency": -1.0}]
    assert client.post("/v1/decide", json={"service": "x", "observations": bad}).is_success
    found = watch(10, 0.1).look()
    assert found["problem"] is None
    assert found["n"] >= 10


def test_a_log_that_is_away_is_a_problem_and_no_end(watch, monkeypatch):
    looking = watch(1, 0.1)

    def standings(*_: object) -> Standings:
        raise LogUnavailable("the log is away")

    monkeypatch.setattr(DecisionLog, "standings", standings)
    assert looking.look()["problem"] == "the log is away"


def test_it_looks_once_and_again_where_the_policy_is_another(watch, policy, policy_file):
    looking, looks = watch(1, 0.1), []
    look = looking.look
    looking.look = lambda: looks.append(1) or look()

    async def go() -> None:
        await looking.refresh()
        await looking.refresh()
        assert len(looks) == 1
        replace(policy, discount=0.5).save(policy_file)
        assert looking._policies.refresh()
        await looking.refresh()

    asyncio.run(go())
    assert len(looks) == 2
    assert looking.state is not None
    assert looking.state["version"] == looking._policies.current.version


def test_a_running_service_tells_it_by_itself(serve, ask, monkeypatch):
    monkeypatch.setattr("oumi_deploy.serving.app.LOOK_AGAIN", 0.05)
    client = serve()
    ask(client, 0.1)
    end = time.monotonic() + 10.0
    while client.get("/v1/state").json()["likeness"] is None and time.monotonic() < end:
        time.sleep(0.02)
    state, told = (client.get(path).json()["likeness"] for path in ("/v1/state", "/v1/policy"))
    assert state == told
    assert state["line"] == "no release is over yet"
