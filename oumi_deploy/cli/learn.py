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

"""`oumi-deploy learn`."""

import argparse
import json
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_log
from oumi_deploy.cli.export_log import time_of
from oumi_deploy.errors import DeployError

_DESCRIPTION = """\
Learn from the decision log, and let a new policy decide only once it has shown that it is better.

  oumi-deploy learn --loop loop --init --policy policy.json --pretrained output/releases/pretrained
  oumi-deploy serve --policy loop/policy.json --log sqlite:///oumi_deploy.db
  oumi-deploy learn --loop loop --log sqlite:///oumi_deploy.db       # every night
  oumi-deploy learn --loop loop --dry-run
  oumi-deploy learn --loop loop --history
  oumi-deploy learn --loop loop --back       # and nothing is promoted any more, until
  oumi-deploy learn --loop loop --resume

A night exports the new releases; trains a challenger on some groups of them with `oumi train`, from
where the champion stands; calibrates it on others; and judges both on a fixed trusted file and on
the new groups left. The challenger becomes champion when the 95 % lower bound of what it gains in
mean reward with delay is above 0 and recall on bad releases is not lower by more than the margin.
Labels count only where their source is on the list in loop.toml. recipes/loop says more.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "learn",
        _run,
        summary="train, judge and promote the next policy from the decision log",
        description=_DESCRIPTION,
        extra="serve,train",
    )
    parser.add_argument("--loop", required=True, type=Path, metavar="DIR", help="the loop's folder")
    add_log(parser)
    parser.add_argument(
        "--since",
        type=time_of,
        metavar="TIME",
        help="rollouts first decided on from then on are new, ISO 8601 (default: window_days ago)",
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--dry-run", action="store_true", help="do all of it elsewhere; leave loop and log alone"
    )
    other.add_argument("--init", action="store_true", help="begin with --policy as champion")
    other.add_argument(
        "--back",
        action="store_true",
        help="go back to the version before, and promote nothing until --resume",
    )
    other.add_argument("--resume", action="store_true", help="promote again after --back")
    other.add_argument("--history", action="store_true", help="print what happened so far")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="with --init: a calibrated policy"
    )
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="DIR",
        help="with --init: its model, for training to go on from (default: train anew each time)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.loop.champion import begin, go_back, resume
    from oumi_deploy.loop.folder import LoopFolder
    from oumi_deploy.loop.night import learn
    from oumi_deploy.loop.report import describe, describe_history

    if args.init != (args.policy is not None):
        raise DeployError("--init and --policy FILE go together")
    if args.pretrained is not None and not args.init:
        raise DeployError("--pretrained goes with --init")
    folder = LoopFolder(args.loop)
    if args.history:
        history = folder.history()
        print(json.dumps(history) if args.json else describe_history(history))
        return
    if args.init:
        report = begin(folder, args.policy, args.pretrained)
    elif args.back:
        report = go_back(folder)
    elif args.resume:
        report = resume(folder)
    else:
        report = learn(folder, args.log, since=args.since, dry_run=args.dry_run)
    print(json.dumps(report, allow_nan=False) if args.json else describe(report))
