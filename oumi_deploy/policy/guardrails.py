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

"""A team's own hard limits beside the policy: of its answer and theirs the severer one stands.

With everything else as it was, a newest value that is worse never makes them ask for less: a limit
on the better side of a metric is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.policy.guardrail import ABOVE, BELOW, MISSING, Guardrail, Streak
from oumi_deploy.problem.arithmetic import Number, larger
from oumi_deploy.problem.directions import EITHER, HIGHER, default_direction


@dataclass(frozen=True)
class Guardrails:
    """All guardrails of a policy.

    Attributes:
        rails: Limits first, then the metrics that must be present.

    Raises:
        DeployError: If one stands twice, or two contradict each other.
    """

    rails: tuple[Guardrail, ...] = ()

    def __post_init__(self) -> None:
        names = [rail.name for rail in self.rails]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise DeployError(f"guardrails: {name}: stands twice; leave one out")
        for above in self.rails:
            for below in self.rails:
                if (above.side, below.side) == (ABOVE, BELOW) and _fire_always(above, below):
                    raise DeployError(
                        f"guardrails: {above.name} and {below.name} contradict each other: one of "
                        "them fires on every value; leave a range between them"
                    )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each says."""
        return tuple(rail.name for rail in self.rails)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that they read, each once."""
        return tuple(dict.fromkeys(column for rail in self.rails for column in rail.columns))

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Of each, where its value stands among the columns, and the old version's."""
        at = {column: i for i, column in enumerate(self.columns)}
        return tuple((at[rail.columns[0]], at[rail.columns[-1]]) for rail in self.rails)

    def begin(self) -> tuple[Streak, ...]:
        """Returns what is remembered of each before the first observation."""
        return (Streak(),) * len(self.rails)

    def observe_baseline(
        self, before: Sequence[Streak], values: Sequence[Number]
    ) -> tuple[Streak, ...]:
        """Takes in a baseline observation, the values in the order of `columns`."""
        return tuple(
            rail.observe_baseline(streak, values[at])
            for rail, streak, (at, _) in zip(self.rails, before, self.places, strict=True)
        )

    def observe(
        self, before: Sequence[Streak], values: Sequence[Number], few: Number
    ) -> tuple[tuple[Streak, ...], tuple[Number, ...]]:
        """Takes in a canary observation.

        Args:
            before: What was remembered of each.
            values: By column, numbers or arrays of shape (n,), NaN where missing.
            few: Whether the requests are too few for an answer.

        Returns:
            What is remembered of each, and the `Guard` code that each asks for.
        """
        looks = [
            rail.observe(streak, values[at], values[of_control], few)
            for rail, streak, (at, of_control) in zip(self.rails, before, self.places, strict=True)
        ]
        return tuple(streak for streak, _ in looks), tuple(code for _, code in looks)

    def said(self, codes: Sequence[int], values: Sequence[float]) -> tuple[str, ...]:
        """Returns what those that ask for something say, at one observation.

        Args:
            codes: What each asks for.
            values: By column.
        """
        found = []
        for rail, code, places in zip(self.rails, codes, self.places, strict=True):
            is_unseen = rail.side != MISSING and any(values[at] != values[at] for at in places)
            found += [rail.name + ", not reported since" * is_unseen] * bool(code)
        return tuple(found)

    def check_directions(self, directions: Mapping[str, str]) -> None:
        """Raises DeployError at a limit on the better side of a metric.

        Args:
            directions: Which values of a metric are worse, see `problem.directions`; of others
                their default stands.
        """
        for rail in self.rails:
            worse = directions.get(rail.metric, default_direction(rail.metric))
            if rail.side == MISSING or worse == EITHER:
                continue
            right = ABOVE if worse == HIGHER else BELOW
            if rail.side != right:
                raise DeployError(
                    f"guardrails: {rail.name}: {worse} values of {rail.metric} are the worse ones, "
                    f"so its limit is to be {right}; where that is not so, set the metric's "
                    "direction when training"
                )

    def as_dict(self) -> dict[str, Any]:
        """Returns them as a file has them."""
        limits = [rail.as_dict() for rail in self.rails if rail.side != MISSING]
        present = [rail.as_dict() for rail in self.rails if rail.side == MISSING]
        return {"limits": limits, "present": present}


def severest(codes: Sequence[Number]) -> Number:
    """Returns the severest of what guardrails ask for, 0 for nothing."""
    worst: Number = 0
    for code in codes:
        worst = larger(worst, code)
    return worst


def _fire_always(above: Guardrail, below: Guardrail) -> bool:
    same = all(
        getattr(above, name) == getattr(below, name) for name in ("metric", "compared_with", "by")
    )
    assert above.value is not None
    assert below.value is not None
    return same and above.value < below.value


def read_guardrails(plain: Any) -> Guardrails:
    """Reads guardrails as a file has them, YAML or the policy's.

    Args:
        plain: A mapping with `limits`, `present` or both, each a list of entries.

    Raises:
        DeployError: If a name is unknown, an entry impossible, or two contradict each other.
    """
    kinds = {"limits": _read_limit, "present": _read_presence}
    if not isinstance(plain, Mapping) or not plain:
        raise DeployError(f"guardrails: expected {' and '.join(kinds)}, got {plain!r}")
    for name in plain:
        if name not in kinds:
            raise DeployError(f"guardrails: unknown {name}: {near_name(name, kinds)}")
    rails = [rail for name, read in kinds.items() for rail in _entries(plain, name, read)]
    if not rails:
        raise DeployError("guardrails: there are none; name a limit, or a metric to be present")
    return Guardrails(tuple(rails))


def _entries(
    plain: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], Guardrail]
) -> list[Guardrail]:
    entries = plain.get(name, [])
    if isinstance(entries, Mapping | str) or not isinstance(entries, Sequence):
        raise DeployError(f"guardrails: {name}: expected a list, got {entries!r}")
    rails = []
    for number, entry in enumerate(entries, 1):
        try:
            if not isinstance(entry, Mapping):
                raise DeployError(f"expected names and values, got {entry!r}")
            rails.append(read(entry))
        except DeployError as error:
            raise DeployError(f"guardrails: {name}, entry {number}: {error}") from error
    return rails


def _read_limit(entry: Mapping[str, Any]) -> Guardrail:
    _check_names(entry, ("metric", ABOVE, BELOW, "compared_with", "by", "for", "answer"))
    sides = [side for side in (ABOVE, BELOW) if side in entry]
    if len(sides) != 1:
        raise DeployError(f"name one of {ABOVE} and {BELOW}, with the limit")
    missing = [name for name in ("metric", "answer") if name not in entry]
    if missing:
        raise DeployError(f"{', '.join(missing)}: not set")
    given = {name: entry[name] for name in ("compared_with", "by", "answer") if name in entry}
    running = entry.get("for", 1)
    return Guardrail(entry["metric"], sides[0], entry[sides[0]], running=running, **given)


def _read_presence(entry: Mapping[str, Any]) -> Guardrail:
    _check_names(entry, ("metric", "compared_with", "for"))
    if "metric" not in entry:
        raise DeployError("metric: not set")
    beside = entry.get("compared_with")
    return Guardrail(entry["metric"], MISSING, compared_with=beside, running=entry.get("for", 1))


def _check_names(entry: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in entry:
        if name not in names:
            raise DeployError(f"unknown {name}: {near_name(name, names)}")
