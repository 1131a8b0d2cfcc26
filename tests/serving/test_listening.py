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
"""What a caller meets before the service looks at what it says, and what ends the service."""

import asyncio
import contextlib
import errno
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from oumi_deploy.cli.main import main
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.app import create_app
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.listening import BoundedHeads, check_free
from oumi_deploy.serving.settings import ServiceSettings

HOST = "127.0.0.1"


@pytest.fixture
def listening(policy_file, tmp_path) -> Iterator[int]:
    """The port of a service that listens on a real socket, within this process."""
    settings = ServiceSettings(policy=policy_file, log=f"sqlite:///{tmp_path / 'log.db'}")
    app = create_app(settings)
    config = uvicorn.Config(app, port=0, http=BoundedHeads, ws="none", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)


def question(**more) -> bytes:
    body = json.dumps({"service": "shop", "observations": [{"error_rate": 0.1}], **more}).encode()
    head = f"POST /v1/decide HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def last_question(**more) -> bytes:
    return question(**more).replace(b"Host: x", b"Host: x\r\nConnection: close")


def answer(caller: socket.socket) -> bytes:
    """What comes until the service has nothing more to say, or hangs up."""
    said = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while part := caller.recv(65_536):
            said += part
    return said


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /health HTTP/1.1\r\n", b"X: " + b"a" * 60_000 + b"\r\n"],
        [b"GET /health HTTP/1.1\r\nX: ", b"a" * 60_000],
        [b"GET /health?", b"a" * 60_000],
    ],
    ids=["many headers", "one header", "address"],
)
def test_a_head_without_end_is_cut_off(listening, parts):
    begin, more = parts
    with socket.create_connection((HOST, listening), timeout=10) as caller:
        caller.sendall(begin)
        with pytest.raises(ConnectionError):
            caller.sendall(more * 300)
    assert httpx.get(f"http://{HOST}:{listening}/health").is_success


CHUNKED = b"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"0\r\n", b"X: " + b"a" * 60_000 + b"\r\n"),
        (b"0\r\nX: ", b"a" * 60_000),
        (b"1;x=", b"a" * 60_000),
    ],
    ids=["many trailers", "one trailer", "a chunk's extension"],
)
@pytest.mark.parametrize("first", [b"POST /v1/decide", b"GET /health"])
def test_what_follows_a_head_without_being_a_body_is_cut_off(listening, first, begin, more):
    with socket.create_connection((HOST, listening), timeout=10) as caller:
        caller.sendall(first + b" HTTP/1.1\r\n" + CHUNKED + begin)
        with pytest.raises(ConnectionError):
            caller.sendall(more * 300)
    assert httpx.get(f"http://{HOST}:{listening}/health").is_success


def test_whoever_was_answered_and_sends_on_is_hung_up_on(listening, monkeypatch):
    monkeypatch.setattr("oumi_deploy.serving.listening.HEAD_SECONDS", 0.2)
    for rest in (b"GET /health HTTP/1.1\r\n" + CHUNKED + b"0\r\n", question(), b"\r\n"):
        with socket.create_connection((HOST, listening), timeout=10) as caller:
            caller.sendall(rest)
            begun = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - begun < 8:
                    time.sleep(0.05)
                    caller.sendall(b"\r\n" if rest in (question(), b"\r\n") else b"X: a\r\n")
            assert time.monotonic() - begun < 8


def test_a_body_in_many_parts_with_a_trailer_is_read(listening):
    body = question().partition(b"\r\n\r\n")[2]
    parts = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body)
    asked = b"POST /v1/decide HTTP/1.1\r\nConnection: close\r\n" + CHUNKED + parts + b"0\r\n"
    with socket.create_connection((HOST, listening), timeout=10) as caller:
        caller.sendall(asked + b"Host: y\r\n\r\n")
        assert answer(caller).count(b"HTTP/1.1 200 OK") == 1


def test_what_is_large_and_allowed_arrives_however_it_is_cut(listening):
    headers = {"X-Trace": "a" * 60_000, "Content-Type": "application/json"}
    seen = [{"error_rate": 0.1, "cpu_usage": n / 2000} for n in range(2000)]
    with httpx.Client(base_url=f"http://{HOST}:{listening}", headers=headers) as client:
        for n in (1, 2000, 500):
            body = {"service": "shop", "observations": seen[:n]}
            assert client.post("/v1/decide", json=body).json()["observations"] == n
    with socket.create_connection((HOST, listening), timeout=10) as caller:
        for at in range(0, len(question()), 7):
            caller.sendall(question()[at : at + 7])
        caller.sendall(last_question(rollout="2"))
        assert answer(caller).count(b"HTTP/1.1 200 OK") == 2


def test_who_does_not_finish_a_head_is_hung_up_on(listening, monkeypatch):
    monkeypatch.setattr("oumi_deploy.serving.listening.HEAD_SECONDS", 0.2)
    for begin in (b"", b"GET /health HT"):
        with socket.create_connection((HOST, listening), timeout=10) as caller:
            caller.sendall(begin)
            assert answer(caller) == b""


