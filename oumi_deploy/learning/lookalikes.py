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

"""Good releases to learn from that only look like an outage, made from other good releases.

Where there are few releases they are as rare as outages are, and a Q-function that was taught those
takes them for such.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from oumi_deploy.episodes.packed import Episodes, concatenate
from oumi_deploy.episodes.schema import CONTROL, GOOD
from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.learning.outages import (
    ERRORS,
    error_levels,
    named,
    outage_errors,
    take_away_old_version,
    usual_errors,
)

_HIGHEST = 20.0
"""Times the least errors of an outage that a spike has at most: with few requests, all fail."""

_LATEST_ONSET = 3
"""Observations before what both versions have begins, at most."""

_UNCHANGED = {
    "memory_usage": (0.5, 0.9),
    "cpu_usage": (0.5, 0.9),
    "health_score": (0.5, 0.95),
}
"""Worst value of a release in which a metric is at a bad level throughout."""

_COLD, _WARM_AFTER = (0.2, 0.8), (1.0, 4.0)
"""Share of the old version's memory that a new one lacks at first, and observations in which the
rest falls to a third."""

_SPIKE, _PROMOTION = "spike", "promotion"


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


def told_by_comparison(lookalikes: Episodes) -> np.ndarray:
    """Returns which of them only the old version or the time before tells from an outage, (n,)."""
    alone = (_SPIKE, _PROMOTION)
    return np.array([not id_.startswith(alone) for id_ in lookalikes.ids], dtype=bool)


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
    if ERRORS not in metrics or (copies := _some(episodes, good, n, random)) is None:
        return None
    lengths = copies.canary_lengths
    at = 1 + (random.uniform(size=n) * (lengths - 2)).astype(int)
    rows = copies.canary_steps == np.repeat(at, lengths)
    highest = _HIGHEST ** random.uniform(size=n)
    level = np.minimum(outage_errors(usual_errors(episodes)) * highest, 1.0)
    spikes = _changed(copies, _SPIKE, {ERRORS: (rows, np.repeat(level, lengths))})
    take_away_old_version(
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
    level = np.repeat(error_levels(usual_errors(episodes), random, n), copies.canary_lengths)
    both = {
        name: (rows, np.minimum(level * random.uniform(0.5, 1.5, len(level)), 1.0))
        for name in (ERRORS, CONTROL + ERRORS)
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
        copies, "shared silence", dict.fromkeys((ERRORS, CONTROL + ERRORS), (rows, nothing))
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


def _promotions(
    episodes: Episodes, metrics: Sequence[str], n: int, random: np.random.Generator
) -> Episodes | None:
    good = (episodes.labels == GOOD) & (episodes.canary_lengths > 0)
    if ERRORS not in metrics or (copies := _some(episodes, good, n, random)) is None:
        return None
    lengths = copies.canary_lengths
    onset = (random.uniform(size=n) * lengths).astype(int)
    gone, is_part = copies.canary_steps >= onset.repeat(lengths), np.arange(n) % 2 == 0
    promoted = _changed(copies, _PROMOTION, {})
    take_away_old_version(promoted.numbers, copies.canary_rows[gone & ~is_part.repeat(lengths)])
    rows = copies.canary_rows[gone & is_part.repeat(lengths)]
    take_away_old_version(promoted.numbers, rows, (ERRORS,))
    return promoted


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
    return replace(copies, ids=named(what, copies.ids), numbers={**copies.numbers, **moved})


def _reported(episodes: Episodes, name: str) -> np.ndarray:
    """Returns whether releases report a column, before and in their canary, bool (2, n)."""
    known = np.concatenate([[0], (~np.isnan(episodes.column(name))).cumsum()])
    begin, end = episodes.offsets[:-1], episodes.offsets[1:]
    canary = begin + episodes.baseline_lengths
    return np.stack([known[canary] > known[begin], known[end] > known[canary]])


def _beside_old_errors(episodes: Episodes, metrics: Sequence[str]) -> np.ndarray:
    """Returns which releases are good and ran beside an old version that reports errors."""
    if ERRORS not in metrics or ERRORS not in episodes.numbers:
        return np.zeros(len(episodes), dtype=bool)
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    old = episodes.column(CONTROL + ERRORS)[episodes.canary_rows]
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
    return replace(copies, ids=named(what, copies.ids), numbers=numbers)


LOOKALIKES = {
    "spike": _spikes,
    "shared_failure": _shared_failures,
    "shared_silence": _shared_silences,
    "unchanged_level": _unchanged_levels,
    "warm_up": _warm_ups,
    "promotion": _promotions,
}
"""What only looks like an outage.

spike: requests fail at one observation between the first and the last, every second time with
nothing known of the old version. shared_failure: they fail in the old version as much, from one of
the first observations on. shared_silence: neither version reports them from there on.
unchanged_level: memory or CPU is near its limit, or part of the pods is not ready, before the
release, in the old version and in the new one alike. warm_up: memory begins low and comes to that
of the old version. promotion: from one observation on nothing is known of the old version any more,
every second time of its errors alone, as where it has no traffic left.
"""
