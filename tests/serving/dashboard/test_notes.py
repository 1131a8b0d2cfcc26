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
"""What the collected telemetry lacks, and why, is told with the decision that rests on it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from oumi_deploy.serving.log.export import export_episodes

NAMED = {"service": "shop", "environment": "production", "version": "v2"}


class Prometheus(BaseHTTPRequestHandler):
    """Knows how many requests there are, and of no errors; or fails."""

    says: tuple[int, str] | None = None

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        start, end = float(asked["start"][0]), float(asked["end"][0])
        values = [[at, "500"] for at in (start, end)] if "increase" in asked["query"][0] else []
        series = [{"metric": {}, "values": values}] if values else []
        told: dict[str, Any] = {"data": {"resultType": "matrix", "result": series}}
        status, error = self.says or (200, "")
        told |= {"status": "error" if error else "success", "error": error}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def telemetry(tmp_path) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = tmp_path / "telemetry.toml"
    settings.write_text(f'url = "http://127.0.0.1:{server.server_port}"\n')
    yield settings
    server.shutdown()
    thread.join()
    server.server_close()


def latest(client) -> dict[str, Any]:
    return client.get("/v1/rollouts").json()["rollouts"][0]["latest"]


def test_the_metric_that_is_missing_is_named(serve, telemetry, tmp_path):
    client = serve(telemetry=telemetry)
    said = client.post("/v1/decide", json=NAMED).json()
    told = latest(client)
    lacking = [note for note in told["notes"] if "error_rate" in note]
    assert lacking
    assert all("no series" in note for note in lacking)
    assert lacking[0] in said["message"]
    assert told["message"] == said["message"]
    key = client.get("/v1/rollouts").json()["rollouts"][0]["id"]
    assert client.get(f"/v1/rollouts/{key}").json()["decisions"][-1]["notes"] == told["notes"]
    export_episodes(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "episodes.jsonl")
    row = json.loads((tmp_path / "episodes.jsonl").read_text().splitlines()[0])
    assert "notes" not in row


def test_what_is_wrong_now_is_told_while_nothing_can_be_collected(serve, telemetry, monkeypatch):
    client = serve(telemetry=telemetry)
    for error in ("disk full", "starting up", "starting up"):
        monkeypatch.setattr(Prometheus, "says", (503, error))
        said = client.post("/v1/decide", json=NAMED).json()
        assert said["reasons"][-1] == "telemetry_unavailable"
        assert error in said["message"]
        assert any(error in note for note in latest(client)["notes"])
    (line,) = client.get("/v1/rollouts").json()["rollouts"]
    assert line["n_decisions"] == 2
    # Of a thousand decisions the notes would be megabytes, and the page asks every five seconds.
    told = client.get(f"/v1/rollouts/{line['id']}")
    assert "disk full" not in told.text
    assert "starting up" in told.json()["decisions"][-1]["message"]


def test_where_nothing_is_lacking_nothing_is_noted(serve, ask):
    client = serve()
    ask(client, 0.1)
    assert latest(client)["notes"] == []
