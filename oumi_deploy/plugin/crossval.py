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

"""`oumi-deploy crossval`: trains and judges over folds that never tear a group.

Entry points bring the command into `oumi-deploy`; nothing imports this part.
"""

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.cli.arguments import add_command, add_overwrite, add_seed
from oumi_deploy.errors import DeployError

_DESCRIPTION = """\
Train and judge a config's policy over grouped folds: each group of releases is judged by a policy
that never saw it, and all are scored together. The constant rules, the best error-rate threshold
(fitted on the same training folds) and an online rule (errors above 2 % in two observations
running, or none reported for five) stand beside it, with the paired differences in reward.

  oumi-deploy crossval -c configs/releases/train.yaml --episodes releases.parquet
  oumi-deploy crossval -c configs/releases/train.yaml --episodes F --folds 0 --json
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "crossval",
        _run,
        summary="train and judge over grouped folds",
        description=_DESCRIPTION,
        extra="train",
    )
    add_fold_arguments(parser)
    parser.add_argument("--by", default="group", help="leave out by group (default) or service")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write a CSV row an episode")
    parser.add_argument(
        "overrides", nargs="*", metavar="NAME=VALUE", help="change the config, as in Oumi"
    )
    add_overwrite(parser)


def add_fold_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every command asks that trains and judges over folds."""
    parser.add_argument("-c", "--config", required=True, type=Path, help="training config")
    parser.add_argument("--episodes", required=True, type=Path, metavar="FILE", help="episodes")
    parser.add_argument(
        "--folds", type=int, default=5, help="number of folds; 0 leaves one group out (default 5)"
    )
    add_seed(parser, "seed of folds and intervals")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run(args: argparse.Namespace) -> None:
    import pandas as pd

    from oumi_deploy.cli.evaluate import describe
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.files import refuse_existing, replace_when_done
    from oumi_deploy.plugin.runs import load_train_config

    if args.table is not None:
        refuse_existing(args.table, args.overwrite)
    episodes = read_episodes(args.episodes)
    with redirect_stdout(sys.stderr):  # Oumi logs to where a script reads our answer
        config = load_train_config(args.config, args.overrides)
        result = cross_validate(config, episodes, args.folds, args.seed, args.by)
    if args.table is not None:
        with replace_when_done(args.table, overwrite=args.overwrite) as draft:
            pd.DataFrame(result["policy"]["episodes"]).to_csv(draft, index=False)
    if args.json:
        print(json.dumps(result))
        return
    print(f"{result['n_folds']} folds by {args.by}. The policy of {args.config}:")
    print(describe(result["policy"]))
    for name, rule in result["rules"].items():
        print(f"\n{name}: {_line(rule)}")


def _line(rule: dict[str, Any]) -> str:
    words = []
    for name in ("f1", "mean_reward", "mean_reward_with_delay"):
        value = rule["metrics"][name]["value"]
        words.append(f"{name} {'-' if value is None else f'{value:.3f}'}")
    gain = rule["policy_gains"]["mean_reward"]
    if gain["value"] is None:
        return ", ".join([*words, gain["note"]])
    interval = gain["note"] if gain["low"] is None else f"{gain['low']:.2f} to {gain['high']:.2f}"
    return ", ".join([*words, f"the policy gains {gain['value']:.2f} ({interval})"])


def assign_folds(codes: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Deals groups out to folds at random.

    Args:
        codes: Group of each episode, int of shape (n_episodes,).
        n_folds: Number of folds, 0 for as many as groups.
        seed: Seed of the deal.

    Returns:
        Fold of each episode, int of shape (n_episodes,).

    Raises:
        DeployError: If there are fewer groups than folds.
    """
    n_groups = int(codes.max()) + 1
    n_folds = n_folds or n_groups
    if not 2 <= n_folds <= n_groups:
        raise DeployError(
            f"--folds {n_folds}: {n_groups} groups allow 2 to {n_groups} folds, or 0 to leave one "
            "group out"
        )
    return (np.random.default_rng(seed).permutation(n_groups) % n_folds)[codes]


def cross_validate(
    config: Any, episodes: Any, n_folds: int, seed: int, by: str = "group"
) -> dict[str, Any]:
    """Trains on all folds but one, decides on that one, and scores all decisions together.

    Returns:
        `policy` and each of `rules` as `evaluate` returns them; the rules also with
        `policy_gains`, the policy's paired gain over them.
    """
    from oumi_deploy.evaluation.evaluate import judge
    from oumi_deploy.evaluation.metrics import paired_gains
    from oumi_deploy.evaluation.rules import always, patient_check
    from oumi_deploy.evaluation.scoring import score
    from oumi_deploy.plugin.runs import settings_of
    from oumi_deploy.problem.rewards import Action

    rewards = settings_of(config).rewards
    folds = assign_folds(_codes(episodes, by), n_folds, seed)
    actions = {
        "policy": held_out_actions(config, episodes, folds),
        "always continue": always(episodes, Action.CONTINUE),
        "always roll back": always(episodes, Action.ROLLBACK),
        "best error-rate threshold": _held_out_threshold(episodes, folds, rewards),
        "online rule": patient_check(episodes),
    }
    judged = {name: judge(episodes, taken, rewards, seed=seed) for name, taken in actions.items()}
    scores = {name: score(episodes, taken, rewards) for name, taken in actions.items()}
    rules = {}
    for name in list(actions)[1:]:
        gains = paired_gains(scores["policy"], scores[name], episodes, seed)
        rules[name] = {"metrics": judged[name]["metrics"], "policy_gains": gains}
    return {"n_folds": int(folds.max()) + 1, "policy": judged["policy"], "rules": rules}


def held_out_actions(
    config: Any, episodes: Any, folds: np.ndarray, changes: dict[str, Any] | None = None
) -> np.ndarray:
    """Returns the action at every decision of a policy that never saw the decision's fold.

    Args:
        config: The training config.
        episodes: The episodes.
        folds: Fold of each episode, int of shape (n_episodes,).
        changes: Settings that differ from the config's, see `train_policy`.
    """
    from tqdm import tqdm

    from oumi_deploy.evaluation.evaluate import policy_q_values
    from oumi_deploy.plugin.runs import train_policy

    actions = np.empty(int(episodes.canary_offsets[-1]), dtype=np.int64)
    of = np.repeat(folds, episodes.canary_lengths)
    for fold in tqdm(np.unique(folds), desc="Folds", unit="fold"):
        policy, _ = train_policy(config, episodes.select(folds != fold), changes=changes)
        held_out = episodes.select(folds == fold)
        actions[of == fold] = policy_q_values(policy, held_out).argmax(axis=1)
    return actions


def _held_out_threshold(episodes: Any, folds: np.ndarray, rewards: Any) -> np.ndarray:
    from oumi_deploy.evaluation.rules import best_threshold, error_threshold

    actions = np.empty(int(episodes.canary_offsets[-1]), dtype=np.int64)
    of = np.repeat(folds, episodes.canary_lengths)
    for fold in np.unique(folds):
        threshold = best_threshold(episodes.select(folds != fold), rewards)
        actions[of == fold] = error_threshold(episodes.select(folds == fold), threshold)
    return actions


def _codes(episodes: Any, by: str) -> np.ndarray:
    if by == "group":
        return episodes.group_codes()
    words = episodes.texts.get(by)
    if words is None or any(word is None for word in words):
        raise DeployError(f"--by {by}: the episodes have no text column {by} without gaps")
    return np.unique(words.astype(str), return_inverse=True)[1]
