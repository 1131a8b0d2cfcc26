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

"""`oumi-deploy figures`."""

import argparse
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_overwrite
from oumi_deploy.errors import DeployError

_DESCRIPTION = """\
Draw what a training run learnt into its folder: the learning curve, the answers over two features,
a heat map of the Q-margin, the timeline of one episode, and a table of right and wrong decisions
and of releases that are held for a person.

  oumi-deploy figures --run output/quickstart --generate 2000 --seed 3
  oumi-deploy figures --run output/releases --episodes releases.parquet --episode deploy-17
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "figures",
        _run,
        summary="draw what a training run learnt",
        description=_DESCRIPTION,
        extra="data",
    )
    parser.add_argument("--run", required=True, type=Path, dest="folder", help="folder of the run")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--episodes", type=Path, metavar="FILE", help="episodes to draw on")
    source.add_argument("--generate", type=int, metavar="COUNT", help="or a generated sample")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default 0)")
    parser.add_argument("--out", type=Path, help="folder to write to (default RUN/figures)")
    parser.add_argument("--features", nargs=2, metavar="NAME", help="two features of the state")
    parser.add_argument("--episode", metavar="ID", help="episode of the timeline")
    parser.add_argument("--per-observation", action="store_true", help="score each observation")
    add_overwrite(parser)


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.episodes.sample import generate_sample
    from oumi_deploy.evaluation.figures.make import make_figures

    if args.generate is not None and args.generate < 1:
        raise DeployError(f"--generate {args.generate}: give a count of 1 or more")
    episodes = (
        generate_sample(args.generate, args.seed)
        if args.generate is not None
        else read_episodes(args.episodes)
    )
    written = make_figures(
        args.folder,
        episodes,
        args.out or args.folder / "figures",
        features=tuple(args.features) if args.features else None,
        episode_id=args.episode,
        per_observation=args.per_observation,
        overwrite=args.overwrite,
    )
    print("\n".join(map(str, written)))
