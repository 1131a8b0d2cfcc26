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

"""Past releases as episodes for training."""

import json
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from oumi_deploy.episodes.packed import read_episodes
from oumi_deploy.episodes.table import SUFFIXES, read_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry import history
from oumi_deploy.serving.telemetry.history import write_history
from oumi_deploy.serving.telemetry.prometheus import TelemetryUnavailable
from oumi_deploy.serving.telemetry.releases import PastRelease, read_releases
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

BEGIN = 1_700_000_000
SETTINGS = TelemetrySettings(
    url="http://prometheus.example",
    baseline=120,
    queries={
        "error_rate": 'sum(x{v="{version}",{traffic}})',
        "requests": 'sum(r{v="{version}",{traffic}})',
    },
)


def release_of(version: str, **changes: Any) -> PastRelease:
    release = PastRelease("shop", "prod", version, started_at=BEGIN, ended_at=BEGIN + 300)
    return replace(release, **changes)


def minutes(value, count=7):
    points = [[BEGIN - 60 + 60 * k, value] for k in range(count)]
    return [{"metric": {}, "values": points}]


ANSWERS = {'x{v="v1"': minutes("0.25"), 'x{v="v2"': minutes("1.5"), 'x{v="v3"': minutes("NaN")}


@pytest.fixture
def write(tmp_path, fake):
    def write(releases, name="history.parquet", answers=ANSWERS, **options):
        path = tmp_path / name
        transport = fake(answers).transport
        return path, write_history(SETTINGS, releases, path, transport=transport, **options)

    return write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_releases_become_episodes_that_can_be_trained_on(write, suffix):
    releases = [
        release_of("v1", label="good"),
        release_of("v2", label="bad", group="incident"),
        release_of("v1", started_at=BEGIN + 60),
    ]
    done = []
    path, counts = write(releases, f"history{suffix}", progress=done.append)
    episodes = read_episodes(path)
    assert list(episodes.ids) == [release.episode_id for release in releases]
    assert list(episodes.labels) == [0, 1, -1]
    assert list(episodes.groups) == [None, "incident", None]
    assert list(episodes.lengths) == [2 + 5, 2 + 5, 2 + 4]
    assert list(episodes.baseline_lengths) == [2, 2, 2]
    assert set(episodes.numbers["error_rate"]) == {0.25, 1}
    assert np.isnan(episodes.numbers["requests"]).all()
    assert (counts.written, counts.rows, counts.left_out) == (3, 20, {})
    assert counts.clipped == {"error_rate": 7, "control_error_rate": 5}
    assert len(done) == 3


def test_the_last_step_of_a_release_is_the_last_that_was_over(write):
    path, _ = write([release_of("v1", ended_at=BEGIN + 179.9)])
    times = read_frame(path)["timestamp"]
    assert times.tolist() == [BEGIN - 60, BEGIN, BEGIN + 60, BEGIN + 120]


def test_a_release_without_telemetry_is_left_out_and_counted(write):
    releases = [
        release_of("v1"),
        release_of("v3", label="bad"),
        release_of("unknown"),
        release_of("v2", ended_at=BEGIN + 30),
    ]
    path, counts = write(releases)
    assert counts.written == len(read_episodes(path)) == 1
    assert counts.left_out == {"no telemetry of the new version": 2, "shorter than a step": 1}
    assert counts.clipped == {}


def test_with_nothing_to_write_nothing_is_written(write, tmp_path):
    with pytest.raises(DeployError, match="no telemetry of the new version"):
        write([release_of("unknown")])
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_before_anything_is_asked(write, tmp_path):
    (tmp_path / "history.parquet").write_text("precious")
    with pytest.raises(DeployError, match="--overwrite"):
        write([release_of("v1")], answers=None)
    assert (tmp_path / "history.parquet").read_text() == "precious"
    write([release_of("v1")], overwrite=True)
    assert len(read_episodes(tmp_path / "history.parquet")) == 1


def test_a_server_that_is_away_for_a_moment_costs_nothing(monkeypatch, tmp_path, fake):
    monkeypatch.setattr(history, "_WAITS", (0.0, 0.0))
    server, failures = fake(ANSWERS), iter([True, True])

    def answer(request: httpx.Request) -> httpx.Response:
        if next(failures, False):
            raise httpx.ConnectError("away")
        return server(request)

    path = tmp_path / "history.csv"
    counts = write_history(
        SETTINGS, [release_of("v1")], path, transport=httpx.MockTransport(answer)
    )
    assert counts.written == 1


def test_a_server_that_stays_away_ends_it_without_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(history, "_WAITS", (0.0, 0.0))

    def answer(_request):
        raise httpx.ConnectError("away")

    path = tmp_path / "history.csv"
    with pytest.raises(TelemetryUnavailable, match="away"):
        write_history(SETTINGS, [release_of("v1")], path, transport=httpx.MockTransport(answer))
    assert not list(tmp_path.iterdir())


HEADER = "service,environment,version,started_at,ended_at,label,group\n"
LINE = {
    "service": "shop",
    "environment": "prod",
    "version": "v1",
    "started_at": BEGIN,
    "ended_at": BEGIN + 300,
}


def test_the_list_of_releases_is_read_alike_from_csv_and_json_lines(tmp_path):
    (tmp_path / "releases.csv").write_text(
        HEADER + "shop,prod,v1,2023-11-14T22:13:20Z,1700000300,good,\n"
        f"shop,prod,v2,{BEGIN},2023-11-14 23:18:20+01:00,,i1\n"
    )
    lines = [LINE | {"label": "good"}, LINE | {"version": "v2", "label": None, "group": "i1"}]
    (tmp_path / "releases.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    expected = [release_of("v1", label="good"), release_of("v2", group="i1")]
    assert read_releases(tmp_path / "releases.csv") == expected
    assert read_releases(tmp_path / "releases.jsonl") == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": None}, "version is missing"),
        ({"version": 2}, "version: 2 is not a text"),
        ({"started_at": "yesterday"}, "started_at: 'yesterday' is not Unix seconds"),
        ({"started_at": True}, "started_at"),
        ({"ended_at": "nan"}, "ended_at"),
        ({"ended_at": 1e300}, "ended_at"),
        ({"ended_at": BEGIN}, "ended_at is not after started_at"),
        ({"label": "fine"}, "'fine' is not good or bad"),
        ({"lable": "good"}, "unknown column lable"),
    ],
)
def test_a_line_that_is_no_release_is_named(tmp_path, change, message):
    path = tmp_path / "releases.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {"version": "v2"} | change))
    with pytest.raises(DeployError, match=f"line 2: .*{message}"):
        read_releases(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", HEADER, "no releases in it"),
        ("a.csv", HEADER + "shop,prod,v1,1,2\n" * 2, "line 3: shop/prod/v1/.* stands twice"),
        ("a.csv", HEADER + "shop,prod,v1,1,2,good,g,more\n", "line 2: .*beyond the header"),
        ("a.jsonl", "[]", "a release is an object"),
        ("a.jsonl", "{", "line 1: not JSON"),
        ("a.txt", "", r"\.csv or \.jsonl"),
        ("a.csv", None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_list_of_releases_is_refused(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DeployError, match=f"{name}.*{message}"):
        read_releases(tmp_path / name)
