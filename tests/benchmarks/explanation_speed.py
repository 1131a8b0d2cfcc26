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

"""How long an explanation takes, beside the decision that it explains.

Generated rollouts are looked at after each number of observations given. `explain_rollout` explains
the newest observation of a rollout under way; `explain` reads the rollout first, as `decide` does.

    oumi train -c configs/neural/train.yaml
    python tests/benchmarks/explanation_speed.py --policy output/neural/deployment_policy_model.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.policy.explain import explain, explain_rollout

Rows = list[dict[str, Any]]


def rollouts(episodes: Episodes, n_canary: int) -> Iterator[Rows]:
    """Yields the observations of those rollouts that are so long, up to that canary observation."""
    for at in np.flatnonzero(episodes.canary_lengths >= n_canary):
        start, n_baseline = int(episodes.offsets[at]), int(episodes.baseline_lengths[at])
        yield [
            {name: float(column[start + row]) for name, column in episodes.numbers.items()}
            | {"phase": "baseline" if row < n_baseline else "canary"}
            for row in range(n_baseline + n_canary)
        ]


def milliseconds(call: Callable[[], Any]) -> float:
    """Returns the wall time of one call."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def measure(policy: DeploymentPolicy, episodes: Episodes, n_canary: int) -> dict[str, Any]:
    """Times each rollout once, the three calls in turns."""
    times: dict[str, list[float]] = {"explain_rollout": [], "explain": [], "decide": []}
    for rows in rollouts(episodes, n_canary):
        under_way = policy.begin()
        under_way.observe_all(rows)
        times["explain_rollout"].append(milliseconds(lambda r=under_way: explain_rollout(r)))
        times["explain"].append(milliseconds(lambda rows=rows: explain(policy, rows)))
        times["decide"].append(milliseconds(lambda rows=rows: policy.decide(rows)))
    return {name: _spread(values) for name, values in times.items()}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, type=Path, help="policy file")
    parser.add_argument("--episodes", type=int, default=300, help="generated releases")
    parser.add_argument(
        "--observations", type=int, nargs="+", default=[1, 5, 15], help="canary observations"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    policy = DeploymentPolicy.load(args.policy)
    episodes = generate_sample(args.episodes, seed=5)
    result = {str(n): measure(policy, episodes, n) for n in args.observations}
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{len(policy.encoder.metrics)} metrics; milliseconds, median (least to most)")
    for n, calls in result.items():
        for name, spread in calls.items():
            spread_text = f"{spread['low']:.2f} to {spread['high']:.2f}"
            print(f"  {n:>3s} observations  {name:16s} {spread['median']:.2f} ({spread_text})")


if __name__ == "__main__":
    main()
