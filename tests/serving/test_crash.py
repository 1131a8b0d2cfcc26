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
"""Killed under load, the service loses nothing that it acknowledged, and has nothing twice."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from oumi_deploy.serving.log.writer import DecisionLog

KILLS = 50
CLIENTS = 4


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Load:
    """Clients that ask and report without pause, and note what was acknowledged."""

    def __init__(self, port: int):
        self._url = f"http://127.0.0.1:{port}"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)
        ]
        self.decisions: list[str] = []
        self.outcomes: dict[str, str] = {}

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, client_number: int) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=5) as client:
            while not self._stop.is_set():
                number += 1
                name = f"{client_number}-{number // 5}"
                seen = [{"error_rate": 0.1 * (i % 3), "step": i} for i in range(number % 5 + 1)]
                body = {"service": "shop", "rollout": name, "observations": seen}
                outcome = {"service": "shop", "rollout": name, "label": "good", "source": "review"}
                try:
                    said = client.post("/v1/decide", json=body)
                    if said.status_code == 200 and said.json()["logged"]:
                        self.decisions.append(said.json()["id"])
                    if number % 5 == 0:
                        noted = client.post("/v1/outcomes", json=outcome)
                        if noted.status_code == 200:
                            self.outcomes[noted.json()["id"]] = name
                except (httpx.HTTPError, json.JSONDecodeError):
                    time.sleep(0.02)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.real
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(policy_file, tmp_path, port):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    serve = [Path(sys.executable).parent / "oumi-deploy", "serve", "--policy", policy_file]
    command = [*serve, "--log", url, "--port", str(port)]
    source = random.Random(0)
    with Load(port) as load:
        for _ in range(KILLS):
            service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while not answers(port):
                assert service.poll() is None, "the service does not start again"
                time.sleep(0.02)
            time.sleep(source.uniform(0.05, 0.6))
            service.kill()
            service.wait()
    assert len(load.decisions) > KILLS
    assert len(load.outcomes) > 10

    log = DecisionLog.open(url)
    try:
        logged, asked, cursor = set[str](), Counter[tuple[str, int]](), None
        while True:
            page, cursor = log.decisions({}, cursor, 1000)
            logged |= {row["id"] for row in page}
            # A rollout and how much of it was seen is one question here.
            asked.update((row["rollout"], row["kept"] + len(row["observations"])) for row in page)
            if cursor is None:
                break
        assert set(load.decisions) <= logged
        assert set(asked.values()) == {1}
        # The inputs of a decision can be put together, however often they were begun anew.
        newest = load.decisions[-1]
        assert all("error_rate" in row for row in log.inputs(newest))
        for outcome, name in load.outcomes.items():
            told = log.outcomes(name_of(name))
            assert [o.id for o in told].count(outcome) == 1
    finally:
        log.close()


def name_of(rollout: str):
    from oumi_deploy.serving.log.entries import RolloutName

    return RolloutName("shop", "", "", rollout)
