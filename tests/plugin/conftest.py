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

"""Runs of `oumi train`: one through its command line, the others in this process."""

import functools
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"

# Before anything imports Oumi: no usage report is sent, and no plugin is loaded by file.
os.environ["DO_NOT_TRACK"] = "1"


ABSENT = "take it out"


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested mappings merged; a list replaces a list, ABSENT takes a name out."""
    merged = deepcopy(dict(base))
    for name, value in changes.items():
        if value == ABSENT:
            merged.pop(name, None)
            continue
        nested = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if nested else deepcopy(value)
    return merged


def one_sample(count: int, seed: int) -> dict[str, Any]:
    """Returns a split of one generated dataset."""
    sample = {"generate": {"count": count, "seed": seed}}
    return {"datasets": [{"dataset_name": "deployment_episodes", "dataset_kwargs": sample}]}


@pytest.fixture(scope="session")
def generated() -> Callable[[int, int], dict[str, Any]]:
    return one_sample


@dataclass(frozen=True)
class Run:
    """What a training run left."""

    folder: Path
    metrics: Any = None

    @property
    def weights(self) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.folder / "pretrained" / "model.safetensors")

    def same_as(self, other: "Run") -> bool:
        """Whether all weights are equal, bit by bit."""
        mine, theirs = self.weights, other.weights
        return mine.keys() == theirs.keys() and all(mine[name].equal(theirs[name]) for name in mine)


@pytest.fixture(scope="session")
def oumi() -> Any:
    """Oumi with the plugin, imported once."""
    import oumi.core.configs
    import oumi.train
    from oumi.core.distributed import set_random_seeds
    from oumi.exceptions import OumiConfigError

    import oumi_deploy.plugin.register  # noqa: F401

    # Oumi collects garbage in every run, and all these modules will never be any.
    gc.collect()
    gc.freeze()
    return SimpleNamespace(
        configs=oumi.core.configs,
        train=oumi.train.train,
        set_random_seeds=set_random_seeds,
        ConfigError=OumiConfigError,
    )


BASE = {
    "model": {"load_pretrained_weights": False, "torch_dtype_str": "float32"},
    "data": {"train": one_sample(60, 1)},
    "training": {
        "trainer_type": "OUMI",
        "trainer_kwargs": {"trainer": "deployment"},
        "max_steps": 12,
        "save_steps": 5,
        "logging_steps": 5,
        "enable_tensorboard": False,
    },
}
KINDS = {
    "table": {
        "model": {"model_name": "deployment:table", "model_kwargs": {"bins": 3}},
        "training": {"learning_rate": 0.3},
    },
    "network": {
        "model": {"model_name": "deployment:network", "model_kwargs": {"hidden_sizes": [8]}},
        "training": {
            "learning_rate": 0.01,
            "per_device_train_batch_size": 32,
            "trainer_kwargs": {"target_update_steps": 3},
        },
    },
}


@pytest.fixture
def train(oumi, tmp_path) -> Callable[..., Run]:
    """Trains as `oumi train` does: `train("table", {"training": {...}}, out="a")`."""

    def run(kind: str, changes: Any = None, out: str = "run", **more: Any) -> Run:
        folder = tmp_path / out
        plain = merge(merge(BASE, KINDS[kind]), {"training": {"output_dir": str(folder)}})
        path = tmp_path / f"{out.replace('/', '-')}.yaml"
        path.write_text(yaml.safe_dump(merge(plain, changes or {})), encoding="utf-8")
        config = oumi.configs.TrainingConfig.from_yaml_and_arg_list(str(path), [])
        config.finalize_and_validate()
        oumi.set_random_seeds(config.training.seed, config.training.use_deterministic)
        return Run(folder, oumi.train(config, **more))

    return run


@pytest.fixture(scope="session")
def train_config(oumi, tmp_path_factory) -> Callable[[str], Path]:
    """Trains one of the configs as it is, once, and returns the folder that it left."""

    @functools.cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        path = CONFIGS / name / "train.yaml"
        config = oumi.configs.TrainingConfig.from_yaml_and_arg_list(
            str(path), [f"training.output_dir={folder}"]
        )
        config.finalize_and_validate()
        oumi.set_random_seeds(config.training.seed, config.training.use_deterministic)
        oumi.train(config)
        return folder

    return run


@pytest.fixture(scope="session")
def command(environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs an installed command to its end: `command("oumi", "train", ..., cwd=folder)`."""

    def run(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / name, *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of commands, with the plugin where `plugin-file` says it is."""
    plugin = subprocess.run(
        [Path(sys.executable).parent / "oumi-deploy", "plugin-file"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        **os.environ,
        "OUMI_EXTRA_DEPS_FILE": plugin.stdout.strip(),
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What Oumi's logger was asked to warn of; a run replaces its handlers, pytest's among them."""
    said: list[str] = []

    def listen(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return True

    logger = logging.getLogger("oumi")
    logger.addFilter(listen)
    yield said
    logger.removeFilter(listen)


@dataclass(frozen=True)
class Quickstart:
    """The folder in which `oumi train` has run the quick start, and a run that was refused."""

    folder: Path
    refused: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory, command) -> Quickstart:
    """Runs the quick start, and beside it, in another folder, one that is misspelt."""

    def run(*changes: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        folder = tmp_path_factory.mktemp("quickstart")
        (folder / "configs").symlink_to(CONFIGS)
        train = "oumi", "train", "-c", "configs/quickstart/train.yaml"
        return folder, command(*train, *changes, cwd=folder)

    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(run)
        bad = pool.submit(run, "--training.trainer_kwargs.fomr", "single")
    folder, done = good.result()
    assert done.returncode == 0, done.stdout + done.stderr
    return Quickstart(folder, bad.result()[1])
