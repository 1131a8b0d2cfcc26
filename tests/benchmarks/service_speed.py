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
"""How fast is the service, how soon does it start, and how much memory does it take?

Starts `oumi-deploy serve` on this machine with the log on, and asks about rollouts that grow from
one observation to twenty, every request with all of the rollout so far. Client and service share
the cores. First as many as a number of connections can send one after the other; then at a fixed
rate, where the time counts from when a request was due, so that what waits for another counts in
full.

    python tests/benchmarks/service_speed.py --policy output/neural/deployment_policy_model.json
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from oumi_deploy import DeploymentPolicy

OBSERVATIONS = 20
HOST = "127.0.0.1"


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, type=Path, metavar="FILE")
    parser.add_argument("--log", metavar="URL", help="decision log (default: a new SQLite file)")
    parser.add_argument("--seconds", type=float, default=10, help="of each part (default 10)")
    parser.add_argument("--connections", type=int, default=32, help="at once (default 32)")
    parser.add_argument("--rate", type=float, default=300, help="requests a second (default 300)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile(mode="w+") as said:
        log = args.log or f"sqlite:///{folder}/log.db"
        result = measure(args.policy, log, args.seconds, args.connections, args.rate, said)
    if args.json:
        print(json.dumps(result))
        return
    print("\n".join(f"{name:34} {value:10.2f}" for name, value in result.items()))


def measure(
    policy: Path, log: str, seconds: float, n_connections: int, rate: float, said: TextIO
) -> dict[str, float]:
    """Returns the figures by name."""
    port = free_port()
    command = [Path(sys.executable).parent / "oumi-deploy", "serve", "--policy", policy]
    started = time.perf_counter()
    service = subprocess.Popen(
        # Rollouts here grow faster than time: a long interval, so that none looks late.
        [*command, "--log", log, "--port", str(port), "--max-rate", "1e6", "--interval", "3600"],
        stderr=said,
    )
    try:
        wait_for(port, service, said)
        start_up = time.perf_counter() - started
        metrics = DeploymentPolicy.load(policy).encoder.metrics
        at_once = asyncio.run(as_fast_as_possible(port, metrics, seconds, n_connections))
        paced = np.array(asyncio.run(at_rate(port, metrics, seconds, rate)))
        memory = resident_megabytes(service.pid)
    finally:
        service.terminate()
        service.wait(20)
    return {
        "start-up, seconds": start_up,
        "decisions a second": len(at_once) / seconds,
        "median at full load, ms": float(np.median(at_once) * 1e3),
        f"median at {rate:g} a second, ms": float(np.median(paced) * 1e3),
        f"p99 at {rate:g} a second, ms": float(np.quantile(paced, 0.99) * 1e3),
        "resident memory, MB": memory,
    }


def free_port() -> int:
    """Returns a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def wait_for(port: int, service: subprocess.Popen, said: TextIO) -> None:
    """Waits until the service answers; if it ends instead, says what it said."""
    for _ in range(2000):
        if service.poll() is not None:
            said.seek(0)
            raise SystemExit(said.read())
        try:
            with socket.create_connection((HOST, port), timeout=1):
                return
        except OSError:
            time.sleep(0.01)
    raise SystemExit("the service does not start")


def resident_megabytes(pid: int) -> float:
    """Returns the memory that a process holds, from Linux's /proc."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/{pid}/status names no memory")


def requests_of(port: int, metrics: tuple[str, ...], name: str) -> Iterator[bytes]:
    """Yields the requests of one rollout after the other."""
    number = 0
    while True:
        begun = time.time() - 60 * OBSERVATIONS
        seen = [
            {"timestamp": begun + 60 * i, "requests": 500, **dict.fromkeys(metrics, 0.1)}
            for i in range(1, OBSERVATIONS + 1)
        ]
        for n in range(1, OBSERVATIONS + 1):
            body = {"service": name, "rollout": str(number), "observations": seen[:n]}
            content = json.dumps(body).encode()
            head = (
                f"POST /v1/decide HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            yield head.encode() + content
        number += 1


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> None:
    """Sends a request and reads its answer, which must be a decision."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(body.decode())


async def as_fast_as_possible(
    port: int, metrics: tuple[str, ...], seconds: float, n_connections: int
) -> list[float]:
    """Returns the seconds that each request took, every connection waiting for its answer."""
    end = time.perf_counter() + seconds

    async def ask(number: int) -> list[float]:
        reader, writer = await asyncio.open_connection(HOST, port)
        took = []
        for request in requests_of(port, metrics, f"fast-{number}"):
            sent = time.perf_counter()
            if sent > end:
                break
            await exchange(reader, writer, request)
            took.append(time.perf_counter() - sent)
        writer.close()
        return took

    found = await asyncio.gather(*(ask(number) for number in range(n_connections)))
    return [one for many in found for one in many]


async def at_rate(port: int, metrics: tuple[str, ...], seconds: float, rate: float) -> list[float]:
    """Returns the seconds that each request took from when it was due."""
    n_connections = 64
    begun = time.perf_counter() + 0.1

    async def ask(number: int) -> list[float]:
        reader, writer = await asyncio.open_connection(HOST, port)
        took, requests = [], requests_of(port, metrics, f"paced-{number}")
        for i in range(number, int(seconds * rate), n_connections):
            request, due = next(requests), begun + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await exchange(reader, writer, request)
            took.append(time.perf_counter() - due)
        writer.close()
        return took

    found = await asyncio.gather(*(ask(number) for number in range(n_connections)))
    return [one for many in found for one in many]


if __name__ == "__main__":
    main()
