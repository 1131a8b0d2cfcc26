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

"""Serves what the services report, at `/SERVICE` of one loopback port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

from cluster import Cluster

HOST = "127.0.0.1"


@asynccontextmanager
async def serving(cluster: Cluster, services: set[str], port: int) -> AsyncIterator[None]:
    """Answers scrapes until the block ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Prometheus ends its connections when it ends, and we ours.
        with suppress(ConnectionError, asyncio.CancelledError), closing(writer):
            while request := await _next_request(reader):
                service = request.split()[1].decode("ascii", "replace").strip("/")
                body = cluster.scrape(service) if service in services else None
                writer.write(_response(body))
                await writer.drain()

    server = await asyncio.start_server(answer, HOST, port)
    try:
        yield
    finally:
        # Without waiting: Prometheus keeps its connections as long as it lives.
        server.close()


async def _next_request(reader: asyncio.StreamReader) -> bytes | None:
    """Returns the first line of the next request, None where the connection ended."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


def _response(body: str | None) -> bytes:
    """Returns a whole response: 503 where there is nothing to report."""
    status = "503 Service Unavailable" if body is None else "200 OK"
    content = (body or "").encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
