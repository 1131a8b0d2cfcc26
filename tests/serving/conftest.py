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
"""A service with a policy small enough to know by heart."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from oumi_deploy import DeploymentPolicy
from oumi_deploy.serving.app import create_app
from oumi_deploy.serving.settings import ServiceSettings


@pytest.fixture(scope="session")
def policy(error_policy) -> DeploymentPolicy:
    return error_policy


@pytest.fixture
def policy_file(policy, tmp_path) -> Path:
    path = tmp_path / "policy.json"
    policy.save(path)
    return path


@pytest.fixture
def serve(policy_file, tmp_path) -> Iterator[Callable[..., TestClient]]:
    """Starts a service within this process: `serve(shadow=True)` returns a client of it."""
    with ExitStack() as running:

        def start(**settings: Any) -> TestClient:
            base = ServiceSettings(policy=policy_file, log=f"sqlite:///{tmp_path / 'log.db'}")
            app = create_app(replace(base, **settings))
            return running.enter_context(TestClient(app))

        yield start


def observations(*error_rates: float | None, age: float = 0.0) -> list[dict[str, Any]]:
    """Returns one canary observation a minute, the newest `age` seconds old."""
    newest = time.time() - age
    n = len(error_rates)
    return [
        {"timestamp": newest - 60.0 * (n - 1 - i), "error_rate": rate, "requests": 500}
        for i, rate in enumerate(error_rates)
    ]


@pytest.fixture
def rows() -> Callable[..., list[dict[str, Any]]]:
    return observations


@pytest.fixture
def ask(rows) -> Callable[..., dict[str, Any]]:
    """Asks about a rollout: `ask(client, 0.1, 0.5)` returns the answer."""

    def one(client: TestClient, *error_rates: float | None, **more: Any) -> dict[str, Any]:
        body = {"service": "shop", "observations": rows(*error_rates), **more}
        response = client.post("/v1/decide", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    return one
