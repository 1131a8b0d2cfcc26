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

"""How fast the two Q-functions learn from logged episodes, on one core.

The neural inner loop (`Replay`, `DQN.update`, torch's fused AdamW and a learning-rate schedule, as
the trainer drives them) runs in turns with a bare PyTorch double-DQN loop, so that both meet the
same disturbances. The tabular one is timed alone.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.schema import STANDARD_METRICS
from oumi_deploy.learning.dqn import DQN, DQNRule
from oumi_deploy.learning.learners import LoggedNetwork, LoggedTable
from oumi_deploy.learning.network import QNetwork
from oumi_deploy.learning.replay import Replay
from oumi_deploy.learning.table import ReplayedTable
from oumi_deploy.learning.transitions import Transitions, make_transitions
from oumi_deploy.problem.bins import cells, make_edges, table_shape
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import Rewards

TWELVE_STEPS = {"baseline_steps": [0, 0], "canary_steps": [12, 12]}
HIDDEN = 64
SCALE = 200.0
RATE = 1e-3
BOUNDS = Bounds.of(Rewards(), 12)
SIGNS = np.array([1, 1, 1, -1])
"""Health is worse when it falls."""
TARGET_STEPS = 100

Step = Callable[[], object]


def our_loop(inputs: np.ndarray, transitions: Transitions, batch_size: int) -> Step:
    """Returns a gradient step as the trainer does it, with the trainer's defaults."""
    network = QNetwork(SIGNS, (HIDDEN, HIDDEN), BOUNDS, SCALE)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + 1e-5 * step))
    rule = DQNRule(target_update_steps=TARGET_STEPS)
    replay = Replay(inputs, transitions, batch_size, SCALE, seed=0)
    learner = LoggedNetwork([DQN(network, rule, optimizer.step)], replay, optimizer.step)

    def step() -> None:
        learner.step(0, float(schedule.get_last_lr()[0]), 0.0)
        schedule.step()

    return step


def bare_loop(inputs: np.ndarray, transitions: Transitions, batch_size: int) -> Step:
    """Returns a gradient step of double DQN as one writes it in PyTorch with care for speed."""
    n_inputs = inputs.shape[1]
    online, target = _bare_network(n_inputs), _bare_network(n_inputs)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), RATE, fused=True)
    rows = _packed_rows(inputs, transitions)
    n_steps = 0

    def step() -> None:
        nonlocal n_steps
        batch = rows[torch.randint(len(rows), (batch_size,))]
        states, following = batch[:, :n_inputs], batch[:, n_inputs : 2 * n_inputs]
        with torch.no_grad():
            best = online(following).argmax(1, keepdim=True)
            value = target(following).gather(1, best)
            goal = batch[:, -2:-1] + batch[:, -1:] * value
        taken = online(states).gather(1, batch[:, -3:-2].long())
        loss = nn.functional.smooth_l1_loss(taken, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        n_steps += 1
        if n_steps % TARGET_STEPS == 0:
            target.load_state_dict(online.state_dict())

    return step


def _bare_network(n_inputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n_inputs, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, 2),
    )


def _packed_rows(inputs: np.ndarray, transitions: Transitions) -> torch.Tensor:
    """Returns (state, next state, action, reward, discount) of one random action a decision."""
    action = np.random.default_rng(0).integers(0, 2, len(transitions))
    reward = np.where(action, transitions.rollback_reward, transitions.continue_reward) / SCALE
    discount = np.where(action, 0.0, transitions.continue_discount)
    columns = [inputs, inputs[transitions.next_decision], action, reward, discount]
    return torch.from_numpy(np.column_stack(columns).astype(np.float32))


def timed(step: Step, n_steps: int) -> tuple[float, float]:
    """Returns the seconds of wall and of processor that some steps took."""
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(n_steps):
        step()
    return time.perf_counter() - wall, time.process_time() - used


