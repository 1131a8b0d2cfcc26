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

"""Telemetry collected from a Prometheus server with a history in which known things happened."""

import math
import re

import pytest

from oumi_deploy.episodes.packed import read_episodes
from oumi_deploy.episodes.table import read_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.observation import read_number
from oumi_deploy.serving.telemetry.history import write_history
from oumi_deploy.serving.telemetry.queries import Selector
from oumi_deploy.serving.telemetry.releases import PastRelease
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

pytestmark = pytest.mark.real

TWENTY_MINUTES = 1200


@pytest.fixture
def collected(prometheus_url, collecting, release, start):
    def run(service, *, started_at=start, now=start + TWENTY_MINUTES - 60, **changes):
        settings = TelemetrySettings(url=prometheus_url, settle=0, **changes)
        return collecting(settings, release(service), started_at, now)

    return run


def rows_of(collected, phase="canary"):
    return [row for row in collected.observations if row["phase"] == phase]


def at_minutes(collected, start, name):
    """Returns a column by the minute of the rollout at whose end it was measured."""
    return {(row["timestamp"] - start) / 60: row[name] for row in rows_of(collected)}


def test_the_default_queries_tell_the_new_version_from_the_old(collected):
    result = collected("shop")
    for row in rows_of(result, "baseline"):
        assert row["error_rate"] == pytest.approx(0.01)
        assert row["requests"] == pytest.approx(2 * 3 * 60)
        assert row["memory_usage"] == pytest.approx(0.4)
    last = rows_of(result)[-1]
    assert last["error_rate"] == pytest.approx(0.1)
    assert last["control_error_rate"] == pytest.approx(0.01)
    assert last["requests"] == pytest.approx(2 * 60)
    assert last["control_requests"] == pytest.approx(2 * 3 * 60)
    assert (last["memory_usage"], last["control_memory_usage"]) == pytest.approx((0.7, 0.4))
    assert (last["cpu_usage"], last["control_cpu_usage"]) == pytest.approx((0.5, 0.5))
    assert (last["health_score"], last["n_pods"]) == (1, 1)
    assert last["canary_share"] == pytest.approx(2 / 8)
    assert "control_n_pods" not in last
    assert "control_canary_share" not in last
    assert len(rows_of(result, "baseline")) == 15


def test_a_fault_shows_in_the_minute_in_which_it_began(collected, start):
    errors = at_minutes(collected("shop"), start, "error_rate")
    assert {minute: errors[minute] for minute in (4, 5, 6)} == {4: 0, 5: 0, 6: 0}
    assert errors[7] == pytest.approx(0.1)
    # What the default window keeps from happening.
    smeared = at_minutes(collected("shop", window=300), start, "error_rate")
    assert smeared[7] < 0.05


def test_a_scrape_gap_is_missing_and_nothing_is_repeated_in_it(collected, start):
    result = collected("gap")
    inside = [row for row in rows_of(result) if 7 * 60 <= row["timestamp"] - start <= 12 * 60]
    metrics = [name for name in inside[0] if name not in ("timestamp", "phase")]
    assert len(inside) == 6
    assert all(row[name] is None for row in inside for name in metrics)
    memory = at_minutes(result, start, "memory_usage")
    assert memory[5] == memory[14] == pytest.approx(0.5)
    assert at_minutes(result, start, "requests")[14] == pytest.approx(120)
    assert 0.5 < result.coverage["memory_usage"] < 0.75
    # Asked for without fresh(), the same gauge goes on for minutes as if it were measured.
    raw = {"raw": "sum(container_memory_working_set_bytes{{pods}})"}
    assert at_minutes(collected("gap", queries=raw), start, "raw")[9] is not None


def test_nothing_over_nothing_is_missing(collected, start):
    result = collected("idle")
    assert set(at_minutes(result, start, "error_rate").values()) == {None}
    assert at_minutes(result, start, "requests")[5] == 0
    assert at_minutes(result, start, "memory_usage")[5] == pytest.approx(0.5)
    assert result.coverage["error_rate"] == 0
    assert any("error_rate of the new version" in note for note in result.notes)


def test_series_that_nobody_knows_are_missing(collected):
    result = collected("nobody")
    values = {row[name] for row in result.observations for name in row} - {"baseline", "canary"}
    assert values - {row["timestamp"] for row in result.observations} == {None}
    assert len(rows_of(result)) == 19
    assert result.newest_at is None
    assert set(result.coverage.values()) == {0}
    assert any("no series" in note for note in result.notes)


