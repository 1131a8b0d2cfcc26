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

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

HOUR = Path(__file__).parents[2] / "recipes" / "hour"


@pytest.fixture(scope="module")
def module() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the recipe, whose files are a script's and no package's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HOUR))
        yield import_module


@pytest.fixture
def policy(tmp_path) -> Path:
    """A policy that rolls back whatever reports an error rate, and holds what reports none."""
    path, one = tmp_path / "policy.json", np.ones(1)
    known, missing = [-150.0, 80.0], [20.0, -30.0]
    DeploymentPolicy(
        StateEncoder(parse_state(["error_rate"]), 0 * one, one, 0 * one, one),
        TableQ([np.array([2.0])], np.array([known, known, missing]), np.ones((3, 2))),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
        calibration=Calibration(0.0, 1.0),
    ).save(path)
    return path


@pytest.fixture
def command(policy) -> list[str]:
    return [sys.executable, str(HOUR / "hour.py"), "--policy", str(policy), "--no-learning"]


needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: apt install prometheus)",
)


@pytest.mark.real
@needs_prometheus
def test_what_the_platform_does_reaches_the_policy_and_what_it_says_is_done(command, tmp_path):
    kept = tmp_path / "kept"
    command += [
        "--services",
        "3",
        "--minutes",
        "24",
        "--seed",
        "4",
        "--folder",
        str(kept),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["unanswered"] == 0
    over_all = {kind: result[kind][-1] for kind in ("bad", "good") if result[kind]}
    assert over_all
    for kind, stopped in (("bad", "caught"), ("good", "rolled back")):
        if kind in over_all:
            assert over_all[kind]["policy"][stopped] == over_all[kind]["releases"]
    assert (kept / "episodes.parquet").is_file()


@pytest.mark.real
@needs_prometheus
def test_whoever_ends_the_script_ends_what_it_started(command):
    script = subprocess.Popen([*command, "--services", "1"], stderr=subprocess.PIPE, text=True)
    try:
        assert script.stderr is not None
        addresses = [word for word in script.stderr.readline().split() if "://" in word]
        assert len(addresses) == 2
        for address in addresses:
            assert httpx.get(address, follow_redirects=True).status_code < 500
        script.send_signal(signal.SIGTERM)
        assert script.wait(30) == 130
    finally:
        script.kill()
        script.wait()
    for address in addresses:
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        (["--services", "11"], "--services 11"),
        (["--minute", "3"], "--minute 3"),
        (["--policy", "nowhere.json"], "README"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(module, monkeypatch, capsys, command, given_, told):
    monkeypatch.setattr(sys, "argv", [*command[1:], *given_])
    assert module("hour").main() == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


def test_the_night_reads_what_the_policy_was_trained_on_and_takes_its_state_from_the_model():
    def read(name: str) -> dict:
        return yaml.safe_load((HOUR / name).read_text(encoding="utf-8"))

    day, night = read("train.yaml"), read("night.yaml")
    # Every metric is named once, in the state of the day's policy.
    assert day["training"]["trainer_kwargs"]["state"]
    assert "state" not in night["training"]["trainer_kwargs"]
    for config in (day, night):
        for dataset in config["data"]["train"]["datasets"]:
            assert "metrics" not in dataset.get("dataset_kwargs", {})


def test_a_seed_names_an_hour(module):
    def hour(seed: int) -> list:
        rng = np.random.default_rng(seed)
        services = module("services").draw_services(10, rng)
        drawn = module("releases").draw_releases(services, 60, rng)
        return [
            (release.service, release.fault, release.planned, release.new.errors.tolist())
            for releases in drawn.values()
            for release in releases
        ]

    assert hour(3) == hour(3)
    assert hour(3) != hour(4)


def test_a_fault_shows_from_its_onset_on(module):
    rng = np.random.default_rng(0)
    services = module("services").draw_services(10, rng)
    drawn = module("releases").draw_releases(services, 60, rng)
    bad = [r for releases in drawn.values() for r in releases if r.fault is not None]
    assert bad
    for release in bad:
        assert 0 <= release.onset < release.planned
    spikes = [r for r in bad if r.fault == "error_spike" and r.disturbance is None and r.onset]
    for release in spikes:
        errors = release.new.errors
        assert errors[release.onset :].min() > np.median(errors[: release.onset])


@pytest.fixture(scope="module")
def release(module):
    """A good release, planned for ten minutes, that would not fail in one of them."""
    releases, quiet = module("releases"), np.zeros(60)
    service = module("services").draw_services(1, np.random.default_rng(0))[0]
    signals = releases.Signals(*(quiet for _ in fields(releases.Signals)))
    never = quiet > 0
    return releases.Release(
        service, "v2", 10, 7, None, None, None, False, signals, signals, never, never
    )


class Platform:
    """Clock and cluster of a rollout that waits for nothing, and what became of its versions."""

    def __init__(self) -> None:
        self.minute, self.done = 0.0, []

    def now(self) -> float:
        return self.minute

    def at(self, minute: float) -> float:
        return 60.0 * minute

    async def sleep_until(self, minute: float) -> None:
        self.minute = max(self.minute, minute)

    def begin(self, release, share: float) -> None:
        """A canary begins."""

    def shift(self, name: str, share: float) -> None:
        self.done.append("shifted")

    def minutes_dragged(self, name: str) -> float:
        return 0.0

    def promote(self, name: str) -> None:
        self.done.append("promoted")

    def take_back(self, name: str) -> None:
        self.done.append("taken back")


@pytest.mark.parametrize(("fault", "ends"), [(None, "promoted"), ("error_spike", "taken back")])
def test_what_the_policy_holds_for_a_person_is_decided_by_one(module, release, fault, ends):
    """The service would hold it for ever: it never promotes itself, and nobody else ends it."""
    rollouts, results, told = module("rollouts"), module("results"), []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"decision": "PAUSE", "reasons": ["held_for_a_person"]})

    async def roll_out():
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            tools = rollouts.Tools(platform, platform, client, lambda line: None)
            return await rollouts.roll_out(replace(release, fault=fault), tools)

    platform = Platform()
    run = asyncio.run(roll_out())
    assert (run.by_person, run.rolled_back) == (True, False)
    assert platform.done == [ends], "no traffic is raised before"
    reviews = [o["label"] for path, o in told if path == "/v1/outcomes" and o["source"] == "review"]
    assert reviews == ["good" if fault is None else "bad"]
    (over_all,) = results.tables([results.Judged(run, None)])["bad" if fault else "good"][-1:]
    assert over_all["policy"]["for a person"] == 1
    assert over_all["policy"].get("missed", 0) == 0


@given(st.lists(st.floats(0, 0.2) | st.just(float("nan")), max_size=10))
def test_the_rule_stops_at_the_first_minute_that_was_too_high_twice_running(module, release, seen):
    rule = module("rule")
    stopped = rule.rolls_back_after(release, seen)
    high = [rate > rule.THRESHOLD for rate in seen]
    pairs = [at + 2 for at in range(len(high) - 1) if high[at] and high[at + 1]]
    assert stopped == (pairs[0] if pairs else None)


def test_counters_never_fall_and_failures_are_a_share_of_requests(module):
    rng = np.random.default_rng(0)
    version = module("versions").Version("cart", "v2")
    before = 0
    for _ in range(50):
        version.serve(1000, 0.25, rng)
        now = int(version.succeeded.sum() + version.failed.sum())
        assert now > before
        before = now
    assert version.failed.sum() / before == pytest.approx(0.25, abs=0.02)
