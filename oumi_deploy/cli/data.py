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

"""`oumi-deploy format`, `check`, `generate` and `convert-changerca`."""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import oumi_deploy
from oumi_deploy.cli.arguments import add_command, add_overwrite
from oumi_deploy.errors import DeployError

_GENERATE = """\
Generate realistic releases, good and bad, as an episode file: error spikes and creeps, memory
leaks, CPU saturation, crash loops, warm-ups that heal, noisy neighbours, lost telemetry, low
traffic. The same seed gives the same releases.

  oumi-deploy generate --count 2000 --seed 1 --out releases.parquet
  oumi-deploy generate --count 2000 --seed 1 --out f.parquet --set bad_share=0.4
"""

_CONVERT = """\
Convert a clone of IntelligentDDS/ChangeRCA (the public data of "ChangeRCA: Finding Root Causes
from Software Changes in Large Online Systems", FSE 2024) into an episode file. That repository
states no licence, so nothing of it is shipped here.

  oumi-deploy convert-changerca ChangeRCA/ --out changerca.parquet
"""


def add_commands(commands: Any) -> None:
    """Adds the commands."""
    add_command(
        commands,
        "format",
        _format,
        summary="print the episode format",
        description="Print the description of the episode format, as Markdown.",
        extra=None,
    )
    check = add_command(
        commands,
        "check",
        _check,
        summary="check an episode file",
        description="Check an episode file and say which row and column is wrong, and why.",
        extra="data",
    )
    check.add_argument("file", type=Path, help="a .parquet, .csv or .jsonl file")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    generate = add_command(
        commands,
        "generate",
        _generate,
        summary="generate realistic releases",
        description=_GENERATE,
        extra="data",
    )
    generate.add_argument("--count", required=True, type=int, help="number of releases")
    generate.add_argument("--seed", default=0, type=int, help="seed (default 0)")
    generate.add_argument("--out", required=True, type=Path, help="the .parquet file to write")
    generate.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="change a parameter"
    )
    generate.add_argument(
        "--parameters",
        action=_ListParameters,
        nargs=0,
        help="list the parameters for --set with their defaults, and exit",
    )
    add_overwrite(generate)
    convert = add_command(
        commands,
        "convert-changerca",
        _convert,
        summary="convert the public ChangeRCA releases",
        description=_CONVERT,
        extra="data",
    )
    convert.add_argument("clone", type=Path, help="folder of the clone")
    convert.add_argument("--out", required=True, type=Path, help="the episode file to write")
    add_overwrite(convert)


class _ListParameters(argparse.Action):
    """Lists the generator's parameters; only then is the generator imported."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        """Prints the list and exits."""
        try:
            from oumi_deploy.episodes.generator import ReleaseParameters
        except ModuleNotFoundError as error:
            parser.error(f"--parameters needs {error.name}: pip install 'oumi-deploy[data]'")
        defaults = ReleaseParameters()
        for field in fields(defaults):
            value = getattr(defaults, field.name)
            print(f"{field.name}={json.dumps(value)}")
        parser.exit()


def _format(args: argparse.Namespace) -> None:
    page = Path(oumi_deploy.__file__).parent / "episodes" / "FORMAT.md"
    print(page.read_text(encoding="utf-8"), end="")


def _check(args: argparse.Namespace) -> int:
    from oumi_deploy.episodes.packed import episodes_of_columns
    from oumi_deploy.episodes.table import read_columns
    from oumi_deploy.episodes.validate import find_problems

    columns = read_columns(args.file)
    problems = find_problems(columns)
    report: dict[str, Any] = {
        "file": str(args.file),
        "valid": not problems,
        "problems": [
            {"row": None if p.row is None else int(p.row) + 1, "column": p.column, "why": p.message}
            for p in problems
        ],
    }
    if not problems:
        episodes = episodes_of_columns(columns, str(args.file))
        report |= {
            "n_rows": episodes.n_rows,
            "n_episodes": len(episodes),
            "n_groups": episodes.n_groups,
            "n_good": int((episodes.labels == 0).sum()),
            "n_bad": int((episodes.labels == 1).sum()),
            "n_unlabelled": int((episodes.labels < 0).sum()),
            "numbers": sorted(columns.numbers),
            "texts": sorted(columns.texts),
        }
    print(json.dumps(report) if args.json else _as_words(report, problems))
    return 2 if problems else 0


def _as_words(report: dict[str, Any], problems: list[Any]) -> str:
    if problems:
        return "\n".join(f"{report['file']}: {problem}" for problem in problems)
    return (
        f"{report['file']}: valid. {report['n_episodes']} episodes in {report['n_groups']} groups, "
        f"{report['n_rows']} observations; {report['n_good']} good, {report['n_bad']} bad, "
        f"{report['n_unlabelled']} unlabelled.\n"
        f"Numbers: {', '.join(report['numbers'])}.\nTexts: {', '.join(report['texts'])}."
    )


def _generate(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from oumi_deploy.episodes.generator import write_episodes
    from oumi_deploy.episodes.sample import release_parameters

    changes = dict(_read_change(change) for change in args.set)
    # The delay keeps the bar away from what is refused at once.
    with tqdm(total=args.count, unit=" releases", desc="Generating", delay=0.5) as bar:
        write_episodes(
            args.out,
            args.count,
            args.seed,
            release_parameters(changes),
            overwrite=args.overwrite,
            progress=bar.update,
        )
    print(f"{args.out}: {args.count} releases from seed {args.seed}")


def _read_change(change: str) -> tuple[str, Any]:
    name, equals, value = change.partition("=")
    try:
        return name, json.loads(value if equals else "")
    except ValueError as error:
        raise DeployError(
            f"--set {change}: expected NAME=VALUE with a number or [LOW,HIGH]"
        ) from error


def _convert(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from oumi_deploy.episodes.changerca import convert_changerca
    from oumi_deploy.episodes.table import write_frame

    with tqdm(unit=" experiments", desc="Converting", delay=0.5) as bar:
        frame = convert_changerca(args.clone, progress=bar.update)
    write_frame(frame, args.out, overwrite=args.overwrite)
    print(f"{args.out}: {frame['episode_id'].nunique()} releases")
