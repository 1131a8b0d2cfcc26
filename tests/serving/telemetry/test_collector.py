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

"""From the answers of Prometheus to the observations of a rollout."""

import asyncio
import math

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.episodes.schema import number_column
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.observation import read_number
from oumi_deploy.serving.telemetry.prometheus import TelemetryUnavailable
from oumi_deploy.serving.telemetry.queries import Selector
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

BEGIN = 1_700_000_000.0
NEW = Selector('v="new"', 'v="new"')
OLD = Selector('v="old"', 'v="old"')


def settings_of(*metrics, **changes) -> TelemetrySettings:
    """Returns settings whose queries hold their metric's name and that of the version."""
    queries = {metric: f"sum({metric}{{{{traffic}}}})" for metric in metrics}
    defaults = {"settle": 0, "baseline": 120, "queries": queries, "canary": NEW, "stable": OLD}
    return TelemetrySettings(url="http://prometheus.example", **(defaults | changes))


def series(*values, first=BEGIN + 60.0):
    """Returns one series with a value a minute; a value of None has no point."""
    points = [[first + 60 * k, str(v)] for k, v in enumerate(values) if v is not None]
    return [{"metric": {}, "values": points}]


@pytest.fixture
def run(fake, collecting, release):
    def run(answers, settings, *, minutes=3.0, started_at=BEGIN):
        server = fake(answers)
        now = started_at + 60 * minutes
        return collecting(settings, release("shop"), started_at, now, server.transport)

    return run


def columns(result, name, phase="canary"):
    return [row.get(name) for row in result.observations if row["phase"] == phase]


def test_the_old_version_is_baseline_before_the_start_and_control_after_it(run):
    answers = {
        'error_rate{v="new"}': series(0.1, 0.2, 0.3),
        'error_rate{v="old"}': series(0.01, 0.02, 0.03, 0.04, 0.05, first=BEGIN - 60),
    }
    result = run(answers, settings_of("error_rate"))
    assert result.observations == [
        {"timestamp": BEGIN - 60, "phase": "baseline", "error_rate": 0.01},
        {"timestamp": BEGIN, "phase": "baseline", "error_rate": 0.02},
        *(
            {
                "timestamp": BEGIN + 60 * k,
                "phase": "canary",
                "error_rate": k / 10,
                "control_error_rate": (k + 2) / 100,
            }
            for k in (1, 2, 3)
        ),
    ]
    assert result.coverage == {
        "error_rate.baseline": 1,
        "error_rate": 1,
        "control_error_rate": 1,
    }
    assert result.newest_at == BEGIN + 180


@pytest.mark.parametrize(("minutes", "settle", "rows"), [(2.99, 0, 2), (3, 0, 3), (3, 5, 2)])
def test_only_steps_that_are_over_are_told(run, minutes, settle, rows):
    answers = {"error_rate": series(*[0.1] * 5)}
    result = run(answers, settings_of("error_rate", settle=settle), minutes=minutes)
    assert columns(result, "error_rate") == [0.1] * rows


@pytest.mark.parametrize(("minutes", "rows"), [(0.5, 2), (0, 2), (-0.5, 1), (-2, 0)])
def test_before_the_first_step_is_over_there_is_what_there_is_of_the_baseline(run, minutes, rows):
    answers = {'v="old"': series(0.1, 0.1, first=BEGIN - 60)}
    result = run(answers, settings_of("error_rate"), minutes=minutes)
    assert columns(result, "error_rate", "baseline") == [0.1] * rows
    assert columns(result, "error_rate") == []
    assert result.newest_at is None


cells = st.none() | st.sampled_from(["NaN", "+Inf", "-Inf"]) | st.floats(width=64).map(repr)
names = st.sampled_from(["error_rate", "latency", "memory_usage", "n_pods", "queue"])


@given(name=names, new=st.lists(cells, max_size=8), old=st.lists(cells, max_size=8))
def test_a_value_is_the_measured_one_within_the_format_and_missing_else(
    fake, collecting, release, name, new, old
):
    answers = {f'{name}{{v="new"}}': series(*new), f'{name}{{v="old"}}': series(*old)}
    server, settings = fake(answers), settings_of(name, baseline=0)
    result = collecting(settings, release("shop"), BEGIN, BEGIN + 60 * 8, server.transport)
    rule = number_column(name)
    asked = {name: new, **({} if name == "n_pods" else {"control_" + name: old})}
    outside = 0
    for k, row in enumerate(result.observations):
        for column, told in asked.items():
            value = float(told[k]) if k < len(told) and told[k] is not None else math.nan
            if not math.isfinite(value):
                assert row[column] is None
                continue
            assert row[column] == min(max(value, rule.low), rule.high)
            assert read_number(row, column, k) == row[column]
            outside += row[column] != value
    assert len(result.observations) == 8
    assert sum(result.clipped.values()) == outside


