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

"""`oumi-deploy fit`: the policy that `crossval` judges, trained on all releases."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_episodes, add_overwrite, add_seed
from oumi_deploy.cli.calibrate import figure_line, guardrail_lines
from oumi_deploy.cli.guardrails_file import read_guardrails_file
from oumi_deploy.plugin.cross_fitting import cross_fitted, deal_folds

_DESCRIPTION = """\
Train a config's policy on all releases of a file and calibrate it without holding any out: its risk
is fitted on what policies trained the same way on some of the groups say of the others. With few
releases that is worth more than a fifth held out, and it is the policy that `oumi-deploy crossval`
judges. The config's own datasets are not read. `calibration: {folds: 5}` in trainer_kwargs has
`oumi train` do the same.

  oumi-deploy crossval -c configs/releases/train.yaml --episodes releases.parquet --folds 10
  oumi-deploy fit -c configs/releases/train.yaml --episodes releases.parquet --out policy.json

A bound on false alarms (alpha) takes releases that this very policy was not trained on: hold some
out, and use `oumi train` and `oumi-deploy calibrate --alpha`.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "fit",
        _run,
        summary="train on all releases of a file, and calibrate over folds of them",
        description=_DESCRIPTION,
        extra="train",
    )
    parser.add_argument("-c", "--config", required=True, type=Path, help="training config")
    add_episodes(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="policy to write")
    parser.add_argument(
        "--folds",
        type=int,
        help="folds of the groups to calibrate on, 0 to leave one group out (default: the config's "
        "calibration.folds, or 5)",
    )
    parser.add_argument(
        "--guardrails",
        type=Path,
        metavar="FILE",
        help="YAML file of your own hard limits, kept in the policy file; of the policy's answer "
        "and theirs the severer one stands (default: the config's calibration.guardrails)",
    )
    add_seed(parser, "seed of folds and intervals")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "overrides", nargs="*", metavar="NAME=VALUE", help="change the config, as in Oumi"
    )
    add_overwrite(parser)


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.vet.vet import describe, vetted
    from oumi_deploy.files import refuse_existing
    from oumi_deploy.plugin.runs import load_train_config

    refuse_existing(args.out, args.overwrite)
    guardrails = None if args.guardrails is None else read_guardrails_file(args.guardrails)
    episodes = read_episodes(args.episodes)
    with redirect_stdout(sys.stderr):  # Oumi logs to where a script reads our answer
        config = load_train_config(args.config, args.overrides)
        policy, found = vetted(fit(config, episodes, args.folds, guardrails, args.seed))
    policy.save(args.out, overwrite=args.overwrite)
    assert policy.calibration is not None
    plain = policy.calibration.as_dict()
    if args.json:
        print(json.dumps(plain))
    else:
        print(_describe(plain["fitted_on"], describe(found), args.out))


def fit(
    config: Any,
    episodes: Any,
    n_folds: int | None = None,
    guardrails: Any = None,
    seed: int = 0,
) -> Any:
    """Trains a policy on all episodes, and calibrates it on folds of them.

    Args:
        config: The training config; its datasets are not read.
        episodes: The episodes.
        n_folds: Folds to calibrate on, 0 to leave one group out; None for what the config says,
            or 5.
        guardrails: The team's own limits; the config's if None.
        seed: Seed of folds and intervals.

    Returns:
        The policy.

    Raises:
        DeployError: If a setting or the episodes cannot be used, the config asks for a bound on
            false alarms, a guardrail cannot be used, or risk does not rise with Q(ROLLBACK).
    """
    from dataclasses import replace

    from oumi_deploy.evaluation.guarding import require_read
    from oumi_deploy.plugin.calibration import read_calibration_settings
    from oumi_deploy.plugin.quiet import each_warning_once
    from oumi_deploy.plugin.runs import train_policy

    settings = read_calibration_settings(config.training.trainer_kwargs)
    settings.require_no_bound()
    asked_as = "--folds"
    if n_folds is None and settings.folds is not None:
        n_folds, asked_as = settings.folds, "calibration.folds"
    folds = deal_folds(episodes, 5 if n_folds is None else n_folds, seed, asked_as)
    if guardrails is not None:
        guardrails.check_directions(config.training.trainer_kwargs.get("directions") or {})
        require_read(guardrails, episodes)
    with each_warning_once():
        policy, _ = train_policy(config, episodes)
        calibration = cross_fitted(config, episodes, folds, seed, guardrails=guardrails)
    return replace(policy, calibration=calibration)


def _describe(about: dict[str, Any], vet: str, path: Path) -> str:
    lines = [
        f"trained on {about['n_good']} good and {about['n_bad']} bad releases of "
        f"{about['n_groups']} groups, calibrated on {about['n_folds']} folds of them; by policies "
        "that did not see them:",
        *(figure_line(name, about[name]) for name in ("calibration_error", "brier")),
        *guardrail_lines(about),
        f"what common sense says of it (oumi-deploy vet):\n{vet}",
        f"written to {path}",
    ]
    return "\n".join(lines)
