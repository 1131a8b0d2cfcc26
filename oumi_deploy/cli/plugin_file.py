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

"""`oumi-deploy plugin-file`."""

import argparse
from pathlib import Path
from typing import Any

import oumi_deploy
from oumi_deploy.cli.arguments import add_command

_DESCRIPTION = """\
Print the file that Oumi's OUMI_EXTRA_DEPS_FILE must name, so that `oumi train`, `oumi evaluate`
and `oumi tune` know deployment episodes, policies and their trainer:

  export OUMI_EXTRA_DEPS_FILE=$(oumi-deploy plugin-file)
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    add_command(
        commands,
        "plugin-file",
        _run,
        summary="print what to set OUMI_EXTRA_DEPS_FILE to",
        description=_DESCRIPTION,
        extra=None,
    )


def _run(args: argparse.Namespace) -> None:
    print(Path(oumi_deploy.__file__).parent / "plugin" / "oumi_extra_deps.txt")