def test_what_was_clipped_is_counted_by_column(run):
    answers = {
        'error_rate{v="new"}': series(1.5, 0.5, -0.1),
        'error_rate{v="old"}': series(7, 0.5, 0.5),
    }
    result = run(answers, settings_of("error_rate"))
    assert columns(result, "error_rate") == [1, 0.5, 0]
    assert columns(result, "control_error_rate") == [1, 0.5, 0.5]
    assert result.clipped == {"error_rate": 2, "control_error_rate": 1}


def test_too_few_requests_leave_out_what_is_told_of_requests_and_nothing_else(run):
    answers = {
        'error_rate{v="new"}': series(0.5, 0.5, 0.5),
        'requests{v="new"}': series(4, 5, None),
        'memory_usage{v="new"}': series(0.5, 0.5, 0.5),
        'error_rate{v="old"}': series(0.1, 0.1, 0.1),
        'requests{v="old"}': series(90, 90, 1),
    }
    settings = settings_of("error_rate", "requests", "memory_usage", min_requests=5)
    result = run(answers, settings)
    assert columns(result, "error_rate") == [None, 0.5, 0.5]
    assert columns(result, "control_error_rate") == [0.1, 0.1, None]
    assert columns(result, "memory_usage") == [0.5, 0.5, 0.5]
    assert columns(result, "requests") == [4, 5, None]
    assert [note for note in result.notes if "fewer than 5 requests" in note] == [
        "error_rate of the new version: left out in 1 steps with fewer than 5 requests",
        "error_rate of the old version: left out in 1 steps with fewer than 5 requests",
    ]


def test_coverage_is_the_share_of_steps_with_a_value(run):
    answers = {'v="new"': series(0.1, None, None, "NaN")}
    result = run(answers, settings_of("error_rate"), minutes=4)
    assert result.coverage == {
        "error_rate.baseline": 0,
        "error_rate": 0.25,
        "control_error_rate": 0,
    }
    assert result.newest_at == BEGIN + 60


def test_traffic_alone_is_no_news_of_the_release(run):
    answers = {"n_pods": series(1, 1, 1), "error_rate": series(0.1)}
    assert run(answers, settings_of("error_rate", "n_pods")).newest_at == BEGIN + 60


def test_a_server_that_moves_points_to_round_times_is_followed(run):
    # The start is not a whole minute, the points are: each lies within one step.
    answers = {'v="new"': series(0.1, 0.2, 0.3, first=BEGIN + 40)}
    result = run(answers, settings_of("error_rate"), started_at=BEGIN + 13.5)
    assert columns(result, "error_rate") == [0.1, 0.2, 0.3]


def test_queries_run_at_the_same_time(collecting, release):
    class Counting(httpx.AsyncBaseTransport):
        under_way = most = 0

        async def handle_async_request(self, request):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0.1)
            self.under_way -= 1
            return httpx.Response(200, json={"status": "success", "data": {"result": []}})

    transport = Counting()
    settings = settings_of("error_rate", "latency", "queue")
    collecting(settings, release("shop"), BEGIN, BEGIN + 180, transport)
    assert transport.most == 6


def test_one_failure_is_told_as_it_is(collecting, release):
    def answer(request):
        if b"latency" in request.content:
            raise httpx.ConnectError("no route")
        return httpx.Response(200, json={"status": "success", "data": {"result": []}})

    settings = settings_of("error_rate", "latency")
    with pytest.raises(TelemetryUnavailable, match=r"latency of .* version: .*no route"):
        collecting(settings, release("shop"), BEGIN, BEGIN + 180, httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "started_at", [math.nan, math.inf, -1, 0, BEGIN * 1000, BEGIN - 50_001 * 60]
)
def test_a_start_that_is_none_is_refused_before_anything_is_asked(
    fake, collecting, release, started_at
):
    server = fake({})
    with pytest.raises(DeployError, match="started_at"):
        collecting(settings_of("m"), release("shop"), started_at, BEGIN, server.transport)
    assert not server.asked


@pytest.mark.parametrize("missing", ["service", "environment", "version"])
def test_a_release_must_be_named_in_full(fake, collecting, release, missing):
    settings, server = TelemetrySettings(url="http://prometheus.example"), fake({})
    name = release(**{"service": "shop", "environment": "prod", "version": "v2", missing: ""})
    with pytest.raises(DeployError, match="is empty"):
        collecting(settings, name, BEGIN, BEGIN + 180, server.transport)
    assert not server.asked
