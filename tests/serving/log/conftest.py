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

"""Logs on either database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName

NAME = RolloutName("pay", "production", "2.1", "7")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return request.getfixturevalue("postgresql").fresh()


def make_decision(**changes: Any) -> DecisionEntry:
    """Builds a decision on one observation."""
    values: dict[str, Any] = {
        "id": uuid4().hex,
        "name": NAME,
        "at": 1_790_000_000.0,
        "asked_by": "api",
        "policy_version": "abc",
        "base": None,
        "kept": 0,
        "observations": [{"timestamp": 1_790_000_000.0, "error_rate": 0.01, "memory_usage": None}],
        "last": False,
        "preferred": "CONTINUE",
        "decision": "CONTINUE",
        "answered": "CONTINUE",
        "propensity": 1.0,
        "explored": False,
        "shadow": False,
        "risk": 0.125,
        "confidence": 0.875,
        "q_values": {"CONTINUE": 12.5, "ROLLBACK": -50.0},
        "reasons": ["unsure"],
    }
    return DecisionEntry(**{**values, **changes})


def make_outcome(**changes: Any) -> OutcomeEntry:
    """Builds an outcome."""
    values: dict[str, Any] = {
        "id": uuid4().hex,
        "name": NAME,
        "at": 1_790_003_600.0,
        "source": "flagger",
        "label": "good",
        "by": "flagger",
        "note": "",
        "detail": {"phase": "Succeeded"},
    }
    return OutcomeEntry(**{**values, **changes})


@pytest.fixture(scope="session")
def decision() -> Callable[..., DecisionEntry]:
    return make_decision


@pytest.fixture(scope="session")
def outcome() -> Callable[..., OutcomeEntry]:
    return make_outcome
