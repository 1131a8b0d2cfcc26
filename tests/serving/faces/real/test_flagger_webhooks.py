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
"""Flagger's own webhook call asks a running service, by the recipe's Canary."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

pytestmark = pytest.mark.real

CANARY = Path(__file__).parents[4] / "recipes" / "flagger" / "canary.yaml"
DECISIONS = {"well": "CONTINUE", "quiet": "PAUSE", "bad": "ROLLBACK"}
PASSES = {
    "pre-rollout": ("well", "quiet"),
    "rollout": ("well", "quiet"),
    "confirm-traffic-increase": ("well",),
    "confirm-promotion": ("well",),
    "rollback": ("bad",),
    "confirm-rollout": ("well", "quiet", "bad"),
}


@pytest.fixture(scope="module")
def call(go_program) -> Callable[..., str]:
    """Has Flagger call a hook of the recipe, at our address: its error, empty for success."""
    run = go_program("flagger_hook")
    canary = yaml.safe_load(CANARY.read_text())
    hooks = {
        hook["type"]: hook
        for hook in canary["spec"]["analysis"]["webhooks"]
        if "/v1/flagger/" in hook["url"]
    }

    def one(service, hook: str, name: str = "well", phase: str = "Progressing") -> str:
        webhook = hooks.get(hook, {"name": hook, "type": hook, "url": f"/v1/flagger/{hook}"})
        # At once, without the seconds that Flagger waits before it tries again.
        moved = {**webhook, "url": _moved(webhook["url"], hook, service), "retries": 0}
        named = {**canary, "metadata": {"name": name, "namespace": "test"}}
        return run({"canary": named, "webhook": moved, "phase": phase, "spec": "6b5"})["error"]

    return one


def _moved(url: str, hook: str, service) -> str:
    """Returns a hook's URL at a service's address, with the token that the hook needs."""
    host = urlsplit(service.url).netloc
    token = service.report if hook in ("post-rollout", "event") else service.ask
    return f"http://flagger:{token}@{host}{urlsplit(url).path}"


@pytest.fixture(scope="module")
def under_way(service, call):
    """The service once it has seen a step of every rollout: the first question begins it."""
    for name in DECISIONS:
        assert call(service, "rollback", name), "nothing is known at first"
    time.sleep(2.5)
    return service


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("hook", PASSES)
def test_flagger_takes_each_hook_as_it_is_meant(under_way, call, hook, name):
    error = call(under_way, hook, name)
    if name in PASSES[hook]:
        assert not error
    else:
        assert error.startswith(DECISIONS[name]), "Flagger shows the text in its event"


@pytest.mark.parametrize("hook", [*PASSES, "post-rollout", "event"])
def test_a_service_that_is_down_answers_no_hook(call, hook, down_url, service):
    assert "refused" in call(replace(service, url=down_url), hook)


def outcomes_of(service, name: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {service.ask}"}
    asked = {"service": name, "environment": "test"}
    found = httpx.get(f"{service.url}/v1/decisions", params=asked, headers=headers).json()
    rollout = found["decisions"][0]["rollout"]
    assert rollout, "Flagger's checksum"
    given = httpx.get(
        f"{service.url}/v1/outcomes", params={**asked, "rollout": rollout}, headers=headers
    )
    return given.json()


@pytest.mark.parametrize(
    ("name", "phase", "label"),
    [("well", "Succeeded", "good"), ("quiet", "Failed", "bad"), ("bad", "Failed", None)],
)
def test_the_end_of_a_rollout_labels_the_release(under_way, call, name, phase, label):
    assert not call(under_way, "rollback" if name == "bad" else "rollout", name)
    assert not call(under_way, "post-rollout", name, phase)
    assert not call(under_way, "event", name, phase)
    told = {o["detail"]["hook"]: o["label"] for o in outcomes_of(under_way, name)}
    assert told == {"post-rollout": label, "event": None}
