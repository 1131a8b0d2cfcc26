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

"""Where the service listens, and how much a caller may send before anybody looks at it."""

import asyncio
import errno
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oumi_deploy.errors import DeployError

HEAD_BYTES = 65_536
"""Most of a request's head, its address and headers; where these and a body come at once, a read
of the socket more."""

HEAD_SECONDS = 10.0
"""How long a head may take to arrive."""


def check_free(host: str, port: int) -> None:
    """Refuses an address that cannot be listened at, before anything is opened for it.

    Raises:
        DeployError: If it is taken, or none of this machine's.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        remedy = "give another --port" if is_taken else "give an address of this machine"
        raise DeployError(f"--host {host} --port {port}: {error.strerror}; {remedy}") from error


class BoundedHeads(HttpToolsProtocol):
    """HTTP whose heads are bounded in size and in time: they come before any token is seen."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self._in_head, self._n_bytes = True, 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """Begins to wait for a first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Takes in what came, unless the head that it belongs to is too large already."""
        if self._in_head and self._n_bytes > HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
            return
        super().data_received(data)
        self._n_bytes = self._n_bytes + len(data) if self._in_head else 0

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._in_head = True
        self._await_head()

    def on_headers_complete(self) -> None:
        """Ends a head."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a caller who has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # It is still to be told the answer to what it asked before.
            return
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
