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

"""A program that does not outlive us: told to end, we end it first, with all that it started."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_LOOK = 0.1
"""Seconds between two looks at whether we were told to end."""

_PATIENCE = 10.0
"""Seconds that the program has to end in."""


def run_to_end(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> int:
    """Runs a program to its end, or to ours.

    Args:
        command: Program and arguments.
        output: File for what it says.
        environment: Its environment.

    Returns:
        Its exit status.

    Raises:
        KeyboardInterrupt: If we got SIGINT; the program has ended.
        SystemExit: If we got SIGTERM or SIGHUP, with 128 and the signal's number; likewise.
    """
    with _told_to_end() as told, output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        try:
            while process.poll() is None and not told:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
        finally:
            if process.poll() is None:
                _end(process)
    if signal.SIGINT in told:
        raise KeyboardInterrupt
    if told:
        raise SystemExit(128 + told[0])
    return process.returncode


@contextlib.contextmanager
def _told_to_end() -> Iterator[list[int]]:
    """Yields a list of the signals that came in; those that were ignored still are."""
    told: list[int] = []
    before = {}
    # Elsewhere Python takes no signals.
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, _: told.append(number))
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a program and all of its group, by force if it takes too long."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
