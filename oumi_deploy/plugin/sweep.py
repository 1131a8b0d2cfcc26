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

"""`oumi-deploy sweep`: compares settings of the algorithm over grouped folds.

`oumi tune` searches Oumi's own training parameters; it cannot reach into `trainer_kwargs`.
"""

import argparse
import itertools
import json
import sys
from contextlib import redirect_stdout
from math import inf
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.folds import assign_folds
from oumi_deploy.plugin.crossval import add_fold_arguments, held_out_answers

_DESCRIPTION = """\
Compare settings of the algorithm: every combination is trained and judged over the same grouped
folds, and the table is sorted by mean reward with delay. Names are those of trainer_kwargs, or
model.NAME for model_kwargs; values are read as JSON. For Oumi's own parameters (learning rate,
batch size) use `oumi tune -c configs/neural/tune.yaml`.

The best of many looks better than it is: judge it once more on releases kept apart.

  oumi-deploy sweep -c configs/releases/train.yaml --episodes F --try n_steps 1 3 5
  oumi-deploy sweep -c configs/neural/train.yaml --episodes F \\
    --try model.hidden_sizes [32] [64,64] --try loss huber squared --json
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "sweep",
        _run,
        summary="compare settings of the algorithm over grouped folds",
        description=_DESCRIPTION,
        extra="train",
    )
    parser.add_argument("-c", "--config", required=True, type=Path, help="training config")
    add_fold_arguments(parser)
    parser.add_argument(
        "--try",
        dest="tries",
        action="append",
        nargs="+",
        required=True,
        metavar="NAME VALUE",
        help="a setting and the values to try",
    )


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.plugin.quiet import each_warning_once
    from oumi_deploy.plugin.runs import load_train_config

    grid = dict(_read_try(words) for words in args.tries)
    episodes = read_episodes(args.episodes)
    with redirect_stdout(sys.stderr):  # Oumi logs to where a script reads our answer
        config = load_train_config(args.config)
        with each_warning_once():
            results = sweep(config, episodes, grid, args.folds, args.seed)
    if args.json:
        print(json.dumps(results))
        return
    print("\n".join(map(_line, results)))


def _line(result: dict[str, Any]) -> str:
    settings = " ".join(f"{name}={json.dumps(v)}" for name, v in result["settings"].items())
    reward, f1 = result["metrics"]["mean_reward_with_delay"], result["metrics"]["f1"]["value"]
    low, high = reward["low"], reward["high"]
    if reward["value"] is None:
        return f"{reward['note']}: {settings}"
    interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
    shown = "-" if f1 is None else f"{f1:.3f}"
    return f"mean_reward_with_delay {reward['value']:.2f}{interval}, f1 {shown}: {settings}"


def _read_try(words: list[str]) -> tuple[str, list[Any]]:
    if len(words) < 2:
        raise DeployError(f"--try {words[0]}: name a setting and at least one value")
    return words[0], [_read_value(word) for word in words[1:]]


def _read_value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def sweep(
    config: Any, episodes: Any, grid: dict[str, list[Any]], n_folds: int, seed: int
) -> list[dict[str, Any]]:
    """Judges every combination of settings over the same folds.

    Returns:
        `settings` and `metrics` of each, the highest mean reward with delay first.
    """
    from oumi_deploy.evaluation.evaluate import judge
    from oumi_deploy.plugin.runs import settings_of

    folds = assign_folds(episodes.group_codes(), n_folds, seed)
    results = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        answers = held_out_answers(config, episodes, folds, changes=settings)
        judged = judge(episodes, answers.actions, settings_of(config).rewards, seed=seed)
        results.append({"settings": settings, "metrics": judged["metrics"]})
    return sorted(results, key=_reward, reverse=True)


def _reward(result: dict[str, Any]) -> float:
    value = result["metrics"]["mean_reward_with_delay"]["value"]
    return -inf if value is None else value
