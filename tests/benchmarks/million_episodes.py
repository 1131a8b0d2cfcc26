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

"""Time and memory that one million twelve-step episodes take.

Seconds from the path of a Parquet file to one Arrow row an episode, seconds of validating it, and
the largest memory of a tabular and of a neural training on it. Each runs in a process of its own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[2] / "configs"
METRICS = ("error_rate", "memory_usage", "cpu_usage", "health_score")
STATES = {
    "tabular": None,
    "neural": METRICS,
    "neural_history": (*METRICS, *(f"{m}.{h}" for m in METRICS for h in ("mean", "max", "slope"))),
}
"""State of each training, None for the config's own."""


def generate(folder: Path, count: int) -> Path:
    """Returns a file of twelve-step episodes, made where it is not there yet."""
    from oumi_deploy.episodes.generator import DEFAULTS, write_episodes

    path = folder / f"twelve-steps-{count}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        parameters = replace(DEFAULTS, baseline_steps=(0, 0), canary_steps=(12, 12))
        write_episodes(path, count, 1, parameters)
    return path


def measure_rows(path: Path) -> dict[str, float]:
    """Times the way from the file to the rows, and its parts."""
    from oumi_deploy.episodes import packed
    from oumi_deploy.episodes.rows import to_rows
    from oumi_deploy.episodes.table import read_columns

    laps = [time.perf_counter()]
    columns = read_columns(path)
    laps.append(time.perf_counter())
    problems = packed.find_problems(columns)
    laps.append(time.perf_counter())
    assert not problems
    # Packing validates first, which has just been timed apart.
    packed.find_problems = lambda columns: []
    episodes = packed.episodes_of_columns(columns, source=str(path))
    laps.append(time.perf_counter())
    rows = to_rows(episodes, METRICS)
    laps.append(time.perf_counter())
    assert rows.num_rows == len(episodes)
    read, validated, packing, rowing = (b - a for a, b in pairwise(laps))
    return {
        "path_to_rows_seconds": read + packing + rowing,
        "reading_seconds": read,
        "packing_seconds": packing,
        "rows_seconds": rowing,
        "validation_seconds": validated,
    }


def measure_training(path: Path, kind: str) -> dict[str, float]:
    """Trains as `oumi train` does, for a few steps."""
    import oumi.train
    from oumi.core.configs import TrainingConfig

    import oumi_deploy.plugin.register  # noqa: F401

    family = kind.partition("_")[0]
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig.from_yaml(str(CONFIGS / family / "train.yaml"))
        dataset = config.data.train.datasets[0]
        dataset.dataset_path, dataset.dataset_kwargs = str(path), {"metrics": list(METRICS)}
        config.data.validation.datasets = []
        settings = config.training
        settings.output_dir, settings.enable_tensorboard = folder, False
        settings.max_steps, settings.logging_steps, settings.save_steps = 20, 20, 20
        settings.eval_steps, settings.eval_strategy = 0, "no"
        if (state := STATES[kind]) is not None:
            settings.trainer_kwargs["state"] = list(state)
        config.finalize_and_validate()
        started = time.perf_counter()
        oumi.train.train(config)
        return {"seconds": time.perf_counter() - started}


def run_apart(path: Path, what: str) -> dict[str, float]:
    """Runs one measurement in a fresh process and adds the most memory it held."""
    command = [sys.executable, __file__, "--measure", what, "--file", str(path)]
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_one(path: Path, what: str) -> dict[str, float]:
    """Runs one measurement here."""
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "rows": lambda: measure_rows(path),
        **{kind: lambda kind=kind: measure_training(path, kind) for kind in STATES},
    }
    figures = measures[what]()
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return figures | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


def measure(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Runs the whole benchmark."""
    path = generate(folder, count)
    runs = [run_apart(path, "rows") for _ in range(repeats)]
    rows = {
        name: {
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
        }
        for name in runs[0]
        if (values := [run[name] for run in runs])
    }
    return {"episodes": count, "rows": rows, **{kind: run_apart(path, kind) for kind in STATES}}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "oumi_deploy_benchmarks",
        help="where the episodes are kept from one run to the next (default: %(default)s)",
    )
    parser.add_argument("--episodes", type=int, default=1_000_000, help="twelve-step episodes")
    parser.add_argument("--repeats", type=int, default=5, help="turns of reading the file")
    parser.add_argument("--measure", choices=["rows", *STATES], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_one(args.file, args.measure)))
        return
    result = measure(args.folder, args.episodes, args.repeats)
    print(json.dumps(result, indent=1) if args.json else _as_text(result))


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{result['episodes']:,} twelve-step episodes; median (least to most of the turns)"]
    for name, spread in result["rows"].items():
        numbers = f"{spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"
        lines.append(f"  {name.replace('_', ' '):22s} {numbers}")
    for kind in STATES:
        figures = result[kind]
        lines.append(
            f"{kind.replace('_', ', ')} training: at most {figures['peak_gb']:.2f} GB, "
            f"{figures['seconds']:.0f} s with 20 steps"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
