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
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.cli.arguments import add_command, add_episodes, add_overwrite, add_seed
from oumi_deploy.cli.calibrate import figure_line
from oumi_deploy.evaluation.folds import assign_folds, codes_by
from oumi_deploy.plugin.cross_fitting import cross_fitted, deal_folds

_log = logging.getLogger(__name__)

_DESCRIPTION = """\
Train and judge configs' policies over grouped folds: each group of releases is judged by a policy
that never saw it, and all are scored together, beside what teams use today, fitted on the same
folds. Within each fold the policy's confidence is fitted the same way: on what policies trained on
some of the fold's groups say of the others (--inner-folds 0 leaves the policy uncalibrated). Gains
are those of the first config, release by release. `oumi-deploy fit` trains the policy that is
judged here.

  oumi-deploy crossval -c configs/releases/train.yaml --episodes releases.parquet --folds 10
  oumi-deploy crossval -c A.yaml -c B.yaml --episodes F --by service --folds 0
  oumi-deploy crossval -c A.yaml --episodes F --no-baselines --json training.learning_rate=0.01
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "crossval",
        _run,
        summary="train and judge over grouped folds, beside what teams use today",
        description=_DESCRIPTION,
        extra="train",
    )
    parser.add_argument(
        "-c",
        "--config",
        required=True,
        type=Path,
        action="append",
        help="training config; give it several times to compare policies",
    )
    add_fold_arguments(parser)
    parser.add_argument(
        "--inner-folds",
        type=int,
        default=5,
        help="folds within each fold to fit the confidence on; 0 for none (default 5)",
    )
    parser.add_argument("--by", default="group", help="leave out by group (default) or service")
    parser.add_argument(
        "--no-baselines", action="store_true", help="train and judge the policies alone"
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="write a CSV row an episode, of the first config"
    )
    parser.add_argument(
        "--comparison", type=Path, metavar="FILE", help="write the table of all as CSV"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="NAME=VALUE", help="change the configs, as in Oumi"
    )
    add_overwrite(parser)


def add_fold_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every command asks that trains and judges over folds."""
    add_episodes(parser)
    parser.add_argument(
        "--folds", type=int, default=5, help="number of folds; 0 leaves one group out (default 5)"
    )
    add_seed(parser, "seed of folds and intervals")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run(args: argparse.Namespace) -> None:
    import pandas as pd

    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.compare import as_rows
    from oumi_deploy.files import refuse_existing, replace_when_done
    from oumi_deploy.plugin.quiet import each_warning_once
    from oumi_deploy.plugin.runs import load_train_config

    tables = {path for path in (args.table, args.comparison) if path is not None}
    for path in tables:
        refuse_existing(path, args.overwrite)
    episodes = read_episodes(args.episodes)
    with redirect_stdout(sys.stderr):  # Oumi logs to where a script reads our answer
        configs = {
            name: load_train_config(path, args.overrides)
            for name, path in _named(args.config).items()
        }
        if args.inner_folds:
            _warn_of_bounds(configs)
        folds = assign_folds(codes_by(episodes, args.by), args.folds, args.seed)
        with each_warning_once():
            result = cross_validate(
                configs, episodes, folds, args.seed, args.inner_folds, not args.no_baselines
            )
    first = next(iter(result["policies"].values()))
    for path, rows in ((args.table, first["episodes"]), (args.comparison, as_rows(result))):
        if path is not None:
            with replace_when_done(path, overwrite=args.overwrite) as draft:
                pd.DataFrame(rows).to_csv(draft, index=False)
    print(json.dumps(result) if args.json else _describe(result, args.by))


