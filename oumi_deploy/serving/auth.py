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
"""Bearer tokens, each with the rights it carries."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag
from hashlib import sha256
from pathlib import Path

from oumi_deploy.errors import DeployError

ENVIRONMENT = "OUMI_DEPLOY_TOKEN_"

LEAST_CHARACTERS = 16
"""Of a token."""


class Right(Flag):
    """What a caller may do."""

    NONE = 0
    ASK = 1
    """Ask for decisions and read them."""
    REPORT = 2
    """Say what became of a release."""
    ADMINISTER = 4
    """Have the policy file read again."""


_RIGHTS = {"ask": Right.ASK, "report": Right.REPORT, "administer": Right.ADMINISTER}


@dataclass(frozen=True)
class Tokens:
    """Digests of tokens with their rights; true if there are any."""

    known: tuple[tuple[bytes, Right], ...] = ()

    def __bool__(self) -> bool:
        """Returns whether there are any."""
        return bool(self.known)

    def rights(self, header: str | None) -> tuple[Right, str]:
        """Returns what the bearer of an Authorization header may do, and what names the token.

        A Basic header carries the token as its password, for callers that can only be given a URL.
        Every token is compared, in constant time, whichever matches. An unknown token has no
        rights and no name; where there are no tokens, anybody has every right and no name.
        """
        if not self.known:
            return ~Right.NONE, ""
        given = _digest(_token_of(header))
        found = Right.NONE
        for digest, right in self.known:
            if hmac.compare_digest(digest, given):
                found |= right
        return found, given.hex() if found else ""


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _token_of(header: str | None) -> str:
    kind, _, value = (header or "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def read_tokens(path: Path | None, environment: Mapping[str, str]) -> Tokens:
    """Reads tokens from a file and from the environment.

    A line of the file is rights and a token, as in `ask,report 3f9c...`; an empty line, or one that
    begins with #, is none. In the environment, OUMI_DEPLOY_TOKEN_ASK, _REPORT and _ADMINISTER each
    hold one.

    Raises:
        DeployError: If the file is missing or holds no token, a line is malformed, or a token is
            too short.
    """
    lines = [] if path is None else _read_lines(path)
    if path is not None and not lines:
        raise DeployError(f"{path}: holds no token, so that anybody could ask and report")
    known = [_parse(line, f"{path}, line {n}") for n, line in lines]
    for right in _RIGHTS.values():
        name = f"{ENVIRONMENT}{right.name}"
        if environment.get(name):
            known.append((_checked(environment[name], name), right))
    return Tokens(tuple((_digest(token), right) for token, right in known))


def _read_lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeployError(f"{path}: cannot read tokens: {reason}") from error
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    return [(n, line) for n, line in lines if line and not line.startswith("#")]


def _parse(line: str, place: str) -> tuple[str, Right]:
    words = line.split()
    rights = Right.NONE
    for name in words[0].split(","):
        if name not in _RIGHTS or len(words) != 2:
            raise DeployError(
                f"{place}: expected rights (ask, report, administer) and a token, as in "
                "`ask,report TOKEN`"
            )
        rights |= _RIGHTS[name]
    return _checked(words[1], place), rights


def _checked(token: str, place: str) -> str:
    if len(token) < LEAST_CHARACTERS:
        raise DeployError(
            f"{place}: the token has fewer than {LEAST_CHARACTERS} characters: anybody could "
            "guess it"
        )
    return token
