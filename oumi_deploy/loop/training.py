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

"""A challenger, trained by `oumi train` from where the champion stands."""

import os
import shutil
import sys
from pathlib import Path

import oumi_deploy
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.figures.run import POLICY_FILE
from oumi_deploy.loop.ending import run_to_end
from oumi_deploy.loop.folder import POLICY, PRETRAINED

LOG = "training.log"

_LINES = 8
"""Of an error, at most."""

_PLUGIN = Path(oumi_deploy.__file__).parent / "plugin" / "oumi_extra_deps.txt"


def train_challenger(config: Path, champion: Path, episodes: Path, draft: Path) -> None:
    """Trains a challenger.

    Args:
        config: The training config.
        champion: Folder of the champion's version; training goes on from its `pretrained`, if
            there is one.
        episodes: Episode file to train on.
        draft: Empty folder to leave `policy.json`, `pretrained/` and `training.log` in.

    Raises:
        DeployError: If `oumi train` is not there or fails.
        KeyboardInterrupt, SystemExit: If we are told to end; the training has ended then.
    """
    run = draft / "run"
    settings = {
        "data.train.datasets[0].dataset_path": episodes,
        "training.output_dir": run,
        # Nothing goes on from a checkpoint in a folder that is thrown away.
        "training.save_steps": 0,
    }
    if (champion / PRETRAINED).is_dir():
        settings["model.model_name"] = champion / PRETRAINED
        settings["model.load_pretrained_weights"] = True
    command = [_oumi(), "train", "-c", str(config)]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    log = draft / LOG
    plugged_in = {**os.environ, "OUMI_EXTRA_DEPS_FILE": str(_PLUGIN), "DO_NOT_TRACK": "1"}
    status = run_to_end(command, log, plugged_in)
    if status:
        raise DeployError(f"{config}: oumi train ended with {status}: {_last_words(log)}")
    if not (run / POLICY_FILE).is_file():
        raise DeployError(
            f"{config}: oumi train left no policy: trainer_kwargs.trainer must be deployment"
        )
    os.replace(run / POLICY_FILE, draft / POLICY)
    os.replace(run / PRETRAINED, draft / PRETRAINED)
    shutil.rmtree(run)


def _oumi() -> str:
    beside = Path(sys.executable).with_name("oumi")
    found = str(beside) if beside.is_file() else shutil.which("oumi")
    if found is None:
        raise DeployError("there is no `oumi`: pip install 'oumi-deploy[serve,train]'")
    return found


def _last_words(log: Path) -> str:
    """Returns the error that a log ends with, which is wrapped over lines, or its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [" ".join(line.split()) for line in lines if line.strip()] or ["it said nothing"]
    starts = [number for number, line in enumerate(said) if line.startswith("Error:")]
    return " ".join(said[starts[-1] if starts else -1 :][:_LINES])