def compare(
    inputs: np.ndarray, transitions: Transitions, batch_size: int, n_steps: int, repeats: int
) -> dict[str, Any]:
    """Times both loops in turns.

    Returns:
        Steps per second of wall time of both, and how many times faster ours is by wall and by
        processor time: median, least and most of the turns.
    """
    ours, bare = (make(inputs, transitions, batch_size) for make in (our_loop, bare_loop))
    for step in (ours, bare):
        timed(step, n_steps)
    turns = [(timed(ours, n_steps), timed(bare, n_steps)) for _ in range(repeats)]
    return {
        "batch_size": batch_size,
        "ours_steps_per_second": _spread([n_steps / own[0] for own, _ in turns]),
        "bare_steps_per_second": _spread([n_steps / other[0] for _, other in turns]),
        "ratio_wall": _spread([other[0] / own[0] for own, other in turns]),
        "ratio_processor": _spread([other[1] / own[1] for own, other in turns]),
    }


def tabular(episodes: Episodes, transitions: Transitions, repeats: int) -> dict[str, Any]:
    """Times 100 passes of expected backups over all decisions, with their preparation."""
    state = fit_encoder(STANDARD_METRICS, episodes).state
    features = encode_episodes(state, episodes)
    edges = make_edges(STANDARD_METRICS, features, 5, {})
    of = cells(edges, features)
    n_cells = int(np.prod(table_shape(edges)))

    def hundred_passes() -> None:
        table, counts = (np.zeros((n_cells, 2), dtype=np.float32) for _ in range(2))
        learner = LoggedTable(ReplayedTable(table, counts, of, transitions))
        for number in range(100):
            learner.step(number, 0.5, 0.0)

    times = [timed(hundred_passes, 1) for _ in range(repeats)]
    return {
        "decisions": len(transitions),
        "cells": n_cells,
        "seconds_wall": _spread([wall for wall, _ in times]),
        "seconds_processor": _spread([used for _, used in times]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(n_episodes: int, repeats: int) -> dict[str, Any]:
    """Runs the whole benchmark on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    episodes = generate_sample(n_episodes, 1, TWELVE_STEPS)
    transitions = make_transitions(episodes, Rewards(), "sequential")
    encoder = fit_encoder(STANDARD_METRICS, episodes)
    # The values without the marks of missing ones: four inputs, as in others' figures.
    inputs = encoder.standardise(encode_episodes(encoder.state, episodes))[:, :4].copy()
    return {
        "neural": [
            compare(inputs, transitions, batch_size, n_steps, repeats)
            for batch_size, n_steps in ((256, 500), (4096, 60))
        ],
        "tabular": tabular(episodes, transitions, repeats),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--episodes", type=int, default=10_000, help="twelve-step episodes")
    parser.add_argument("--repeats", type=int, default=11, help="turns of each measurement")
    args = parser.parse_args()
    result = measure(args.episodes, args.repeats)
    print(json.dumps(result, indent=1) if args.json else _as_text(result))


def _as_text(result: dict[str, Any]) -> str:
    def show(spread: dict[str, float], form: str) -> str:
        low, high = format(spread["low"], form), format(spread["high"], form)
        return f"{format(spread['median'], form)} ({low} to {high})"

    lines = ["median (least to most of the turns)"]
    for neural in result["neural"]:
        lines += [
            f"neural, batch {neural['batch_size']}, gradient steps a second",
            f"  ours                {show(neural['ours_steps_per_second'], ',.0f')}",
            f"  bare PyTorch        {show(neural['bare_steps_per_second'], ',.0f')}",
            f"  ratio, wall         {show(neural['ratio_wall'], '.2f')}",
            f"  ratio, processor    {show(neural['ratio_processor'], '.2f')}",
        ]
    table = result["tabular"]
    lines += [
        f"tabular, 100 passes over {table['decisions']:,} decisions and {table['cells']:,} cells",
        f"  seconds, wall       {show(table['seconds_wall'], '.3f')}",
        f"  seconds, processor  {show(table['seconds_processor'], '.3f')}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
