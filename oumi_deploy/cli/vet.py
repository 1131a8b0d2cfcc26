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

"""`oumi-deploy vet`."""

import argparse
import json
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_policy

_DESCRIPTION = """\
Try common sense on a policy: made-up rollouts of which everybody knows the answer, around the
values that were usual in its training.

  outage                    every request fails, no pod is ready: ROLLBACK by the second look, and
                            never CONTINUE while that lasts
  tenfold errors that stay  at least 5 %: ROLLBACK by the third look
  METRIC worse and worse    the risk never falls, and the answer never gets milder
  all as before             CONTINUE at each of ten looks
  spike that heals          half as high, for one look: no ROLLBACK
  all missing               never CONTINUE
  one metric missing        no ROLLBACK
  low traffic               no ROLLBACK, and no CONTINUE on too few requests

Each is tried with and without a baseline and values of the old version, where the state tells that
apart. A metric that the state lacks, or that moved no risk over its training range, is not
applicable, with a warning. The exit status is 1 where a case fails.

  oumi-deploy vet --policy policy.json
  oumi-deploy vet --policy policy.json --episodes ours.parquet

With --episodes it says how like these releases are to those that the policy was trained on, and
whether it was made for them. They need no labels.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "vet",
        _run,
        summary="try common sense on a policy, and whether it was made for your releases",
        description=_DESCRIPTION,
        extra="data",
    )
    add_policy(parser)
    parser.add_argument(
        "--episodes",
        type=Path,
        metavar="FILE",
        help="releases to hold against those that it was trained on",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run(args: argparse.Namespace) -> int:
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.vet.likeness import describe_likeness, likeness
    from oumi_deploy.evaluation.vet.vet import describe, vet
    from oumi_deploy.policy.policy import DeploymentPolicy

    policy = DeploymentPolicy.load(args.policy)
    like = None if args.episodes is None else likeness(policy, read_episodes(args.episodes))
    found = vet(policy)
    if args.json:
        told = {} if like is None else {"likeness": like.as_dict()}
        print(json.dumps({**found.as_dict(), **told}))
    else:
        print("\n\n".join([describe(found), *([] if like is None else [describe_likeness(like)])]))
    return 0 if found.passes else 1
