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

"""What the commands' parsers have in common."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    *,
    summary: str,
    description: str,
    extra: str | None,
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: The parser's subcommands.
        name: Name of the command.
        run: What it does; returns an exit status or None for 0.
        summary: One line for the list of commands.
        description: What `--help` teaches, examples included.
        extra: The extra it needs, a key of `main.EXTRAS`, or None.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, extra=extra)
    return parser


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Adds the policy file that a command is about."""
    parser.add_argument("--policy", required=True, type=Path, metavar="FILE", help="policy file")


def add_log(parser: argparse.ArgumentParser) -> None:
    """Adds the URL of the decision log that a command writes or reads."""
    parser.add_argument(
        "--log",
        metavar="URL",
        default=os.environ.get("OUMI_DEPLOY_LOG", "sqlite:///oumi_deploy.db"),
        help="decision log, sqlite:///FILE or postgresql://...; one with a password is better kept "
        "in OUMI_DEPLOY_LOG (sqlite:///oumi_deploy.db)",
    )


def add_episodes(parser: argparse.ArgumentParser, what: str = "episodes") -> None:
    """Adds the episode file that a command reads."""
    parser.add_argument("--episodes", required=True, type=Path, metavar="FILE", help=what)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds the flag without which no existing file is replaced."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_seed(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Adds a seed, 0 unless set."""
    parser.add_argument("--seed", type=_seed, default=0, help=f"{meaning} (default 0)")


def _seed(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word} is not a whole number from 0 on")
    return int(word)
