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

"""PromQL templates: names that come from outside are filled in so that they stay text.

A service or version is whatever a caller says it is. It only ever goes between quotes, with quotes
and backslashes escaped, and after `=~` or `!~` with the signs of regular expressions escaped too:
no name can close its string, widen its pattern or add to the query.
"""

import re
from collections.abc import Mapping

from oumi_deploy.errors import DeployError, near_name

_QUOTED = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`'
_PLACEHOLDER = r"\{(?P<name>[A-Za-z_]\w*)\}"
_PIECE = re.compile(
    rf"(?P<regex>[=!]~\s*)?(?P<quoted>{_QUOTED})|{_PLACEHOLDER}|(?P<stray>[\"'`#])", re.DOTALL
)
# An escaped character is a piece of its own, so that a backslash before a placeholder cannot take
# the escape of the first character filled in.
_INSIDE = re.compile(rf"\\.|{_PLACEHOLDER}", re.DOTALL)
_REGEX_SIGN = re.compile(r"[\\.+*?()|\[\]{}^$]")

_SELECTOR = rf"[A-Za-z_:][\w:]*\s*(?:\{{(?:{_QUOTED}|\{{\w+\}}|[^{{}}\"'`])*\}})?"
_FRESH = re.compile(rf"\bfresh\s*\(\s*(?P<selector>{_SELECTOR})\s*\)|(?P<stray>\bfresh\s*\()")


def fill(template: str, names: Mapping[str, str], code: Mapping[str, str], where: str) -> str:
    """Fills in a template.

    Args:
        template: PromQL with `{placeholders}`.
        names: Texts for placeholders between double or single quotes.
        code: PromQL for placeholders outside quotes, put in as it is.
        where: Name of the template, for messages.

    Raises:
        DeployError: At a placeholder that is unknown, empty or on the wrong side of a quote, a
            quote that is not closed, or a comment, which might hold one.
    """

    def piece(match: re.Match[str]) -> str:
        if match["stray"]:
            sign = "a comment; leave it out" if match["stray"] == "#" else "a quote left open"
            raise DeployError(f"{where}: {sign}: {template}")
        if match["quoted"]:
            is_regex = match["regex"] is not None
            return (match["regex"] or "") + _fill_quoted(match["quoted"], is_regex, names, where)
        if match["name"] in names:
            raise DeployError(f'{where}: put {match[0]} between quotes, as in x="{match[0]}"')
        return _known(match["name"], code, where)

    return _PIECE.sub(piece, template)


def _fill_quoted(quoted: str, is_regex: bool, names: Mapping[str, str], where: str) -> str:
    quote = quoted[0]

    def piece(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        if quote == "`":
            raise DeployError(
                f"{where}: nothing is escaped in backticks; quote {match[0]} otherwise"
            )
        return _escape(_known(match["name"], names, where), quote, is_regex)

    return quote + _INSIDE.sub(piece, quoted[1:-1]) + quote


def _known(name: str, texts: Mapping[str, str], where: str) -> str:
    if name not in texts:
        hint = near_name(name, texts, otherwise="queries.py of the collector lists what there is")
        raise DeployError(f"{where}: {{{name}}} is no placeholder here: {hint}")
    if not texts[name]:
        # An empty matcher would pick the series that lack the label: other services'.
        raise DeployError(f"{where}: {{{name}}} is empty: name the release in full")
    return texts[name]


def _escape(text: str, quote: str, is_regex: bool) -> str:
    """Escapes text as the content of a PromQL string, and before that as a regular expression."""
    if is_regex:
        text = _REGEX_SIGN.sub(r"\\\g<0>", text)
    return "".join(_escape_character(sign, quote) for sign in text)


def _escape_character(sign: str, quote: str) -> str:
    if sign in ("\\", quote):
        return "\\" + sign
    return sign if " " <= sign <= "~" else f"\\U{ord(sign):08x}"


def expand_fresh(template: str, seconds: int, where: str) -> str:
    """Writes out `fresh(SELECTOR)`: the selector without samples older than `seconds`.

    Prometheus repeats the last sample of a series that is no longer scraped for five minutes;
    `timestamp` tells how old a sample is. Series that ended are dropped at once, as without it.

    Raises:
        DeployError: If what stands in the brackets is no plain selector.

    >>> expand_fresh("sum(fresh(up))", 60, "example")
    'sum((up and timestamp(up) > time() - 60))'
    """

    def written_out(match: re.Match[str]) -> str:
        selector = match["selector"]
        if not selector:
            raise DeployError(f'{where}: fresh() takes one selector, as in fresh(up{{job="x"}})')
        return f"({selector} and timestamp({selector}) > time() - {seconds})"

    return _FRESH.sub(written_out, template)
