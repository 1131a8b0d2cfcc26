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

"""The YAML file of a team's guardrails."""

import argparse
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.guardrails import Guardrails, read_guardrails


def add_guardrails(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that set a policy's guardrails."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--guardrails",
        type=Path,
        metavar="FILE",
        help="YAML file of your own hard limits, kept in the policy file; of the policy's answer "
        "and theirs the severer one stands (default: those that the policy has)",
    )
    either.add_argument(
        "--no-guardrails", action="store_true", help="drop the guardrails that the policy has"
    )


def guardrails_of(args: argparse.Namespace) -> Guardrails | None:
    """Returns the guardrails that the flags ask for; None for those that the policy has.

    Raises:
        DeployError: If the file cannot be read, or says none that are possible.
    """
    if args.no_guardrails:
        return Guardrails()
    return None if args.guardrails is None else read_guardrails_file(args.guardrails)


def read_guardrails_file(path: Path) -> Guardrails:
    """Reads guardrails from a YAML file, see `recipes/service/guardrails.yaml`.

    Raises:
        DeployError: If the file cannot be read, or says none that are possible.
    """
    try:
        plain = _read_yaml(path)
    except OSError as error:
        raise DeployError(
            f"{path}: {error.strerror}; recipes/service/guardrails.yaml is one to begin with"
        ) from error
    except ValueError as error:
        if isinstance(error, DeployError):
            raise DeployError(f"{path}: {error}") from error
        raise DeployError(f"{path}: not UTF-8 text") from error
    try:
        return read_guardrails(plain)
    except DeployError as error:
        raise DeployError(f"{path}: {error}") from error


def _read_yaml(path: Path) -> Any:
    # Imported here: only who names such a file needs it.
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a name that stands twice, of which YAML would take the last in silence."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = []
            for key, _ in node.value:
                if key.value in names:
                    line = key.start_mark.line + 1
                    raise DeployError(f"line {line}: {key.value} stands twice; leave one out")
                names.append(key.value)
            return super().construct_mapping(node, deep)

    text = path.read_text(encoding="utf-8")
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise DeployError(f"{line}not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise DeployError(f"not YAML: {error}") from error
