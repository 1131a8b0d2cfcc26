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

"""`oumi-deploy`: everything but training itself, which is `oumi train`."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from oumi_deploy import __version__
from oumi_deploy.cli import (
    calibrate,
    collect,
    data,
    decide,
    evaluate,
    export_log,
    figures,
    learn,
    offpolicy,
    plugin_file,
    report,
    serve,
    vet,
)
from oumi_deploy.errors import DeployError

_SERVE = (
    *("alembic", "fastapi", "httpx", "prometheus_client"),
    *("psycopg", "sqlalchemy", "uvicorn"),
)
_TRAIN = ("gymnasium", "oumi", "torch")
EXTRAS = {
    "data": ("matplotlib", "pandas", "pyarrow", "scipy", "sklearn", "tqdm", "yaml"),
    "serve": _SERVE,
    "train": _TRAIN,
    "serve,train": (*_SERVE, *_TRAIN),
}
"""What each extra brings, by the names they are imported under."""

_DESCRIPTION = """\
Learn from your own releases when to roll back.

A policy is trained with `oumi train`; these commands prepare its episodes, judge it, draw it and
ask it. Start with

  export OUMI_EXTRA_DEPS_FILE=$(oumi-deploy plugin-file)
  oumi train -c configs/quickstart/train.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0, or 2 for bad input; what a command says beside that, as `vet` does.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser(arguments).parse_args(arguments)
    try:
        _require_extra(args.command, args.extra)
        return args.run(args) or 0
    except DeployError as error:
        print(f"oumi-deploy {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oumi-deploy",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"oumi-deploy {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    judging = (data, evaluate, report, offpolicy, calibrate, vet, figures, decide)
    serving = (serve, export_log, learn, collect, plugin_file)
    for module in (*judging, *serving):
        module.add_commands(commands)
    if not arguments or arguments[0] not in commands.choices:
        for module in _plugged_in():
            module.add_commands(commands)
    return parser


def _plugged_in() -> list[ModuleType]:
    """Returns the modules that add commands from above us: those that need Oumi.

    They are found by entry point, so that nothing here imports the part that imports Oumi.
    """
    # Imported here: it takes a tenth of the time in which `decide` must answer.
    from importlib.metadata import entry_points

    found = entry_points(group="oumi_deploy.commands")
    return [point.load() for point in sorted(found, key=lambda point: point.name)]


def _require_extra(command: str, extra: str | None) -> None:
    wanted = [] if extra is None else dict.fromkeys([*EXTRAS["data"], *EXTRAS[extra]])
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise DeployError(
            f"{command} needs {', '.join(missing)}: pip install 'oumi-deploy[{extra}]'"
        )


if __name__ == "__main__":
    sys.exit(main())
