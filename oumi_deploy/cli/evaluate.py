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

"""`oumi-deploy evaluate`."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_episodes, add_overwrite, add_policy, add_seed

_DESCRIPTION = """\
Judge a policy on labelled episodes. Decisions are taken at canary observations, an episode is
rolled back at the first ROLLBACK, and "bad" is the positive class. A release that ends held, for a
person to decide, is paid `rewards.held` and counts as no decision. The 95 % intervals come from
resampling groups of releases. The table shows ten figures, --json all of them.

  oumi-deploy evaluate --policy deployment_policy_model.json --episodes releases.parquet
  oumi-deploy evaluate --policy P --episodes F --json | jq .metrics.f1
"""

_NAME = 40
"""Width of the names of figures."""

_ROWS = {
    "precision": ("precision", "%"),
    "recall": ("recall", "%"),
    "f1": ("F1", ""),
    "false_rollback_rate": ("good releases rolled back", "%"),
    "mean_reward_with_delay": ("mean reward, delay paid", ""),
    "mean_reward_with_delay_of_decided": ("  of decided releases", ""),
    "mean_reward_with_delay_withheld": ("  without what came after a watch began", ""),
    "share_held": ("held for a person", "%"),
    "share_watched_while_traffic_rose": ("watched while the traffic rose", "%"),
    "median_delay_minutes": ("minutes until rollback, median", ""),
}
"""What the table shows of the figures: the name and the unit."""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "evaluate",
        _run,
        summary="judge a policy on episodes",
        description=_DESCRIPTION,
        extra="data",
    )
    add_policy(parser)
    add_episodes(parser)
    parser.add_argument(
        "--per-observation",
        action="store_true",
        help="score each canary observation as one decision, for policies of the form single",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write a CSV row an episode")
    add_seed(parser, "seed of the resampling")
    add_overwrite(parser)


def _run(args: argparse.Namespace) -> None:
    import pandas as pd

    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.evaluate import evaluate, warn_of_unreported
    from oumi_deploy.files import replace_when_done
    from oumi_deploy.policy.policy import DeploymentPolicy

    policy, episodes = DeploymentPolicy.load(args.policy), read_episodes(args.episodes)
    warn_of_unreported(policy, episodes)
    judged = evaluate(
        policy,
        episodes,
        per_observation=args.per_observation,
        seed=args.seed,
    )
    if args.table is not None:
        with replace_when_done(args.table, overwrite=args.overwrite) as draft:
            pd.DataFrame(judged["episodes"]).to_csv(draft, index=False)
    print(json.dumps(judged) if args.json else describe(judged))


def describe(judged: Mapping[str, Any]) -> str:
    """Returns the figures as a table to read."""
    things = "observations" if judged["per_observation"] else "rollouts"
    n_held = sum(bool(entry["held"]) for entry in judged["episodes"])
    held = (
        f"; {n_held:,} held for a person: paid `rewards.held` in mean rewards, and left out of "
        "accuracy, precision, recall, f1 and the rate of false rollbacks"
    ) * bool(n_held)
    lines = [
        f"{len(judged['episodes'])} {things} scored, of {judged['n_episodes']} episodes in "
        f"{judged['n_groups']} groups ({judged['n_good']} good, {judged['n_bad']} bad); "
        f"not scored: {judged['n_unlabelled']} unlabelled, {judged['n_censored']} censored{held}",
        f"{'':{_NAME}}{'value':>10}{'95 % interval':>20}",
    ]
    return "\n".join(
        [*lines, *(_line(judged["metrics"][name], *row) for name, row in _ROWS.items())]
    )


def _line(metric: Mapping[str, Any], name: str, unit: str) -> str:
    def told(value: float) -> str:
        # A share in percent, a score out of one with three places, all else with one.
        return f"{value:.1%}" if unit == "%" else f"{value:.{3 if name == 'F1' else 1}f}"

    value = "-" if metric["value"] is None else told(metric["value"])
    if metric["low"] is None:
        return f"{name:{_NAME}}{value:>10}  ({metric['note']})"
    interval = f"{told(metric['low'])} to {told(metric['high'])}"
    return f"{name:{_NAME}}{value:>10}{interval:>20}"
