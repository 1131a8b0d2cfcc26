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
"""Telemetry at will, the recipes, and an API server's strictness."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.sources import Found, SourceAway

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / ".." / "shared" / "schemas"

Rows = Callable[..., list[dict[str, Any]]]


@dataclass
class Given:
    """Telemetry as a test wants it.

    Attributes:
        rows: The rollout's observations.
        is_away: Whether it cannot be reached.
        asked: What was asked for: the rollout and its start.
        columns: What it asks for.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    is_away: bool = False
    asked: list[tuple[RolloutName, float]] = field(default_factory=list)
    columns: tuple[str, ...] = ("error_rate",)

    async def observations(self, name: RolloutName, started_at: float, now: float) -> Found:
        self.asked.append((name, started_at))
        if self.is_away:
            raise SourceAway("Prometheus does not answer")
        return Found(list(self.rows), {}, reported=True)

    async def close(self) -> None:
        """Holds no connections."""


@pytest.fixture
def telemetry(monkeypatch, rows: Rows) -> Given:
    """Takes the place of Prometheus in every service that the test starts: CONTINUE at first."""
    given = Given(rows(0.01, 0.01))
    monkeypatch.setattr("oumi_deploy.serving.app._source", lambda settings: given)
    return given


@pytest.fixture
def see(telemetry: Given, rows: Rows) -> Callable[[str], None]:
    """Has the telemetry show what the policy answers with a word."""
    known = {
        "CONTINUE": rows(0.01, 0.01),
        "PAUSE": [*rows(0.01), {**rows(0.01)[0], "requests": 3}],
        "ROLLBACK": rows(0.01, 0.6),
    }

    def show(decision: str) -> None:
        telemetry.rows = known[decision]

    return show


@pytest.fixture
def recipe() -> Callable[[str], Any]:
    """Reads a manifest under recipes: `recipe("flagger/canary.yaml")`."""
    return lambda path: yaml.safe_load((ROOT / "recipes" / path).read_text())


@pytest.fixture
def check_manifest() -> Callable[[dict[str, Any], str], None]:
    """Validates a manifest as an API server would: `check_manifest(it, "flagger-crd.yaml")`."""

    def check(manifest: dict[str, Any], crd_file: str) -> None:
        path = SCHEMAS / crd_file
        if not path.exists():
            pytest.skip("the schemas are not at hand, see shared/schemas")
        group, version = manifest["apiVersion"].split("/")
        schema = next(
            served["schema"]["openAPIV3Schema"]
            for crd in yaml.safe_load_all(path.read_text())
            if crd
            and (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, manifest["kind"])
            for served in crd["spec"]["versions"]
            if served["name"] == version
        )
        jsonschema.validate(manifest, strict(schema))

    return check


def strict(schema: Any) -> Any:
    """Returns a Kubernetes schema with what an API server reads into it written out."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        plain.pop("type", None)
    if schema.get("nullable") and "type" in plain:
        plain["type"] = [plain["type"], "null"]
    lists_properties = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    if lists_properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        plain.setdefault("additionalProperties", False)
    return plain
