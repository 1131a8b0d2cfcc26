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

"""Asks Prometheus, or what answers its HTTP API, for a range of one query."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

MAX_POINTS = 11_000
"""Points of one series that Prometheus answers with at most."""

MAX_ANSWER_BYTES = 8_000_000
"""An answer beyond it has hundreds of series where one is wanted; memory must not pay for that."""

_TOO_MANY_REQUESTS = 429


class TelemetryUnavailable(DeployError):
    """Prometheus cannot be reached or has no time: no fault of the release or the query."""


class Series(NamedTuple):
    """One series over a range.

    Attributes:
        points: Times in Unix seconds, ascending, and the value then, None where it is not finite.
        warnings: What Prometheus warned of, such as an answer that is partial.
    """

    points: list[tuple[float, float | None]]
    warnings: list[str]


def connect(
    settings: TelemetrySettings, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Returns a client, to be closed by the caller; nothing is sent yet.

    Args:
        settings: Where to, with which token and for how long to wait.
        transport: What carries the requests, by default the network.
    """
    token_file = settings.token_file
    return httpx.AsyncClient(
        base_url=settings.url,
        timeout=settings.timeout,
        auth=None if token_file is None else _Bearer(token_file),
        transport=transport,
    )


class _Bearer(httpx.Auth):
    """Reads the token for every request: Kubernetes renews the files it hands out."""

    def __init__(self, token_file: Path):
        self._token_file = token_file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DeployError(f"token_file {self._token_file}: cannot be read as text") from error
        if not token or not token.isprintable():
            raise DeployError(f"token_file {self._token_file}: holds no token on a single line")
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


async def query_range(
    client: httpx.AsyncClient, what: str, query: str, start: float, end: float, step: float
) -> Series:
    """Evaluates a query that has one series, at `start`, `start + step` and so on up to `end`.

    Args:
        client: From `connect`.
        what: What the query tells, for messages.
        query: PromQL.
        start: Unix seconds.
        end: Unix seconds.
        step: Seconds above 0.

    Returns:
        The series; without a point where there is none of it.

    Raises:
        TelemetryUnavailable: If there is no answer in time, or none but that it has no time.
        DeployError: If the query is refused or has several series, or the address is wrong.
    """
    found: list[dict[str, Any]] = []
    warnings: list[str] = []
    for first, last in _parts(start, end, step):
        form = {"query": query, "start": _seconds(first), "end": _seconds(last)}
        answer = await _ask(client, what, form | {"step": _seconds(step)})
        found += _matrix(client, what, answer)
        warnings += map(str, answer.get("warnings") or ())
    if any(series["metric"] != found[0]["metric"] for series in found):
        raise DeployError(
            f"{what}: the query has several series where one is wanted: aggregate it, as in sum()"
        )
    return Series([point for series in found for point in series["values"]], warnings)


def _parts(start: float, end: float, step: float) -> Iterator[tuple[float, float]]:
    """Splits a range so that no part has more points than Prometheus answers with."""
    n_points = math.floor((end - start) / step + 1e-6) + 1
    for at in range(0, n_points, MAX_POINTS):
        yield start + at * step, start + min(at + MAX_POINTS, n_points) * step - step


def _seconds(value: float) -> str:
    return f"{value:.3f}"


async def _ask(client: httpx.AsyncClient, what: str, form: dict[str, str]) -> dict[str, Any]:
    limit = client.timeout.read
    place = f"{what}: {client.base_url}"
    try:
        # The client's own limit is on each read; a server that dribbles could go on for ever.
        async with (
            asyncio.timeout(limit),
            client.stream(
                "POST", "api/v1/query_range", data=form | {"timeout": f"{limit:g}s"}
            ) as response,
        ):
            body = await _read(response.aiter_bytes(), what)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise TelemetryUnavailable(f"{place} did not answer within {limit:g} s") from error
    except httpx.RequestError as error:
        reason = str(error) or type(error).__name__
        raise TelemetryUnavailable(f"{place} cannot be reached: {reason}") from error
    return _judge(place, response.status_code, body)


async def _read(chunks: AsyncIterator[bytes], what: str) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise DeployError(
                f"{what}: the answer has more than {MAX_ANSWER_BYTES:,} bytes where one series is "
                "wanted: aggregate the query, as in sum()"
            )
    return bytes(body)


def _judge(place: str, status: int, body: bytes) -> dict[str, Any]:
    """Returns the answer if it is a success."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    said = " ".join(str(answer.get("error", "")).split())[:300]
    if status >= 500 or status == _TOO_MANY_REQUESTS:
        raise TelemetryUnavailable(f"{place} answers {status}: {said or 'no reason given'}")
    if status in (401, 403):
        raise DeployError(f"{place} answers {status}: give a token that may query in token_file")
    if said:
        raise DeployError(f"{place} refuses the query: {said}")
    if status != 200 or answer.get("status") != "success":
        raise DeployError(f"{place} answers {status} and not as Prometheus does: look over url")
    return answer


def _matrix(client: httpx.AsyncClient, what: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the series of an answer, their values as numbers."""
    try:
        return [
            {
                "metric": series["metric"],
                "values": [(float(at), _finite(value)) for at, value in series["values"]],
            }
            for series in answer["data"]["result"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DeployError(
            f"{what}: {client.base_url} answers with no series of plain numbers: look over the "
            "query, which must not end in a histogram, and url"
        ) from error


def _finite(value: str) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