def _warn_of_bounds(configs: Mapping[str, Any]) -> None:
    from oumi_deploy.plugin.calibration import read_calibration_settings

    for name, config in configs.items():
        if read_calibration_settings(config.training.trainer_kwargs).alpha is not None:
            _log.warning("%s: judged without calibration.alpha, which folds cannot give", name)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Names configs by what tells them apart: their folder, or else their whole path."""
    folders = [path.resolve().parent.name for path in paths]
    short = len(set(folders)) == len(paths)
    return {
        folder if short else str(path): path for folder, path in zip(folders, paths, strict=True)
    }


def _describe(result: dict[str, Any], by: str) -> str:
    from oumi_deploy.cli.evaluate import describe
    from oumi_deploy.evaluation.compare import as_text

    parts = [f"{result['n_folds']} folds by {by}"]
    for name, judged in result["policies"].items():
        parts.append(f"The policy of {name}: {describe(judged)}")
        if judged["reliability"] is not None:
            held = judged["reliability"]
            parts.append("\n".join(figure_line(k, held[k]) for k in ("calibration_error", "brier")))
    return "\n\n".join([*parts, as_text(result)])


def cross_validate(
    configs: Mapping[str, Any],
    episodes: Any,
    folds: np.ndarray,
    seed: int,
    n_inner: int = 5,
    baselines: bool = True,
) -> dict[str, Any]:
    """Trains on all folds but one, decides on that one, and judges all answers together.

    Args:
        configs: Training configs by name; the first one's rewards are paid, and the baselines see
            its state.
        episodes: The episodes.
        folds: Fold of each episode, int of shape (n_episodes,).
        seed: Seed of the inner folds, the baselines and the intervals.
        n_inner: Folds within each fold to fit the confidence on, 0 for none.
        baselines: Whether to fit and judge those too.

    Returns:
        What `compare` returns; `n_folds`; and `policies`, by name what `judge` returns and
        `reliability` (None for an uncalibrated policy).
    """
    from oumi_deploy.evaluation.compare import compare, held_out_baselines
    from oumi_deploy.evaluation.evaluate import describe_scores, require_labels
    from oumi_deploy.evaluation.reliability import end_risk, reliability
    from oumi_deploy.evaluation.scoring import score
    from oumi_deploy.plugin.runs import settings_of

    settings = settings_of(next(iter(configs.values())))
    rewards, state = settings.rewards, settings.state
    require_labels(episodes)
    answers, policies = {}, {}
    for name, config in configs.items():
        said = held_out_answers(config, episodes, folds, seed=seed, n_inner=n_inner)
        scores = score(episodes, said.actions, rewards, answers=said)
        ends = end_risk(scores, episodes, said.risk)
        judged = describe_scores(scores, episodes, seed=seed)
        answers[name] = said
        policies[name] = {**judged, "reliability": reliability(ends, seed) if n_inner else None}
    fitted = held_out_baselines(episodes, folds, rewards, state, seed) if baselines else {}
    table = compare(episodes, answers, fitted, rewards, state, seed)
    return {"n_folds": int(folds.max()) + 1, "policies": policies, **table}


def held_out_answers(
    config: Any,
    episodes: Any,
    folds: np.ndarray,
    *,
    seed: int = 0,
    n_inner: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> Any:
    """Returns what policies answer that never saw the fold that they decide on.

    Args:
        config: The training config.
        episodes: The episodes.
        folds: Fold of each episode, int of shape (n_episodes,).
        seed: Seed of the inner folds.
        n_inner: Folds within each fold to fit the confidence on, 0 to leave it uncalibrated.
        changes: Settings that differ from the config's, see `train_policy`.

    Returns:
        `Answers` to every decision.
    """
    from tqdm import tqdm

    from oumi_deploy.evaluation.evaluate import policy_answers
    from oumi_deploy.plugin.runs import train_policy
    from oumi_deploy.policy.answers import Answers

    parts = []
    for fold in tqdm(np.unique(folds), desc="Folds", unit="fold"):
        train = episodes.select(folds != fold)
        policy, _ = train_policy(config, train, changes=changes)
        if n_inner:
            within = deal_folds(train, n_inner, seed, "--inner-folds")
            calibration = cross_fitted(config, train, within, seed, changes)
            policy = replace(policy, calibration=calibration)
        parts.append(policy_answers(policy, episodes.select(folds == fold)))
    back = order_of_file(episodes, folds)
    return Answers(
        *(np.concatenate([getattr(part, f.name) for part in parts])[back] for f in fields(Answers))
    )


def order_of_file(episodes: Any, folds: np.ndarray) -> np.ndarray:
    """Returns what puts decisions that stand fold by fold in the file's order, (n_decisions,)."""
    by_fold = np.argsort(np.repeat(folds, episodes.canary_lengths), kind="stable")
    return np.argsort(by_fold)
