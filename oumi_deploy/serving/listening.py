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
"""Most of a request that is no body: its head, and what lies between and after the parts of its
body; where these and a body come at once, a read of the socket more."""

HEAD_SECONDS = 10.0
"""How long a head may take to arrive, and the rest of a request that is answered already."""

_ADDRESS = "give an address of this machine"


def check_free(host: str, port: int) -> None:
    """Refuses an address that cannot be listened at, before anything is opened for it.

    Raises:
        DeployError: If it is taken, or none of this machine's.
    """
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        known = [place for place in places if _has_family(place[0])]
        # Of a name's addresses the server takes those that this machine has a family for.
        for family, kind, protocol, _, address in known or places:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except UnicodeError as error:
        raise DeployError(f"--host {host}: no name of a machine; {_ADDRESS}") from error
    except OSError as error:
        remedy = "give another --port" if error.errno == errno.EADDRINUSE else _ADDRESS
        raise DeployError(f"--host {host} --port {port}: {error.strerror}; {remedy}") from error


def _has_family(family: int) -> bool:
    """Returns whether the kernel knows such addresses, as one without IPv6 does not."""
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


class BoundedHeads(HttpToolsProtocol):
    """HTTP of which all but the bodies is bounded in size and in time.

    It comes before any token is seen, or is looked at by nobody: the trailers that may follow a
    body are dropped.
    """

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self._in_head, self._n_bytes = True, 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """Begins to wait for a first request."""
        super().connection_made(transport)
        self._await_rest()

    def data_received(self, data: bytes) -> None:
        """Takes in what came, unless too much came already that is no body."""
        if self._n_bytes > HEAD_BYTES:
            self.send_400_response("The head of the request, or what follows it, is too large.")
            return
        if self._deadline is None:
            self._await_rest()  # Empty lines may come before a request, and begin none.
        self._n_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._in_head = True
        self._await_rest()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes in a header, and drops a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Ends a head."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes in some of a body, whose size is looked at where its token is known."""
        self._n_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request."""
        self._n_bytes = 0
        self._stop_waiting()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a caller who has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_rest(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_rest()  # It is still to be told an answer, perhaps to what it asked before.
            return
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
