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

"""`oumi-deploy report`."""

import argparse
import json
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_episodes, add_overwrite, add_policy, add_seed
from oumi_deploy.errors import DeployError

_DESCRIPTION = """\
Write one page, which needs no other file, on how a policy does on a set of episodes: beside what
teams use today, whether its risk holds, what holding the doubtful ones buys, false alarms, delay,
results by fault, the worst decisions with an explanation, and where it must not be trusted. --json
writes the same as plain values.

  oumi-deploy report --policy P --episodes held_out.parquet --out report.html
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "report",
        _run,
        summary="write a page on how a policy does",
        description=_DESCRIPTION,
        extra="data",
    )
    add_policy(parser)
    add_episodes(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="page to write")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same as JSON")
    parser.add_argument(
        "--folds", type=int, default=5, help="grouped folds to fit the baselines over (default 5)"
    )
    parser.add_argument("--worst", type=int, default=5, help="worst decisions to show (default 5)")
    parser.add_argument("--no-baselines", action="store_true", help="report on the policy alone")
    add_seed(parser, "seed of folds and intervals")
    add_overwrite(parser)


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.report.contents import report_contents
    from oumi_deploy.evaluation.report.page import render
    from oumi_deploy.evaluation.report.summary import headline
    from oumi_deploy.files import refuse_existing, replace_when_done
    from oumi_deploy.policy.policy import DeploymentPolicy

    paths = [path for path in (args.out, args.json) if path is not None]
    if args.json is not None and args.out.resolve() == args.json.resolve():
        raise DeployError(f"--json {args.json}: the page goes there; name another file")
    for path in paths:
        refuse_existing(path, args.overwrite and not path.is_dir())
    contents = report_contents(
        DeploymentPolicy.load(args.policy),
        read_episodes(args.episodes),
        n_folds=args.folds,
        baselines=not args.no_baselines,
        n_worst=args.worst,
        seed=args.seed,
    )
    texts = [render(contents), json.dumps(contents, allow_nan=False) + "\n"]
    for path, text in zip(paths, texts, strict=False):
        with replace_when_done(path, overwrite=args.overwrite) as draft:
            draft.write_text(text, encoding="utf-8")
    print(f"written to {' and '.join(map(str, paths))}: {headline(contents)}")
