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
"""`oumi-deploy export-log`."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_log, add_overwrite

_DESCRIPTION = """\
Write what the decision log holds as episodes, to judge a policy on or to train the next one with.

  oumi-deploy export-log --log sqlite:///oumi_deploy.db --policy policy.json --out logged.parquet
  oumi-deploy export-log --log postgresql://ask@db/decisions --since 2026-11-01 --out new.parquet

One rollout is one episode, with the action of each decision and its propensity. Labels come from
outcomes; one that was rolled back has none unless a person's review says what it was. Episodes of
one environment and day are one group. What is left out is counted, with the reason.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "export-log",
        _run,
        summary="write the decision log as episodes",
        description=_DESCRIPTION,
        extra="serve",
    )
    add_log(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="episodes to write")
    for name, what in (("since", "on or after"), ("until", "before")):
        parser.add_argument(
            f"--{name}",
            type=time_of,
            metavar="TIME",
            help=f"rollouts first decided on {what} this time, ISO 8601, UTC unless it has a zone",
        )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="have a column for each metric of this policy, empty where nobody reported it, so "
        "that it can be judged on what was left unsaid",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_overwrite(parser)


def time_of(word: str) -> float:
    """Reads a time in ISO 8601 as Unix seconds, for argparse."""
    try:
        time = datetime.fromisoformat(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word} is not ISO 8601, as 2026-11-25T10:00") from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.policy.policy import DeploymentPolicy
    from oumi_deploy.serving.log.export import export_episodes

    metrics = () if args.policy is None else DeploymentPolicy.load(args.policy).encoder.metrics
    done = export_episodes(
        args.log,
        args.out,
        since=args.since,
        until=args.until,
        columns=metrics,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps(vars(done)))
        return
    print(
        f"{args.out}: {done.n_rollouts} rollouts, {done.n_rows} observations, {done.n_labelled} "
        "labelled"
    )
    for why, n in done.left_out.items():
        print(f"  left out: {n}, {why}")
