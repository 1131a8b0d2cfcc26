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
"""What stands before every request: rights, size, rate and concurrency.

Pure ASGI, since a wrapper that makes request objects would cost more than a decision does.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from oumi_deploy.serving.auth import Right, Tokens
from oumi_deploy.serving.monitoring import Monitoring
from oumi_deploy.serving.settings import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""

_MOST_CALLERS = 10_000
_OPEN = ("/health", "/ready", "/openapi.json", "/")
_OPEN_UNDER = "/dashboard/"
_REPORTING = (
    "/v1/outcomes",
    "/v1/cdevents",
    "/v1/github",
    "/v1/flagger/post-rollout",
    "/v1/flagger/event",
)
_ADMINISTERING = ("/v1/policy/reload",)


@dataclass
class _Bucket:
    tokens: float
    at: float


class Rate:
    """A token bucket for each caller."""

    def __init__(self, per_second: float):
        self._per_second, self._most = per_second, 2 * per_second
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def allows(self, caller: str, now: float) -> bool:
        """Returns whether a caller may ask once more, and counts it."""
        bucket = self._buckets.pop(caller, None) or _Bucket(self._most, now)
        refilled = bucket.tokens + (now - bucket.at) * self._per_second
        bucket.tokens, bucket.at = min(self._most, refilled), now
        allowed = bucket.tokens >= 1
        bucket.tokens -= allowed
        self._buckets[caller] = bucket
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return allowed


def right_for(method: str, path: str) -> Right:
    """Returns what a caller must be allowed to do for a request."""
    if path in _OPEN or path.startswith(_OPEN_UNDER):
        return Right.NONE
    if path in _ADMINISTERING:
        return Right.ADMINISTER
    if method == "POST" and path.startswith(_REPORTING):
        return Right.REPORT
    return Right.ASK


class Guard:
    """An ASGI application around another that lets through what is allowed."""

    def __init__(self, app: App, tokens: Tokens, limits: Limits, monitoring: Monitoring):
        self._app, self._tokens, self._limits = app, tokens, limits
        self._monitoring = monitoring
        self._rate = Rate(limits.requests_per_second)
        self._n_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] == "POST":
            # Read before it counts as under way: who sends slowly takes nobody's place.
            body = await self._body(receive)
            if body is None:
                return
            refusal = body if isinstance(body, tuple) else self._crowd()
            receive = _replay(b"" if isinstance(body, tuple) else body, receive)
        if refusal is not None:
            await self._refuse(send, *refusal)
            return
        self._n_running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._n_running -= 1

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        needed = right_for(scope["method"], scope["path"])
        if needed is Right.NONE:
            return None
        rights, bearer = self._tokens.rights(_text(headers.get(b"authorization")))
        if not self._rate.allows(bearer or _address(scope), time.monotonic()):
            most = self._limits.requests_per_second
            return 429, f"more than {most:g} requests a second; ask again in a second"
        if not rights:
            return 401, "send a token: Authorization: Bearer TOKEN"
        if needed not in rights:
            return 403, f"this token carries no right to {str(needed.name).lower()}"
        if scope["method"] != "POST":
            return self._crowd()
        if _length(headers.get(b"content-length")) > self._limits.body_bytes:
            return 413, self._too_large()
        # A web page can send text to this address from a person's browser, but not JSON.
        if b"json" not in headers.get(b"content-type", b"").lower() and _has_body(headers):
            return 415, "send JSON: Content-Type: application/json"
        return None

    def _crowd(self) -> tuple[int, str] | None:
        if self._n_running < self._limits.concurrent_requests:
            return None
        return 429, f"{self._n_running} requests are under way; ask again in a second"

    def _too_large(self) -> str:
        return f"the body is larger than {self._limits.body_bytes:,} bytes"

    async def _body(self, receive: Receive) -> bytes | tuple[int, str] | None:
        """Reads a body; returns a refusal if it is too large or slow, None if it broke off."""
        parts, n_bytes = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    n_bytes += len(parts[-1])
                    if n_bytes > self._limits.body_bytes:
                        return 413, self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return 408, f"the body took longer than {BODY_SECONDS:g} seconds"

    async def _refuse(self, send: Send, status: int, why: str) -> None:
        self._monitoring.refused.labels(status).inc()
        body = json.dumps({"error": why}).encode()
        headers = [(b"content-type", b"application/json")]
        headers += [(b"content-length", str(len(body)).encode())]
        headers += {
            401: [(b"www-authenticate", b"Bearer")],
            429: [(b"retry-after", b"1")],
        }.get(status, [])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hands a body that was read to the application."""
    read: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body}]

    async def again() -> MutableMapping[str, Any]:
        return read.pop() if read else await receive()

    return again


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or _length(headers.get(b"content-length")) > 0


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _length(header: bytes | None) -> int:
    try:
        return int(header or 0)
    except ValueError:
        return 0