def test_whoever_asks_on_is_told_the_first_answer_all_the_same(listening, monkeypatch):
    decide = Engine.decide

    async def at_leisure(self, *args):
        await asyncio.sleep(1)
        return await decide(self, *args)

    monkeypatch.setattr(Engine, "decide", at_leisure)
    monkeypatch.setattr("oumi_deploy.serving.listening.HEAD_SECONDS", 0.2)
    with socket.create_connection((HOST, listening), timeout=10) as caller:
        caller.sendall(question() + b"GET /hea")
        assert answer(caller).count(b"HTTP/1.1 200 OK") == 1


def test_a_body_of_100_megabytes_is_refused_and_not_kept(listening):
    body = (b"x" * 1_000_000 for _ in range(100))
    headers = {"content-type": "application/json"}
    refused = httpx.post(
        f"http://{HOST}:{listening}/v1/decide", content=body, headers=headers, timeout=60
    )
    assert refused.status_code == 413
    assert "larger than 1,000,000 bytes" in refused.json()["error"]
    assert httpx.get(f"http://{HOST}:{listening}/health").is_success


@pytest.fixture
def refused(policy_file, tmp_path, monkeypatch, capsys):
    """Starts a service that cannot start; returns the one line that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.run", lambda app, **_: pytest.fail("it starts"))

    def start(*options: str) -> str:
        given = ["--policy", str(policy_file), "--log", "sqlite:///log.db", *options]
        assert main(["serve", *given]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert not Path("log.db").exists(), "nothing is made before all is well"
        return error.removeprefix("oumi-deploy serve: ")

    return start


def test_a_port_that_is_taken_is_said_in_one_line(refused):
    with socket.create_server((HOST, 0)) as other:
        port = str(other.getsockname()[1])
        assert refused("--port", port).startswith(f"--host {HOST} --port {port}: Address already")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a..b"])
def test_an_address_of_another_machine_is_said_in_one_line(refused, tmp_path, host):
    (tmp_path / "tokens").write_text("ask 0123456789abcdef")
    said = refused("--host", host, "--tokens", "tokens")
    assert said.startswith(f"--host {host}")
    assert "an address of this machine" in said


def test_a_machine_without_ipv6_listens_at_localhost_all_the_same(monkeypatch):
    """As where the kernel has none, and its table of names has `::1 localhost` all the same."""

    class Socket(socket.socket):
        def __init__(self, family=-1, *args, **more):
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **more)

    def both(host, port, **_):
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)), four]

    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", both)
        monkeypatch.setattr(socket, "socket", Socket)
        check_free("localhost", 0)
        with pytest.raises(DeployError, match="another --port"):
            check_free("localhost", taken)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: both(*a, **k)[:1])
        with pytest.raises(DeployError, match="not supported"):
            check_free("::1", 0)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///no/such/folder/log.db", "no such folder"),
        ("sqlite:///folder", "is a folder"),
        ("sqlite:///text", "something else than a database"),
    ],
)
def test_a_log_that_can_never_be_one_is_said_in_one_line(refused, tmp_path, url, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("the shopping list, which is nobody's to write into\n" * 9)
    assert says in refused("--port", "0", "--log", url)
    assert "shopping" in (tmp_path / "text").read_text()


def test_a_token_file_without_a_token_does_not_let_everybody_in(refused, tmp_path):
    (tmp_path / "tokens").write_text("# ask 0123456789abcdef\n")
    assert "tokens: holds no token" in refused("--tokens", "tokens")


@pytest.mark.real
def test_told_to_end_it_answers_what_is_under_way_and_logs_it(policy_file, tmp_path):
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).parent / "oumi-deploy"
    command = [program, "serve", "--policy", policy_file, "--port", str(port)]
    service = subprocess.Popen(
        [*command, "--log", f"sqlite:///{tmp_path / 'log.db'}"], stderr=subprocess.DEVNULL
    )
    try:
        with _connected(port, service) as caller, _connected(port, service) as other:
            request = question()
            caller.sendall(request[:-5])
            other.sendall(last_question(rollout="2"))
            first = answer(other)
            service.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert service.poll() is None, "a caller is in the middle of a sentence"
            caller.sendall(request[-5:])
            last = answer(caller)
        assert service.wait(20) in (0, -signal.SIGTERM)
    finally:
        service.kill()
        service.wait()
    told = [json.loads(said.partition(b"\r\n\r\n")[2]) for said in (first, last)]
    assert [said["logged"] for said in told] == [True, True]
    with sqlite3.connect(tmp_path / "log.db") as log:
        assert {id for (id,) in log.execute("SELECT id FROM decisions")} == {t["id"] for t in told}
    log.close()


def _connected(port: int, service: subprocess.Popen) -> socket.socket:
    for _ in range(600):
        with contextlib.suppress(OSError):
            return socket.create_connection((HOST, port), timeout=20)
        assert service.poll() is None, "it does not start"
        time.sleep(0.05)
    raise AssertionError("it does not start")
