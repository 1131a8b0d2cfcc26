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

"""How soon a decision comes after the start of a process, and what the quick start adds to Oumi.

`oumi-deploy decide` is timed beside a process that only imports numpy, and `oumi train` on the
quick start beside one that only imports `oumi.train`, each pair in turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

ROOT = Path(__file__).parents[2]
METRICS = ("error_rate", "memory_usage", "cpu_usage", "health_score")
OBSERVATIONS = json.dumps([dict.fromkeys(METRICS, 0.5)])
RUN = "import sys; from {module} import {function}; sys.exit({function}())"


def small_policy(path: Path) -> None:
    """Writes a policy as the quick start trains it: a table over four metrics."""
    zeros = np.zeros(len(METRICS))
    encoder = StateEncoder(parse_state(METRICS), zeros, zeros + 1, zeros, zeros + 1)
    edges = [np.linspace(0, 1, 7)[1:-1]] * len(METRICS)
    table = np.random.default_rng(0).normal(size=(7 ** len(METRICS), 2))
    policy = DeploymentPolicy(
        encoder=encoder,
        q_function=TableQ(edges, table, np.ones_like(table)),
        form="single",
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
        calibration=None,
    )
    policy.save(path)


def seconds(
    command: list[str], given: str = "", environment: dict[str, str] | None = None
) -> float:
    """Returns the wall time of a command that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    taken = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return taken


def measure_decide(python: str, repeats: int) -> dict[str, Any]:
    """Times `decide` and `import numpy` in turns."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.json"
        small_policy(policy)
        entry = RUN.format(module="oumi_deploy.cli.main", function="main")
        decide = [python, "-c", entry, "decide", "--policy", str(policy)]
        turns = [
            (seconds(decide, OBSERVATIONS), seconds([python, "-c", "import numpy"]))
            for _ in range(repeats)
        ]
    answers, imports = zip(*turns, strict=True)
    return {
        "decide_seconds": _spread(answers),
        "import_numpy_seconds": _spread(imports),
        "ratio": _spread([answer / alone for answer, alone in turns]),
    }


def measure_quick_start(python: str, repeats: int) -> dict[str, Any]:
    """Times the quick start and `import oumi.train` in turns."""
    import oumi_deploy

    plugin = Path(oumi_deploy.__file__).parent / "plugin" / "oumi_extra_deps.txt"
    entry = RUN.format(module="oumi.cli.main", function="run")
    config = ROOT / "configs" / "quickstart" / "train.yaml"
    turns = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            train = ["train", "-c", str(config), "--training.output_dir", folder]
            environment = {"OUMI_EXTRA_DEPS_FILE": str(plugin)}
            total = seconds([python, "-c", entry, *train], environment=environment)
        turns.append((total, seconds([python, "-c", "import oumi.train"])))
    totals, imports = zip(*turns, strict=True)
    return {
        "train_seconds": _spread(totals),
        "import_oumi_train_seconds": _spread(imports),
        "beyond_import_seconds": _spread([total - alone for total, alone in turns]),
    }


def _spread(values: Any) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the python that is started; one with the bare package will do for `decide` "
        "(default: %(default)s)",
    )
    parser.add_argument("--repeats", type=int, default=10, help="turns of `decide`")
    parser.add_argument(
        "--quick-start-repeats", type=int, default=3, help="turns of the quick start, 0 for none"
    )
    args = parser.parse_args()
    result = measure_decide(args.python, args.repeats)
    if args.quick_start_repeats:
        result |= measure_quick_start(args.python, args.quick_start_repeats)
    print(json.dumps(result, indent=1) if args.json else _as_text(result))


def _as_text(result: dict[str, Any]) -> str:
    lines = ["median (least to most of the turns)"]
    for name, spread in result.items():
        numbers = f"{spread['median']:.3f} ({spread['low']:.3f} to {spread['high']:.3f})"
        lines.append(f"  {name.replace('_', ' '):28s} {numbers}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
