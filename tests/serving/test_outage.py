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
"""While the log or the telemetry is away, nothing is guessed and nothing is dropped silently."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def locked(path) -> Iterator[None]:
    """Another program holds the log's file."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_cannot_be_logged_is_a_pause(serve, ask, tmp_path, rate):
    client = serve()
    with locked(tmp_path / "log.db"):
        said = ask(client, rate)
        assert (said["decision"], said["would_be"], said["logged"]) == ("PAUSE", "PAUSE", False)
        assert said["reasons"] == ["log_unavailable"]
        assert "the decision log cannot be written" in said["message"]
        assert said["confidence"] == max(said["risk"], 1 - said["risk"])
        assert client.get("/ready").status_code == 503
        refused = client.post(
            "/v1/outcomes", json={"service": "shop", "label": "bad", "source": "review"}
        )
        assert refused.status_code == 503
        assert "oumi_deploy_unlogged_total 1.0" in client.get("/metrics").text
    assert until(lambda: client.get("/ready").status_code == 200)
    # What a caller was told was not logged does not appear afterwards.
    assert client.get("/v1/decisions").json()["decisions"] == []
    assert ask(client, rate)["logged"]


def test_with_a_spool_it_goes_on_and_writes_later(serve, ask, tmp_path):
    client = serve(spool=tmp_path / "spool.jsonl")
    with locked(tmp_path / "log.db"):
        said = ask(client, 0.5)
        assert (said["decision"], said["logged"], said["reasons"]) == ("ROLLBACK", True, [])
        assert client.get("/ready").json() == {"ready": True}
        assert client.get("/v1/state").json()["log"]["spooled"] == 1

    def logged() -> list[str]:
        return [d["id"] for d in client.get("/v1/decisions").json()["decisions"]]

    assert until(lambda: logged() == [said["id"]])
    assert client.get("/v1/state").json()["log"]["spooled"] == 0


def test_a_log_whose_file_is_deleted_is_begun_anew(serve, rows, tmp_path):
    client, seen = serve(interval=3600), rows(0.1, 0.1, 0.2)
    client.post("/v1/decide", json={"service": "shop", "observations": seen[:2]})
    for file in tmp_path.glob("log.db*"):
        file.unlink()
    said = client.post("/v1/decide", json={"service": "shop", "observations": seen}).json()
    assert (said["decision"], said["logged"]) == ("CONTINUE", True)
    assert ids_in(tmp_path / "log.db") == [said["id"]]
    assert client.get(f"/v1/decisions/{said['id']}/inputs").json() == seen


def test_a_log_whose_file_is_deleted_takes_outcomes_before_the_next_decision(serve, ask, tmp_path):
    client = serve()
    ask(client, 0.1)
    for file in tmp_path.glob("log.db*"):
        file.unlink()
    outcome = {"service": "shop", "source": "review", "label": "bad", "by": "me"}
    assert until(lambda: client.post("/v1/outcomes", json=outcome).status_code == 200)
    assert client.get("/v1/rollouts").status_code == 200


def test_a_log_whose_folder_goes_is_away_before_anybody_asks(serve, ask, tmp_path):
    (tmp_path / "disk").mkdir()
    client = serve(log=f"sqlite:///{tmp_path / 'disk' / 'log.db'}")
    ask(client, 0.1)
    (tmp_path / "disk").rename(tmp_path / "taken away")
    assert until(lambda: client.get("/ready").status_code == 503)
    (tmp_path / "taken away").rename(tmp_path / "disk")
    assert until(lambda: client.get("/ready").status_code == 200)
    ask(client, 0.1, 0.2)
    assert len(ids_in(tmp_path / "disk" / "log.db")) == 2


def test_a_log_that_is_put_back_is_written_on(serve, ask, tmp_path):
    client = serve()
    first = ask(client, 0.1, rollout="1")
    with sqlite3.connect(tmp_path / "log.db") as log, sqlite3.connect(tmp_path / "backup") as to:
        log.backup(to)
    log.close()
    to.close()
    ask(client, 0.1, rollout="2")
    shutil.move(tmp_path / "backup", tmp_path / "log.db")
    for rest in tmp_path.glob("log.db-*"):
        rest.unlink()
    third = ask(client, 0.1, rollout="3")
    assert third["logged"]
    assert ids_in(tmp_path / "log.db") == [first["id"], third["id"]]


def ids_in(path) -> list[str]:
    """What another program finds in the log."""
    with sqlite3.connect(path) as other:
        found = other.execute("SELECT id FROM decisions ORDER BY seq").fetchall()
    other.close()
    return [id for (id,) in found]


def test_telemetry_that_cannot_be_collected_is_a_pause_and_no_end(serve, tmp_path):
    settings = tmp_path / "telemetry.toml"
    # The port refuses at once. What is said of it is part of a decision's name, so that no timeout
    # on a busy machine may come between.
    settings.write_text('url = "http://127.0.0.1:9"\ntimeout = "60s"\n')
    client = serve(telemetry=settings)
    body = {"service": "shop", "environment": "production", "version": "abc", "last": True}
    answers = [client.post("/v1/decide", json=body).json() for _ in range(7)]
    for said in answers:
        assert (said["decision"], said["reasons"][-1]) == ("PAUSE", "telemetry_unavailable")
        assert said["observations"] == 1
    assert len({said["id"] for said in answers}) == 1
    assert "oumi_deploy_telemetry_failures_total 7.0" in client.get("/metrics").text
    assert "the telemetry cannot be collected" in answers[-1]["message"]


def test_a_rollout_that_began_weeks_ago_is_not_under_way(serve, tmp_path):
    settings = tmp_path / "telemetry.toml"
    settings.write_text('url = "http://127.0.0.1:9"\n')
    body = {"service": "shop", "environment": "a", "version": "b", "started_at": time.time() - 1e6}
    refused = serve(telemetry=settings).post("/v1/decide", json=body)
    assert refused.status_code == 422
    assert "more than 2,000 steps" in refused.json()["error"]


def test_a_clock_that_is_set_back_hinders_nobody(serve, ask, tmp_path, monkeypatch):
    settings = tmp_path / "telemetry.toml"
    settings.write_text('url = "http://127.0.0.1:9"\ntimeout = "1s"\n')
    client = serve(telemetry=settings)
    collected = {"service": "shop", "environment": "production", "version": "abc"}
    assert client.post("/v1/decide", json=collected).status_code == 200
    assert ask(client, 0.1)["decision"] == "CONTINUE"
    now = time.time() - 86_400
    monkeypatch.setattr("oumi_deploy.serving.engine.time.time", lambda: now)
    again = serve(telemetry=settings)  # It learns from the log when the rollout began.
    said = again.post("/v1/decide", json=collected)
    assert said.status_code == 200, said.text
    assert said.json()["reasons"][-1] == "telemetry_unavailable"
    assert ask(again, 0.1)["decision"] == "CONTINUE"
    assert ask(again, 0.1, 0.5)["decision"] == "ROLLBACK"
