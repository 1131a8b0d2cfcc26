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

"""How long one decision takes: the next observation of a rollout under way, and a whole prefix.

Untrained policies of the shape that `configs/tabular` and `configs/neural` train, calibrated,
decide on made-up rollouts that report every metric of both versions and their requests. A decision
takes as long whatever the weights are. Nothing is explained.

    python tests/benchmarks/decision_speed.py
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.schema import CONTROL
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.qfunctions import NetworkQ, QFunction, TableQ
from oumi_deploy.problem.bins import make_edges, table_shape
from oumi_deploy.problem.encoder import StateEncoder, encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import Rewards

CONFIGS = Path(__file__).parents[2] / "configs"
RATES = {"error_rate": 0.01, "memory_usage": 0.5, "cpu_usage": 0.4, "health_score": 0.98}
"""Where the made-up values of each metric lie."""

Rows = list[dict[str, Any]]


def untrained_policy(
    name: str, episodes: Episodes, random: np.random.Generator
) -> DeploymentPolicy:
    """Returns a calibrated policy of the state and the shape that a config trains."""
    config = yaml.safe_load((CONFIGS / name / "train.yaml").read_text(encoding="utf-8"))
    shape = config["model"]["model_kwargs"]
    encoder = fit_encoder(config["training"]["trainer_kwargs"]["state"], episodes)
    if "bins" in shape:
        q_function = _table(encoder, episodes, shape["bins"], random)
    else:
        q_function = _network((encoder.n_inputs, *shape["hidden_sizes"], 2), random)
    return DeploymentPolicy(
        encoder, q_function, "sequential", Rewards(), 1.0, {}, {}, Calibration(0.0, 1.0)
    )


def _table(
    encoder: StateEncoder, episodes: Episodes, n_bins: int, random: np.random.Generator
) -> QFunction:
    features = encode_episodes(encoder.state, episodes)
    edges = make_edges(encoder.names, features, n_bins, {})
    values = random.uniform(-50, 50, size=(int(np.prod(table_shape(edges))), 2))
    return TableQ(edges, values, np.ones_like(values))


def _network(sizes: Sequence[int], random: np.random.Generator) -> QFunction:
    layers = [
        (random.normal(scale=n_in**-0.5, size=(n_out, n_in)), random.normal(size=n_out))
        for n_in, n_out in pairwise(sizes)
    ]
    return NetworkQ([*layers[:-1], (20 * layers[-1][0], layers[-1][1])])


def rollouts(n: int, length: int, random: np.random.Generator) -> list[Rows]:
    """Returns the observations of n rollouts, every column reported."""
    return [[_row(step, length, random) for step in range(length)] for _ in range(n)]


def _row(step: int, length: int, random: np.random.Generator) -> dict[str, Any]:
    told = {
        prefix + name: min(rate * float(random.uniform(0.8, 1.2)), 1.0)
        for prefix in ("", CONTROL)
        for name, rate in RATES.items()
    }
    return {
        **told,
        "timestamp": 1.8e9 + 60.0 * step,
        "phase": "canary",
        "planned_steps": length,
        "canary_share": (step + 1) / length,
        "requests": float(random.integers(100, 10_000)),
    }


def next_observations(policy: DeploymentPolicy, releases: list[Rows]) -> list[float]:
    """Returns the microseconds that each rollout's last observation takes, the others held."""
    held = [policy.begin() for _ in releases]
    for rollout, rows in zip(held, releases, strict=True):
        rollout.observe_all(rows[:-1])
    times = []
    for rollout, rows in zip(held, releases, strict=True):
        newest = rows[-1]
        started = time.perf_counter()
        rollout.observe(newest)
        rollout.decide()
        times.append(1e6 * (time.perf_counter() - started))
    return times


def whole_prefixes(policy: DeploymentPolicy, releases: list[Rows]) -> list[float]:
    """Returns the microseconds that each rollout takes from its mappings to the answer."""
    times = []
    for rows in releases:
        started = time.perf_counter()
        policy.decide(rows)
        times.append(1e6 * (time.perf_counter() - started))
    return times


def measure(n_rollouts: int, length: int, repeats: int) -> dict[str, Any]:
    """Times both policies in turns: by policy and call, the median, least and most of the turns.

    A turn's time is the median over its rollouts.
    """
    random = np.random.default_rng(0)
    episodes = generate_sample(500, seed=1)
    policies = {name: untrained_policy(name, episodes, random) for name in ("tabular", "neural")}
    releases = rollouts(n_rollouts, length, random)
    calls = {"next observation": next_observations, "whole prefix": whole_prefixes}
    turns: dict[tuple[str, str], list[float]] = {(p, c): [] for p in policies for c in calls}
    for _ in range(repeats):
        for policy, call in turns:
            times = calls[call](policies[policy], releases)
            turns[policy, call].append(statistics.median(times))
    return {policy: {call: _spread(turns[policy, call]) for call in calls} for policy in policies}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rollouts", type=int, default=500, help="rollouts in each turn")
    parser.add_argument("--observations", type=int, default=20, help="length of a rollout")
    parser.add_argument("--repeats", type=int, default=11, help="turns of each measurement")
    args = parser.parse_args()
    result = measure(args.rollouts, args.observations, args.repeats)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{args.observations} observations; microseconds, median (least to most) of the turns")
    for policy, calls in result.items():
        for call, spread in calls.items():
            spread_text = f"{spread['low']:.1f} to {spread['high']:.1f}"
            print(f"  {policy:8s} {call:16s} {spread['median']:.1f} ({spread_text})")


if __name__ == "__main__":
    main()
