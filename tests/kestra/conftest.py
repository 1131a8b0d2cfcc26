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
"""The recipe's flows, as they stand and as somebody sets them up."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FLOWS = Path(__file__).parents[2] / "recipes" / "kestra"
ASK, REPORT = "asking-0123456789abcdef", "reporting-0123456789abcdef"
"""Tokens of the service that the tests start."""


@pytest.fixture(scope="session")
def tokens() -> dict[str, str]:
    return {"ask": ASK, "report": REPORT}


def each_task(node: Any) -> Iterator[dict[str, Any]]:
    """Goes through all tasks of a flow, however deep: what has an id and a type among them."""
    if isinstance(node, list):
        for item in node:
            yield from each_task(item)
    elif isinstance(node, dict):
        if str(node.get("type", "")).startswith("io.kestra.plugin") and "id" in node:
            yield node
        for value in node.values():
            yield from each_task(value)


def in_a_hurry(flow: dict[str, Any]) -> dict[str, Any]:
    """Returns a flow whose waits are short, so that its end can be waited for."""
    for task in each_task(flow["tasks"]):
        if "checkFrequency" in task:
            task["checkFrequency"] |= {"interval": "PT1S", "maxIterations": 3}
        if "retry" in task:
            task["retry"] |= {"interval": "PT0.2S", "maxInterval": "PT0.5S", "maxAttempts": 2}
            task["timeout"] = "PT5S"
            task["options"]["timeout"] = {"connectTimeout": "PT1S", "readIdleTimeout": "PT2S"}
    return flow


@pytest.fixture(scope="session")
def recipe() -> Callable[[str], dict[str, Any]]:
    """Reads a flow of the recipe as it stands: `recipe("ask")`."""
    return lambda name: yaml.safe_load((FLOWS / f"{name}.yaml").read_text())


@pytest.fixture(scope="session")
def tasks() -> Callable[[Any], Iterator[dict[str, Any]]]:
    return each_task


@pytest.fixture(scope="session")
def set_up() -> Callable[..., dict[str, Any]]:
    """Reads a flow with what a person puts in, and in a hurry: `set_up("ask", url)`."""

    def read(name: str, url: str, ask: str = ASK) -> dict[str, Any]:
        source = (FLOWS / f"{name}.yaml").read_text()
        source = source.replace("http://PUT-THE-SERVICE-HERE:8377", url)
        source = source.replace("PUT-THE-TOKEN-THAT-MAY-ASK-HERE", ask)
        source = source.replace("PUT-THE-TOKEN-THAT-MAY-REPORT-HERE", REPORT)
        return in_a_hurry(yaml.safe_load(source))

    return read
