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
full. The service's own CPU time beside it tells a busy machine from a slow service.

All of these releases fail, side by side in one environment, so that each of several hundred is
compared with all others: the worst there is. `--apart` puts each into an environment of its own.

Starts are timed as users see them, with bytecode of what is imported; the first one, which makes
it, is told apart.

    python tests/benchmarks/service_speed.py --policy output/neural/deployment_policy_model.json
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oumi_deploy import DeploymentPolicy

OBSERVATIONS = 20
HOST = "127.0.0.1"


class Service(NamedTuple):
    """A service that runs.

    Attributes:
        port: Where.
        pid: Its process.
        start_up: Seconds from the start of the process to the first connection.
    """

    port: int
    pid: int
    start_up: float


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
    parser.add_argument("--apart", action="store_true", help="compare no release with another")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = time_starts(args, Path(folder)) | time_answers(args, Path(folder))
    if args.json:
        print(json.dumps(result))
        return
    print("\n".join(f"{name:42} {value:10.2f}" for name, value in result.items()))


def time_starts(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Returns the seconds of a first start, of one with a new log, and with one that is there."""
    new = [f"sqlite:///{folder}/{name}.db" for name in ("first", "second")]
    logs = {
        "start-up, nothing compiled yet, s": new[0],
        "start-up, new log, s": new[1],
        "start-up, log that is there, s": args.log or new[1],
    }
    result = {}
    for name, log in logs.items():
        with running(args.policy, log, folder) as service:
            result[name] = service.start_up
    return result


def time_answers(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Returns the figures under load by name."""
    metrics = DeploymentPolicy.load(args.policy).encoder.metrics
    with running(args.policy, args.log or f"sqlite:///{folder}/log.db", folder) as service:
        load = Load(service.port, metrics, args.apart)
        before = cpu_seconds(service.pid)
        at_once = asyncio.run(load.as_fast_as_possible(args.seconds, args.connections))
        spent = cpu_seconds(service.pid) - before
        paced = np.array(asyncio.run(load.at_rate(args.seconds, args.rate)))
        memory = resident_megabytes(service.pid)
    return {
        "decisions a second": len(at_once) / args.seconds,
        "CPU of the service, ms a decision": spent / len(at_once) * 1e3,
        "median at full load, ms": float(np.median(at_once) * 1e3),
        f"median at {args.rate:g} a second, ms": float(np.median(paced) * 1e3),
        f"p99 at {args.rate:g} a second, ms": float(np.quantile(paced, 0.99) * 1e3),
        f"slowest at {args.rate:g} a second, ms": float(paced.max() * 1e3),
        "resident memory, MB": memory,
    }


@contextlib.contextmanager
def running(policy: Path, log: str, folder: Path) -> Iterator[Service]:
    """Runs a service; its bytecode goes into the folder, and it finds there what is in it."""
    port, program = free_port(), Path(sys.executable).parent / "oumi-deploy"
    command = [program, "serve", "--policy", policy, "--log", log, "--port", str(port)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    with (folder / "said").open("w") as said:
        # Rollouts here grow faster than time: a long interval, so that none looks late.
        command += ["--max-rate", "1e6", "--interval", "3600"]
        process = subprocess.Popen(command, stderr=said, env=environment)
    try:
        wait_for(port, process, folder / "said")
        yield Service(port, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """Returns a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, said: Path) -> None:
    """Waits until the service answers; if it ends instead, says what it said."""
    for _ in range(6000):
        if process.poll() is not None:
            raise SystemExit(said.read_text())
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


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has taken, from Linux's /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


class Load(NamedTuple):
    """Callers of a service.

    Attributes:
        port: Where it listens.
        metrics: What they report.
        apart: Whether every rollout is in an environment of its own.
    """

    port: int
    metrics: tuple[str, ...]
    apart: bool

    def requests_of(self, name: str) -> Iterator[bytes]:
        """Yields the requests of one rollout after the other."""
        number = 0
        while True:
            begun = time.time() - 60 * OBSERVATIONS
            seen = [
                {"timestamp": begun + 60 * i, "requests": 500, **dict.fromkeys(self.metrics, 0.1)}
                for i in range(1, OBSERVATIONS + 1)
            ]
            named = {"service": name, "rollout": str(number)}
            named["environment"] = f"{name} {number}" if self.apart else ""
            for n in range(1, OBSERVATIONS + 1):
                content = json.dumps({**named, "observations": seen[:n]}).encode()
                head = (
                    f"POST /v1/decide HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                yield head.encode() + content
            number += 1

    async def as_fast_as_possible(self, seconds: float, n_connections: int) -> list[float]:
        """Returns the seconds that each request took, every connection waiting for its answer."""
        end = time.perf_counter() + seconds

        async def ask(number: int) -> list[float]:
            reader, writer = await asyncio.open_connection(HOST, self.port)
            took = []
            for request in self.requests_of(f"fast-{number}"):
                sent = time.perf_counter()
                if sent > end:
                    break
                await exchange(reader, writer, request)
                took.append(time.perf_counter() - sent)
            writer.close()
            return took

        found = await asyncio.gather(*(ask(number) for number in range(n_connections)))
        return [one for many in found for one in many]

    async def at_rate(self, seconds: float, rate: float) -> list[float]:
        """Returns the seconds that each request took from when it was due."""
        n_connections = 64
        begun = time.perf_counter() + 0.1

        async def ask(number: int) -> list[float]:
            reader, writer = await asyncio.open_connection(HOST, self.port)
            took, requests = [], self.requests_of(f"paced-{number}")
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
