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

"""Outages to learn from, made from good releases: what anybody knows, and hardly any history shows.

Releases that fail so plainly are stopped before they leave a trace, or are so few that a Q-function
learns the rest from the hundreds that fail mildly. It then meets its first outage in production.
What only looks like an outage is as rare where there are few releases, and is made likewise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from oumi_deploy.episodes.packed import Episodes, concatenate
from oumi_deploy.episodes.schema import BAD, CONTROL, GOOD
from oumi_deploy.errors import DeployError, near_name

_TENFOLD, _LEAST_ERRORS = 10.0, 0.05

_UNREADY = (0.0, 0.4)
_AT_LIMIT = {"memory_usage": (0.97, 1.1), "cpu_usage": (0.98, 2.0)}
"""Values of a metric with a limit of its own at which it has reached that."""

_ERRORS = "error_rate"

_HIGHEST = 20.0
"""Times the least errors of an outage that a spike has at most: with few requests, all fail."""

_LATEST_ONSET = 3
"""Observations before what both versions have begins, at most."""

KINDS = (_ERRORS, "health_score", *_AT_LIMIT)

BESIDE, FAILS, GONE, NEVER = "beside", "fails", "gone", "never"
"""What of the old version is there: it is as it was, or fails as well but less; or there is nothing
of it from the outage on, or at no time."""

_UNCHANGED = {
    "memory_usage": (0.5, 0.9),
    "cpu_usage": (0.5, 0.9),
    "health_score": (0.5, 0.95),
}
"""Worst value of a release in which a metric is at a bad level throughout."""

_COLD, _WARM_AFTER = (0.2, 0.8), (1.0, 4.0)
"""Share of the old version's memory that a new one lacks at first, and observations in which the
rest falls to a third."""

_FEWER = 0.5
"""Share of the errors that the old version has at most where it fails less."""


@dataclass(frozen=True)
class _Kind:
    """One way to fail.

    Attributes:
        fails: The metrics that do.
        is_late: Whether it begins at any observation rather than at the first.
        old_version: BESIDE, FAILS, GONE or NEVER.
    """

    fails: tuple[str, ...]
    is_late: bool = False
    old_version: str = BESIDE


def outages_of(
    episodes: Episodes, metrics: Sequence[str], share: float, seed: int, *, late: bool = False
) -> Episodes:
    """Returns outages made from the episodes, which are bad; none if there is nothing to make.

    Each is a good release in which something is plainly wrong, from its first canary observation
    on: requests fail, pods are not ready, both, or memory or CPU is at its limit. All else, and the
    old version, is as that release had it. Where health is not known, errors have to say more by
    themselves: they also begin later, with the old version beside them or gone from then on, come
    with nothing ever known of it, and beside half as many errors of its own.

    Args:
        episodes: Labelled releases.
        metrics: What the state is made from; no other metric fails.
        share: Outages for each release, 0 or more.
        seed: Seed of which releases fail, when, and how much.
        late: Whether some begin later, beside the old version or with it gone from then on, where
            health is known too. For what is also taught on good releases without an old version:
            else that it is gone would look like the failure.
    """
    good = np.flatnonzero((episodes.labels == GOOD) & (episodes.canary_lengths > 0))
    known = [name for name in KINDS if name in metrics and name in episodes.numbers]
    kinds = [_Kind((name,)) for name in known]
    if "health_score" in known and _ERRORS in known:
        kinds.append(_Kind((_ERRORS, "health_score")))
        if late:
            kinds.append(_Kind((_ERRORS, "health_score"), is_late=True, old_version=GONE))
            kinds += [_Kind((_ERRORS,), is_late=True, old_version=at) for at in (BESIDE, GONE)]
    elif _ERRORS in known:
        kinds += [_Kind((_ERRORS,), old_version=at) for at in (NEVER, FAILS)]
        kinds += [_Kind((_ERRORS,), is_late=True, old_version=at) for at in (BESIDE, GONE, FAILS)]
    n = round(share * len(episodes))
    if not (n and kinds and len(good)):
        return episodes.select(np.arange(0))
    random = np.random.default_rng(seed)
    copies = episodes.select(random.choice(good, n))
    of = np.repeat(np.arange(n), copies.canary_lengths)
    kind = np.arange(n) % len(kinds)
    levels = {
        name: _levels(name, episodes, random, n)
        for name in KINDS
        if any(name in kinds[i].fails for i in np.unique(kind))
    }
    onset = np.zeros(n, dtype=int)
    if any(one.is_late for one in kinds):
        is_late = np.array([one.is_late for one in kinds])[kind]
        onset = np.where(is_late, (random.uniform(size=n) * copies.canary_lengths).astype(int), 0)
    has_begun = copies.canary_steps >= onset[of]
    # Copied once: each kind writes into rows of its own.
    numbers = {name: column.copy() for name, column in copies.numbers.items()}
    for i in np.unique(kind):
        one, mine = kinds[i], kind[of] == i
        for name in one.fails:
            failing = mine & has_begun
            numbers[name][copies.canary_rows[failing]] = levels[name][of[failing]]
        if one.old_version == FAILS and CONTROL + _ERRORS in numbers:
            rows = copies.canary_rows[mine]
            known = ~np.isnan(numbers[CONTROL + _ERRORS][rows])
            fewer = levels[_ERRORS] * random.uniform(0.0, _FEWER, n)
            numbers[CONTROL + _ERRORS][rows[known]] = fewer[of[mine]][known]
        elif one.old_version != BESIDE:
            away = mine & (has_begun | (one.old_version == NEVER))
            _take_away_old_version(numbers, copies.canary_rows[away])
    return replace(
        copies,
        ids=_named("outage", copies.ids),
        labels=np.full(n, BAD, dtype=np.int8),
        rolled_back=np.zeros(n, dtype=bool),
        numbers=numbers,
    )


def lookalikes_of(
    episodes: Episodes, metrics: Sequence[str], shares: Mapping[str, float], seed: int
) -> Episodes:
    """Returns good releases that only look like an outage; none if there is nothing to make.

    Each is made from a good release, see LOOKALIKES. Shared failure and silence take releases
    beside which the old version reported errors.

    Args:
        episodes: Labelled releases.
        metrics: What the state is made from; no other metric changes.
        shares: By kind, such releases for each release, 0 or more.
        seed: Seed of which releases they are made from, and how much fails.

    Raises:
        DeployError: If a kind is none of LOOKALIKES.
    """
    check_lookalikes(shares)
    random = np.random.default_rng([seed, 1])
    # In the order of LOOKALIKES, so that a config's order changes nothing.
    made = [
        LOOKALIKES[kind](episodes, metrics, round(shares[kind] * len(episodes)), random)
        for kind in LOOKALIKES
        if kind in shares
    ]
    made = [one for one in made if one is not None]
    return concatenate(made) if made else episodes.select(np.arange(0))


def check_lookalikes(shares: Mapping[str, float]) -> None:
    """Raises DeployError at a kind that is none, or a share that is not 0 or more."""
    for kind, share in shares.items():
        if kind not in LOOKALIKES:
            raise DeployError(f"lookalikes: unknown {kind}: {near_name(kind, LOOKALIKES)}")
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if not (is_number and isfinite(share) and share >= 0):
            raise DeployError(f"lookalikes.{kind}: {share!r} is not 0 or more")


def _spikes(
    episodes: Episodes, metrics: Sequence[str], n: int, random: np.random.Generator
) -> Episodes | None:
    good = (episodes.labels == GOOD) & (episodes.canary_lengths > 2)
    if _ERRORS not in metrics or (copies := _some(episodes, good, n, random)) is None:
        return None
    lengths = copies.canary_lengths
    at = 1 + (random.uniform(size=n) * (lengths - 2)).astype(int)
    rows = copies.canary_steps == np.repeat(at, lengths)
    highest = _HIGHEST ** random.uniform(size=n)
    level = np.minimum(outage_errors(_usual(episodes)) * highest, 1.0)
    spikes = _changed(copies, "spike", {_ERRORS: (rows, np.repeat(level, lengths))})
    _take_away_old_version(
        spikes.numbers, copies.canary_rows[np.repeat(np.arange(n) % 2 == 1, lengths)]
    )
    return spikes


def _shared_failures(
    episodes: Episodes, metrics: Sequence[str], n: int, random: np.random.Generator
) -> Episodes | None:
    copies = _some(episodes, _beside_old_errors(episodes, metrics), n, random)
    if copies is None:
        return None
    rows = _after_onset(copies, random)
    level = np.repeat(_error_levels(_usual(episodes), random, n), copies.canary_lengths)
    both = {
        name: (rows, np.minimum(level * random.uniform(0.5, 1.5, len(level)), 1.0))
        for name in (_ERRORS, CONTROL + _ERRORS)
    }
    return _changed(copies, "shared failure", both)


def _shared_silences(
    episodes: Episodes, metrics: Sequence[str], n: int, random: np.random.Generator
) -> Episodes | None:
    copies = _some(episodes, _beside_old_errors(episodes, metrics), n, random)
    if copies is None:
        return None
    rows = _after_onset(copies, random)
    nothing = np.full(len(rows), np.nan)
    return _changed(
        copies, "shared silence", dict.fromkeys((_ERRORS, CONTROL + _ERRORS), (rows, nothing))
    )


def _unchanged_levels(
    episodes: Episodes, metrics: Sequence[str], n: int, random: np.random.Generator
) -> Episodes | None:
    parts = []
    known = [name for name in _UNCHANGED if name in metrics and name in episodes.numbers]
    for number, name in enumerate(known):
        reported = [_reported(episodes, column) for column in (name, CONTROL + name)]
        good = (episodes.labels == GOOD) & (episodes.canary_lengths > 0)
        good &= reported[0].all(axis=0) & reported[1][1]
        mine = n // len(known) + (number < n % len(known))
        if (copies := _some(episodes, good, mine, random)) is not None:
            parts.append(_moved(copies, name, random.uniform(*_UNCHANGED[name], mine)))
    return concatenate(parts) if parts else None


def _warm_ups(
    episodes: Episodes, metrics: Sequence[str], n: int, random: np.random.Generator
) -> Episodes | None:
    name = "memory_usage"
    if name not in metrics or name not in episodes.numbers:
        return None
    beside = _reported(episodes, name)[1] & _reported(episodes, CONTROL + name)[1]
    copies = _some(episodes, beside & (episodes.labels == GOOD), n, random)
    if copies is None:
        return None
    lengths = copies.canary_lengths
    lacks, after = (random.uniform(*span, n) for span in (_COLD, _WARM_AFTER))
    cold = np.repeat(lacks, lengths) * np.exp(-copies.canary_steps / np.repeat(after, lengths))
    old = copies.numbers[CONTROL + name][copies.canary_rows]
    return _changed(copies, "warm-up", {name: (~np.isnan(old), old * (1.0 - cold))})


def _moved(copies: Episodes, name: str, levels: np.ndarray) -> Episodes:
    """Moves a metric of whole releases, both versions', until its worst value is at a level.

    A release that is there already stays as it is.
    """
    worst, sign = (np.fmin, -1.0) if name == "health_score" else (np.fmax, 1.0)
    columns = [column for column in (name, CONTROL + name) if column in copies.numbers]
    at = worst.reduce([worst.reduceat(copies.numbers[c], copies.offsets[:-1]) for c in columns])
    by = sign * np.maximum(sign * (levels - at), 0.0)
    moved = {c: copies.numbers[c] + np.repeat(by, np.diff(copies.offsets)) for c in columns}
    if name == "health_score":
        moved = {c: np.maximum(values, 0.0) for c, values in moved.items()}
    what = f"unchanged {name}"
    return replace(copies, ids=_named(what, copies.ids), numbers={**copies.numbers, **moved})


def _reported(episodes: Episodes, name: str) -> np.ndarray:
    """Returns whether releases report a column, before and in their canary, bool (2, n)."""
    known = np.concatenate([[0], (~np.isnan(episodes.column(name))).cumsum()])
    begin, end = episodes.offsets[:-1], episodes.offsets[1:]
    canary = begin + episodes.baseline_lengths
    return np.stack([known[canary] > known[begin], known[end] > known[canary]])


def _beside_old_errors(episodes: Episodes, metrics: Sequence[str]) -> np.ndarray:
    """Returns which releases are good and ran beside an old version that reports errors."""
    if _ERRORS not in metrics or _ERRORS not in episodes.numbers:
        return np.zeros(len(episodes), dtype=bool)
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    old = episodes.column(CONTROL + _ERRORS)[episodes.canary_rows]
    return (episodes.labels == GOOD) & (np.bincount(of, ~np.isnan(old), len(episodes)) > 2)


def _some(
    episodes: Episodes, which: np.ndarray, n: int, random: np.random.Generator
) -> Episodes | None:
    """Returns n of the episodes, drawn with replacement; None if there are none to draw from."""
    of = np.flatnonzero(which)
    return episodes.select(random.choice(of, n)) if n and len(of) else None


def _after_onset(copies: Episodes, random: np.random.Generator) -> np.ndarray:
    """Returns the decisions from one of the first few observations on, bool (n_decisions,)."""
    onset = random.integers(0, _LATEST_ONSET + 1, len(copies))
    return copies.canary_steps >= np.repeat(onset, copies.canary_lengths)


def _changed(
    copies: Episodes, what: str, changes: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Episodes:
    """Returns copies under names of their own, with columns changed where they have a value.

    Args:
        copies: The copies.
        what: What they are, for their names.
        changes: By column, which decisions change and to what, shapes (n_decisions,).
    """
    numbers = {name: column.copy() for name, column in copies.numbers.items()}
    for name, (rows, values) in changes.items():
        change = rows & ~np.isnan(numbers[name][copies.canary_rows])
        numbers[name][copies.canary_rows[change]] = values[change]
    return replace(copies, ids=_named(what, copies.ids), numbers=numbers)


def _take_away_old_version(numbers: Mapping[str, np.ndarray], rows: np.ndarray) -> None:
    """Takes what is known of the old version out of some rows, in place."""
    for name, column in numbers.items():
        if name.startswith(CONTROL):
            column[rows] = np.nan


def _named(what: str, ids: np.ndarray) -> np.ndarray:
    return np.array([f"{what} {i} of {id_}" for i, id_ in enumerate(ids)], dtype=object)


LOOKALIKES = {
    "spike": _spikes,
    "shared_failure": _shared_failures,
    "shared_silence": _shared_silences,
    "unchanged_level": _unchanged_levels,
    "warm_up": _warm_ups,
}
"""What only looks like an outage.

