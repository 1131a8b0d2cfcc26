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

"""What Prometheus may answer, and what becomes of it."""

import asyncio
import gzip
import json
from collections.abc import Callable

import httpx
import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry.prometheus import (
    MAX_ANSWER_BYTES,
    Series,
    TelemetryUnavailable,
    connect,
    query_range,
)
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

Handler = Callable[[httpx.Request], httpx.Response]


def ask(answer: httpx.Response | Handler, *, start=60.0, end=180.0, step=60.0, **changes) -> Series:
    """Asks a server that answers every request by calling `answer`, or with it."""
    handler = (lambda _: answer) if isinstance(answer, httpx.Response) else answer
    settings = TelemetrySettings(url="http://prometheus.example/sub", **changes)

    async def run() -> Series:
        async with connect(settings, httpx.MockTransport(handler)) as client:
            return await query_range(client, "queue", "sum(queue)", start, end, step)

    return asyncio.run(run())


def matrix(*series, **more) -> httpx.Response:
    result = [{"metric": labels, "values": values} for labels, values in series]
    data = {"resultType": "matrix", "result": result}
    return httpx.Response(200, json={"status": "success", "data": data, **more})


def failure(status, error) -> httpx.Response:
    return httpx.Response(status, json={"status": "error", "errorType": "x", "error": error})


def test_values_are_texts_and_those_that_are_not_finite_are_missing():
    words = ["0.454", "NaN", "+Inf", "-Inf", "-0", "1e400", "2.5e-07"]
    answer = ask(matrix(({}, [[60 * k, word] for k, word in enumerate(words)])))
    assert [value for _, value in answer.points] == [0.454, None, None, None, 0, None, 2.5e-07]


def test_a_series_that_nobody_knows_has_no_points():
    assert ask(matrix()).points == []


def test_several_series_are_refused():
    with pytest.raises(DeployError, match="queue: the query has several series"):
        ask(matrix(({"pod": "a"}, [[60, "1"]]), ({"pod": "b"}, [[60, "2"]])))


def test_a_series_that_changes_its_labels_from_one_part_to_the_next_is_refused():
    pods = iter("ab")
    with pytest.raises(DeployError, match="several series"):
        ask(lambda _: matrix(({"pod": next(pods)}, [[60, "1"]])), end=60.0 * 11_001)


def test_a_query_that_prometheus_refuses_says_why():
    with pytest.raises(DeployError, match=r"queue: .*1:3: parse error: unclosed") as raised:
        ask(failure(400, "1:3: parse error:\n unclosed left parenthesis"))
    assert not isinstance(raised.value, TelemetryUnavailable)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_has_no_time_is_not_a_bad_query(status):
    with pytest.raises(TelemetryUnavailable, match=f"{status}: query timed out"):
        ask(failure(status, "query timed out"))


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("no route"), httpx.ReadTimeout(""), httpx.ReadError("cut off")]
)
def test_a_server_out_of_reach_is_unavailable(error):
    def answer(_request):
        raise error

    with pytest.raises(TelemetryUnavailable, match=r"queue: http://prometheus\.example"):
        ask(answer)


def test_a_server_that_dribbles_is_not_waited_for():
    class Dribble(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    with pytest.raises(TelemetryUnavailable, match="within 1 s"):
        ask(httpx.Response(200, stream=Dribble()), timeout=1)


def test_an_endless_answer_is_cut_off():
    with pytest.raises(DeployError, match="aggregate the query"):
        ask(httpx.Response(200, content=b" " * (MAX_ANSWER_BYTES + 1)))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="no such page"),
        httpx.Response(302, headers={"location": "http://elsewhere.example"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["success"]),
        httpx.Response(200, json={"status": "success"}),
        httpx.Response(200, json={"status": "success", "data": {"result": [{"metric": {}}]}}),
        matrix(({}, [[60, "many"]])),
    ],
)
def test_what_is_no_answer_of_prometheus_is_refused(answer):
    with pytest.raises(DeployError, match="look over"):
        ask(answer)


def test_a_long_range_is_split_without_losing_or_repeating_a_step():
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/sub/api/v1/query_range"
        form = dict(httpx.QueryParams(request.content.decode()))
        asked.append(form)
        first, last = float(form["start"]), float(form["end"])
        times = [first + 60 * k for k in range(round((last - first) / 60) + 1)]
        return matrix(({}, [[at, "1"] for at in times]))

    n = 25_000
    answer_points = ask(answer, start=0.123, end=0.123 + 60 * (n - 1)).points
    assert [at for at, _ in answer_points] == pytest.approx([0.123 + 60 * k for k in range(n)])
    assert len(asked) == 3
    assert all(
        (float(form["end"]) - float(form["start"])) / 60 + 1 <= 11_000 + 1e-6 for form in asked
    )


def test_warnings_are_passed_on():
    answer = ask(matrix(({}, [[60, "1"]]), warnings=["a store did not answer"]))
    assert answer.warnings == ["a store did not answer"]


def test_the_token_is_read_for_every_query_and_never_told(tmp_path):
    token_file = tmp_path / "token"
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return failure(401, f"bad token {seen[-1]}")

    for token in ("first-secret", "second-secret"):
        token_file.write_text(token + "\n")
        with pytest.raises(DeployError, match="token_file") as raised:
            ask(answer, token_file=token_file)
        assert "secret" not in str(raised.value)
    assert seen == ["Bearer first-secret", "Bearer second-secret"]


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff"])
def test_a_token_file_without_a_token_is_named(tmp_path, content):
    token_file = tmp_path / "token"
    if content is not None:
        token_file.write_bytes(content)
    with pytest.raises(DeployError, match=f"token_file {token_file}"):
        ask(matrix(), token_file=token_file)


def test_the_answer_may_be_compressed():
    body = json.dumps({"status": "success", "data": {"result": []}}).encode()
    headers = {"content-encoding": "gzip"}
    assert ask(httpx.Response(200, content=gzip.compress(body), headers=headers)).points == []
    with pytest.raises(TelemetryUnavailable):
        ask(lambda _: httpx.Response(200, stream=_Bytes(b"not gzip"), headers=headers))


class _Bytes(httpx.AsyncByteStream):
    def __init__(self, content: bytes):
        self._content = content

    async def __aiter__(self):
        yield self._content
