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

"""Kills a night of learning before each step, and before each change to the loop's folder.

    python killed_nights.py TEMPLATE LOG CHALLENGER FOLDER

Prints a JSON object a line: `step`, what was about to happen; `champion`, whom the folder then
names; `history`, the champion that the history ends with once it has been settled. The last line is
of the run that nothing killed. Everything is imported once, and every night is a fork.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oumi_deploy.loop import night
from oumi_deploy.loop.folder import LoopFolder
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.serving.policies import read_versioned

STEPS = ("gather", "train_challenger", "calibrate", "judge")
PLACE = {"replace": 1, "symlink": 1, "mkdir": 0, "unlink": 0}
"""Which argument of a function of `os` names what it changes."""


def main(template: Path, log: str, challenger: Path, folder: Path) -> None:
    k = 0
    killed = True
    while killed:
        loop = folder / str(k)
        shutil.copytree(template, loop, symlinks=True)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            run(loop, log, challenger, k, writer)
            os._exit(0)
        os.close(writer)
        step = os.read(reader, 1000).decode() or "end"
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        print(json.dumps({"step": step, **left_by(LoopFolder(loop))}), flush=True)
        k += 1


def left_by(loop: LoopFolder) -> dict[str, Any]:
    served, champion = read_versioned(loop.path / "policy.json"), loop.champion
    assert served.version == loop.about(champion)["policy_version"]
    with loop.locked():
        loop.settle()
    return {"champion": champion, "history": loop.history()[-1]["champion"]}


def run(loop: Path, log: str, challenger: Path, k: int, writer: int) -> None:
    n_done = 0

    def lasts(path: Any) -> bool:
        return str(path).startswith(f"{loop}/") and not str(path).startswith(f"{loop}/work/")

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal n_done
            if name in PLACE and not lasts(args[PLACE[name]]):
                return function(*args, **kwargs)
            if n_done == k:
                os.write(writer, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            n_done += 1
            return function(*args, **kwargs)

        return call

    def train(config: Path, champion: Path, episodes: Path, draft: Path) -> None:
        DeploymentPolicy.load(challenger).save(draft / "policy.json")

    night.train_challenger = train
    for name in STEPS:
        setattr(night, name, counted(name, getattr(night, name)))
    for name in PLACE:
        setattr(os, name, counted(name, getattr(os, name)))
    night.learn(LoopFolder(loop), log)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