def test_a_restarted_counter_is_no_fall_and_no_jump(collected, start):
    requests = at_minutes(collected("restarted"), start, "requests")
    around = [requests[minute] for minute in (6, 7, 8, 10, 11)]
    assert around == pytest.approx([120] * 5)
    # Between the last sample before the restart and the restart itself, requests go unseen.
    assert 0 <= requests[9] <= 120


def test_a_version_without_a_series_of_failures_has_none(collected, start):
    errors = at_minutes(collected("restarted"), start, "error_rate")
    assert {errors[minute] for minute in range(2, 20)} == {0}


def test_a_rollout_may_begin_between_scrapes(collected, start):
    begin = start + 17.250_456
    result = collected("shop", started_at=begin, now=begin + 600)
    rows = rows_of(result)
    assert [row["timestamp"] for row in rows] == [begin + 60 * k for k in range(1, 11)]
    assert all(row["control_error_rate"] is not None for row in rows)
    assert rows[-1]["error_rate"] == pytest.approx(0.1)


def test_a_long_range_is_asked_for_in_parts(collected, start):
    seconds = 12_000
    result = collected("shop", started_at=start - seconds, scrape_interval=1, window=60, step=1)
    rows = rows_of(result)
    assert len(rows) > 11_000
    assert rows[-1]["error_rate"] == pytest.approx(0.1)
    assert rows[0]["error_rate"] is None


def test_no_name_reaches_beyond_its_own_series(
    prometheus_url, collecting, release, start, odd_versions
):
    for template in ('fresh(odd{version="{version}"})', "fresh(odd{version=~'{version}'})"):
        settings = TelemetrySettings(url=prometheus_url, settle=0, queries={"odd": template})
        for number, version in enumerate(odd_versions):
            name = release("odd", version=version)
            result = collecting(settings, name, start, start + 300)
            assert {row["odd"] for row in rows_of(result)} == {number}


def test_what_prometheus_says_of_a_bad_query_is_passed_on(collected):
    with pytest.raises(DeployError, match=r"broken of the .* version: .*parse error"):
        collected("shop", queries={"broken": "sum(up{{pods}}"})
    with pytest.raises(DeployError, match="aggregate it"):
        collected("shop", queries={"several": "kube_pod_status_ready{{pods}}"})


def test_what_was_collected_can_be_asked_about(collected):
    for service in ("shop", "gap", "idle", "nobody", "restarted"):
        for number, row in enumerate(collected(service).observations):
            for name in row.keys() - {"phase"}:
                read_number(row, name, number)


def test_versions_may_be_told_apart_otherwise(prometheus_url, collecting, release, start):
    new = Selector('pod=~"{service}-{version}-.+"', 'pod="shop-new11-ddddd"')
    old = Selector('pod=~"{service}-.+",pod!~"{service}-(api|{version})-.+"', 'pod=~"shop-old.+"')
    settings = TelemetrySettings(url=prometheus_url, settle=0, canary=new, stable=old)
    result = collecting(settings, release("shop"), start, start + 900)
    last = rows_of(result)[-1]
    assert last["error_rate"] == pytest.approx(0.1)
    assert last["control_error_rate"] == pytest.approx(0.01)
    assert not re.search("no series", " ".join(result.notes))


def test_past_releases_are_written_as_the_service_would_have_seen_them(
    prometheus_url, collecting, release, start, tmp_path
):
    settings = TelemetrySettings(url=prometheus_url)
    past = [
        PastRelease("shop", "prod", "new11", start, start + 600, label="bad"),
        PastRelease("gap", "prod", "new11", start, start + 900, label="good"),
        PastRelease("nobody", "prod", "new11", start, start + 600, label="good"),
    ]
    counts = write_history(settings, past, tmp_path / "history.parquet")
    assert counts.left_out == {"no telemetry of the new version": 1}
    frame = read_frame(tmp_path / "history.parquet")
    for one in past[:2]:
        now = one.ended_at + settings.settle
        seen = collecting(settings, release(one.service), start, now).observations
        written = frame[frame["service"] == one.service]
        assert len(written) == len(seen)
        for name in set(seen[-1]) - {"phase"}:
            expected = [math.nan if row.get(name) is None else row[name] for row in seen]
            assert written[name].tolist() == pytest.approx(expected, nan_ok=True)
    assert len(read_episodes(tmp_path / "history.parquet")) == 2
