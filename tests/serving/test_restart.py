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

"""A service that is started again goes on where the one before stopped."""

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.app import create_app
from oumi_deploy.serving.log.entries import LogUnavailable
from oumi_deploy.serving.log.writer import DecisionLog
from oumi_deploy.serving.settings import ServiceSettings


@pytest.fixture
def once(policy_file, tmp_path):
    """Starts a service on the log of the one before, and stops it."""

    @contextmanager
    def one(**settings):
        base = ServiceSettings(policy=policy_file, log=f"sqlite:///{tmp_path / 'log.db'}")
        with TestClient(create_app(replace(base, **settings))) as client:
            yield client

    return one


@pytest.fixture
def decide(rows):
    def one(client, service, rate, control, n, **more):
        minutes = [{**row, "control_error_rate": control} for row in rows(*[rate] * n)]
        body = {"service": service, "version": "2", "observations": minutes, **more}
        response = client.post("/v1/decide", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    return one


@pytest.fixture
def culprit(decide):
    return lambda client, n=3: decide(client, "catalogue", 0.9, 0.0, n)


@pytest.fixture
def dragged(decide):
    return lambda client, n=2, **more: decide(client, "checkout", 0.6, 0.6, n, **more)


def test_a_release_that_went_back_before_a_restart_is_waited_for_after_it(once, culprit, dragged):
    with once() as client:
        assert culprit(client)["decision"] == "ROLLBACK"
    with once() as client:
        said = dragged(client)
    assert (said["decision"], said["reasons"]) == ("PAUSE", ["held_for_culprit"])
    assert "catalogue 2" in said["message"]
    assert "was told to go back" in said["suspects"][0]["sentence"]


def test_a_wait_is_not_begun_anew_by_a_restart(once, culprit, dragged):
    said = []
    with once(hold_limit=3) as client:
        culprit(client)
        said.append(dragged(client, 2)["decision"])
    for n in (3, 4, 5, 6):
        with once(hold_limit=3) as client:
            said.append(dragged(client, n)["decision"])
    assert said == ["PAUSE"] * 3 + ["ROLLBACK"] * 2


def test_who_went_back_before_a_restart_does_not_wait_after_it(once, culprit, dragged):
    with once() as client:
        assert dragged(client)["decision"] == "ROLLBACK"
    with once() as client:
        culprit(client)
        assert dragged(client, 3)["decision"] == "ROLLBACK"


def test_what_was_told_too_long_ago_is_not_taken_up(once, culprit, dragged, monkeypatch):
    with once(hold_limit=1) as client:
        culprit(client)
    later = time.time() + 1000.0
    monkeypatch.setattr("time.time", lambda: later)
    with once(hold_limit=1) as client:
        assert dragged(client)["decision"] == "ROLLBACK"


def test_a_log_that_is_away_at_the_start_is_taken_up_when_it_is_back(
    once, culprit, dragged, monkeypatch
):
    state = DecisionLog.state
    with once() as client:
        culprit(client)
    monkeypatch.setattr(DecisionLog, "state", lambda log: {**state(log), "writable": False})
    with once() as client:
        assert dragged(client, version="3")["decision"] == "ROLLBACK"
        monkeypatch.undo()
        assert dragged(client)["reasons"] == ["held_for_culprit"]


@pytest.fixture
def started_away(once):
    """Starts a service whose log is away, asks something, and has the log come back."""

    async def refuse(*_):
        raise LogUnavailable("away")

    @contextmanager
    def one(*questions, **settings):
        state = DecisionLog.state
        with ExitStack() as running:
            with pytest.MonkeyPatch.context() as patched:
                away = {"writable": False}
                patched.setattr(DecisionLog, "state", lambda log: {**state(log), **away})
                patched.setattr(DecisionLog, "record", refuse)
                client = running.enter_context(once(**settings))
                for question in questions:
                    assert not question(client)["logged"]
            yield client

    return one


def test_a_wait_is_not_begun_anew_while_the_log_is_away(once, started_away, culprit, dragged):
    with once(hold_limit=3) as client:
        culprit(client)
        assert dragged(client, 2)["decision"] == "PAUSE"
    with started_away(lambda client: dragged(client, 4), hold_limit=3) as client:
        assert dragged(client, 5)["reasons"] == ["held_too_long"]


def test_who_went_back_before_does_not_wait_after_a_start_without_its_log(
    once, started_away, culprit, dragged
):
    with once() as client:
        assert dragged(client)["decision"] == "ROLLBACK"
    with started_away(lambda client: dragged(client, 3)) as client:
        culprit(client)
        assert dragged(client, 4)["decision"] == "ROLLBACK"


def test_who_looked_well_while_the_log_was_away_waits_anew(
    once, started_away, culprit, decide, dragged
):
    def well(client):
        said = decide(client, "checkout", 0.0, 0.0, 9)
        assert said["risk"] < 0.5
        return said

    with once(hold_limit=3) as client:
        culprit(client)
        assert dragged(client, 2)["decision"] == "PAUSE"
    with started_away(well, lambda client: dragged(client, 4), hold_limit=3) as client:
        assert dragged(client, 5)["reasons"] == ["held_for_culprit"]


def test_while_the_log_cannot_be_read_decisions_wait_for_the_first_try_only(
    once, culprit, dragged, decide, until, monkeypatch
):
    since, n_tries, may_end = DecisionLog.since, [], threading.Event()

    def stuck(*_):
        n_tries.append(1)
        if len(n_tries) > 1:
            may_end.wait(20)
        raise LogUnavailable("canceling statement due to statement timeout")

    with once() as client:
        culprit(client)
    monkeypatch.setattr(DecisionLog, "since", stuck)
    monkeypatch.setattr("oumi_deploy.serving.recall.TRY_AGAIN", 0.5)
    with once() as client:
        for n in range(5):
            assert decide(client, f"s{n}", 0.0, 0.0, 2)["logged"]
        assert len(n_tries) == 1, "another one only after a while"
        time.sleep(0.5)
        for n in range(5):
            assert decide(client, f"s{n}", 0.0, 0.0, 3)["logged"]
        assert len(n_tries) == 2
        monkeypatch.setattr(DecisionLog, "since", since)
        may_end.set()
        held = ["held_for_culprit"]
        until(lambda: dragged(client, version=uuid4().hex)["reasons"] == held)


def test_a_log_that_cannot_be_read_does_not_keep_the_service_from_starting(
    once, culprit, dragged, monkeypatch
):
    def torn(*_):
        raise ValueError("no JSON")

    monkeypatch.setattr(DecisionLog, "since", torn)
    with once() as client:
        assert culprit(client)["decision"] == "ROLLBACK"
        assert dragged(client)["decision"] == "PAUSE"


def test_what_the_log_cannot_piece_together_is_left_out(once, culprit, dragged, monkeypatch):
    def broken(*_):
        raise DeployError("no such decision")

    with once() as client:
        culprit(client)
        for n in (2, 3):
            dragged(client, n)
    monkeypatch.setattr("oumi_deploy.serving.recall.continue_inputs", broken)
    with once() as client:
        assert dragged(client, 4)["decision"] == "PAUSE"