spike: requests fail at one observation between the first and the last, every second time with
nothing known of the old version. shared_failure: they fail in the old version as much, from one of
the first observations on. shared_silence: neither version reports them from there on.
unchanged_level: memory or CPU is near its limit, or part of the pods is not ready, before the
release, in the old version and in the new one alike. warm_up: memory begins low and comes to that
of the old version.
"""


def outage_errors(usual: float) -> float:
    """Returns the error rate that is an outage where it stays: ten times the usual one, or 5 %."""
    return min(max(_TENFOLD * usual, _LEAST_ERRORS), 1.0)


def _levels(name: str, episodes: Episodes, random: np.random.Generator, n: int) -> np.ndarray:
    """Draws how bad a metric is, shape (n,)."""
    if name == _ERRORS:
        return _error_levels(_usual(episodes), random, n)
    return random.uniform(*_AT_LIMIT.get(name, _UNREADY), n)


def _usual(episodes: Episodes) -> float:
    return float(np.nan_to_num(np.nanmedian(episodes.column(_ERRORS))))


def _error_levels(usual: float, random: np.random.Generator, n: int) -> np.ndarray:
    # Most of them near the least: what is worse than that follows, for it is in order.
    return np.minimum(outage_errors(usual) * _TENFOLD ** random.uniform(size=n), 1.0)
