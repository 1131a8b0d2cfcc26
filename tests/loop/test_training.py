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
"""A night that is ended while `oumi train` runs, with a stand-in for it and real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NIGHT = """
import sys
from oumi_deploy.cli.main import main
from oumi_deploy.loop import training

training._oumi = lambda: sys.argv[1]
sys.exit(main(sys.argv[2:]))
"""

# Two processes that do not end by themselves; the second starts as a training's helpers do.
STAND_IN = """#!{python}
import os, signal, sys, time
from pathlib import Path

if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = os.fork()
place = Path({pids!r}) / str(os.getpid())
place.touch()
while True:
    time.sleep(0.1)
"""


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def heed_signals() -> None:
    """Undoes what a test run started in the background, or by nohup, hands on."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(holds) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="there is no /proc")
@pytest.mark.parametrize(
    ("number", "status", "stubborn"),
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGTERM, 143, True),
        (signal.SIGINT, 130, False),
        (signal.SIGHUP, 129, False),
    ],
)
def test_training_ends_with_the_night(
    loop, make_log, drifted_log, tmp_path, monkeypatch, number, status, stubborn
):
    pids, elsewhere = tmp_path / "pids", tmp_path / "elsewhere"
    pids.mkdir()
    elsewhere.mkdir()
    stand_in = tmp_path / "oumi"
    stand_in.write_text(STAND_IN.format(python=sys.executable, pids=str(pids), stubborn=stubborn))
    stand_in.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    log = make_log(drifted_log())
    words = ["learn", "--loop", loop.path, "--log", log, *(["--dry-run"] if stubborn else [])]
    night = subprocess.Popen(
        [sys.executable, "-c", NIGHT, stand_in, *words], preexec_fn=heed_signals
    )
    trainings = []
    try:
        wait_until(lambda: len(list(pids.iterdir())) == 2)
        trainings = [int(path.name) for path in pids.iterdir()]
        assert all(map(is_there, trainings))
        night.send_signal(number)
        assert night.wait(60) == status
        wait_until(lambda: not any(map(is_there, trainings)))
        assert loop.champion == 1
        # Nothing half-made stays behind, here or where a dry run works.
        assert not (loop.path / "work").exists()
        assert not list(elsewhere.iterdir())
        with loop.locked():
            pass
    finally:
        night.kill()
        night.wait()
        for pid in filter(is_there, trainings):
            os.kill(pid, signal.SIGKILL)
