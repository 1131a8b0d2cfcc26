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

import numpy as np

from oumi_deploy.episodes.packed import Episodes, concatenate
from oumi_deploy.episodes.schema import BAD, CONTROL, GOOD

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


def with_outages(episodes: Episodes, metrics: Sequence[str], share: float, seed: int) -> Episodes:
    """Returns the episodes with outages behind them, which are bad.

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
    """
    good = np.flatnonzero((episodes.labels == GOOD) & (episodes.canary_lengths > 0))
    known = [name for name in KINDS if name in metrics and name in episodes.numbers]
    kinds = [_Kind((name,)) for name in known]
    if "health_score" in known and _ERRORS in known:
        kinds.append(_Kind((_ERRORS, "health_score")))
    elif _ERRORS in known:
        kinds += [_Kind((_ERRORS,), old_version=at) for at in (NEVER, FAILS)]
        kinds += [_Kind((_ERRORS,), is_late=True, old_version=at) for at in (BESIDE, GONE, FAILS)]
    n = round(share * len(episodes))
    if not (n and kinds and len(good)):
        return episodes
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
        late = np.array([one.is_late for one in kinds])[kind]
        onset = np.where(late, (random.uniform(size=n) * copies.canary_lengths).astype(int), 0)
    has_begun = copies.canary_steps >= onset[of]
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
            numbers = _without_old_version(numbers, copies.canary_rows[away])
    outages = replace(
        copies,
        ids=_named("outage", copies.ids),
        labels=np.full(n, BAD, dtype=np.int8),
        rolled_back=np.zeros(n, dtype=bool),
        numbers=numbers,
    )
    return concatenate([episodes, outages])


def with_lookalikes(
    episodes: Episodes, metrics: Sequence[str], share: float, seed: int
) -> Episodes:
    """Returns the episodes with releases behind them that look like outages, and are good.

    Each is a good release. In half of them requests fail at one observation between the first and
    the last, every second time with nothing known of the old version; in a quarter they fail in the
    old version as much, from one of the first observations on; in a quarter neither version reports
    them from there on. The last two take releases beside which the old version reported errors.

    Args:
        episodes: Labelled releases.
        metrics: What the state is made from; there is nothing to make without the error rate.
        share: Such releases for each release, 0 or more.
        seed: Seed of which releases they are made from, and how much fails.
    """
    n = round(share * len(episodes))
    if not n or _ERRORS not in metrics or _ERRORS not in episodes.numbers:
        return episodes
    random = np.random.default_rng([seed, 1])
    is_good = episodes.labels == GOOD
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    old = episodes.column(CONTROL + _ERRORS)[episodes.canary_rows]
    n_beside = np.bincount(of, ~np.isnan(old), len(episodes))
    alone = np.flatnonzero(is_good & (episodes.canary_lengths > 2))
    beside = np.flatnonzero(is_good & (n_beside > 2))
    counts = {_spike: n - 2 * (n // 4), _fail_alike: n // 4, _fall_silent: n // 4}
    made = []
    for make, count in counts.items():
        of_good = alone if make is _spike else beside
        if count and len(of_good):
            copies = episodes.select(random.choice(of_good, count))
            made.append(make(copies, _usual(episodes), random))
    return concatenate([episodes, *made]) if made else episodes


def _spike(copies: Episodes, usual: float, random: np.random.Generator) -> Episodes:
    n, lengths = len(copies), copies.canary_lengths
    at = 1 + (random.uniform(size=n) * (lengths - 2)).astype(int)
    rows = copies.canary_steps == np.repeat(at, lengths)
    level = np.minimum(outage_errors(usual) * _HIGHEST ** random.uniform(size=n), 1.0)
    spikes = _changed(copies, "spike", {_ERRORS: (rows, np.repeat(level, lengths))})
    alone = copies.canary_rows[np.repeat(np.arange(n) % 2 == 1, lengths)]
    return replace(spikes, numbers=_without_old_version(spikes.numbers, alone))


def _fail_alike(copies: Episodes, usual: float, random: np.random.Generator) -> Episodes:
    rows = _after_onset(copies, random)
    level = np.repeat(_error_levels(usual, random, len(copies)), copies.canary_lengths)
    both = {
        name: (rows, np.minimum(level * random.uniform(0.5, 1.5, len(level)), 1.0))
        for name in (_ERRORS, CONTROL + _ERRORS)
    }
    return _changed(copies, "shared failure", both)


def _fall_silent(copies: Episodes, usual: float, random: np.random.Generator) -> Episodes:
    rows = _after_onset(copies, random)
    nothing = np.full(len(rows), np.nan)
    both = {_ERRORS: (rows, nothing), CONTROL + _ERRORS: (rows, nothing)}
    return _changed(copies, "shared silence", both)


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
    numbers = dict(copies.numbers)
    for name, (rows, values) in changes.items():
        column = numbers[name].copy()
        change = rows & ~np.isnan(column[copies.canary_rows])
        column[copies.canary_rows[change]] = values[change]
        numbers[name] = column
    return replace(copies, ids=_named(what, copies.ids), numbers=numbers)


def _without_old_version(numbers: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the columns with nothing known of the old version in some rows."""
    changed = dict(numbers)
    for name in numbers:
        if name.startswith(CONTROL):
            changed[name] = numbers[name].copy()
            changed[name][rows] = np.nan
    return changed


def _named(what: str, ids: np.ndarray) -> np.ndarray:
    return np.array([f"{what} {i} of {id_}" for i, id_ in enumerate(ids)], dtype=object)


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
