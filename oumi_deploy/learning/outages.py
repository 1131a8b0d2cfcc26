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
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, CONTROL, GOOD

_TENFOLD, _LEAST_ERRORS = 10.0, 0.05

_UNREADY = (0.0, 0.4)
_AT_LIMIT = {"memory_usage": (0.97, 1.1), "cpu_usage": (0.98, 2.0)}
"""Values of a metric with a limit of its own at which it has reached that."""

ERRORS = "error_rate"

KINDS = (ERRORS, "health_score", *_AT_LIMIT)

BESIDE, FAILS, GONE, LEFT, NEVER = "beside", "fails", "gone", "left", "never"
"""What of the old version is there: it is as it was, or fails as well but less; or it is gone from
the outage on, or earlier; or it fails as much and is gone later, and the new one still fails; or
there is nothing of it at any time. Gone is all of it or, as where it has no traffic any more, the
metric that fails alone."""

_FEWER = 0.5
"""Share of the errors that the old version has at most where it fails less."""


@dataclass(frozen=True)
class _Kind:
    """One way to fail.

    Attributes:
        fails: The metrics that do.
        is_late: Whether it begins at any observation rather than at the first.
        old_version: BESIDE, FAILS, GONE, LEFT or NEVER.
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
        late: Whether some begin later where health is known too, beside the old version, with it
            gone by then, or with it failing as well and gone later. For what is also taught on good
            releases without an old version: else that it is gone would look like the failure.
    """
    good = np.flatnonzero((episodes.labels == GOOD) & (episodes.canary_lengths > 0))
    known = [name for name in KINDS if name in metrics and name in episodes.numbers]
    kinds = [_Kind((name,)) for name in known]
    if "health_score" in known and ERRORS in known:
        kinds.append(_Kind((ERRORS, "health_score")))
        if late:
            kinds.append(_Kind((ERRORS, "health_score"), is_late=True, old_version=GONE))
            kinds += [_Kind((ERRORS,), is_late=True, old_version=at) for at in (BESIDE, GONE, LEFT)]
            kinds += [_Kind((m,), is_late=True, old_version=GONE) for m in known if m in _AT_LIMIT]
    elif ERRORS in known:
        kinds += [_Kind((ERRORS,), old_version=at) for at in (NEVER, FAILS)]
        kinds += [_Kind((ERRORS,), is_late=True, old_version=at) for at in (BESIDE, GONE, FAILS)]
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
    gone_from, is_part = onset, np.zeros(n, dtype=bool)
    if late:
        # Half of those that are gone went before the outage, and of half the failing metric alone.
        when, way = random.uniform(size=(2, n))
        is_left = np.array([one.old_version == LEFT for one in kinds])[kind]
        earlier = np.where(way < 0.5, (when * (onset + 1)).astype(int), 0)
        later = 1 + (when * np.maximum(copies.canary_lengths - onset - 1, 0)).astype(int)
        gone_from = onset + np.where(is_left, later, -earlier)
        is_part = np.arange(n) // len(kinds) % 2 == 0
    # Copied once: each kind writes into rows of its own.
    numbers = {name: column.copy() for name, column in copies.numbers.items()}
    for i in np.unique(kind):
        one, mine = kinds[i], kind[of] == i
        for name in one.fails:
            failing = mine & has_begun
            numbers[name][copies.canary_rows[failing]] = levels[name][of[failing]]
        if one.old_version in (FAILS, LEFT) and CONTROL + ERRORS in numbers:
            fails = mine if one.old_version == FAILS else mine & has_begun
            rows = copies.canary_rows[fails]
            known = ~np.isnan(numbers[CONTROL + ERRORS][rows])
            part = random.uniform(0.0, _FEWER, n) if one.old_version == FAILS else np.ones(n)
            numbers[CONTROL + ERRORS][rows[known]] = (levels[ERRORS] * part)[of[fails]][known]
        if one.old_version in (GONE, LEFT, NEVER):
            away = mine & ((copies.canary_steps >= gone_from[of]) | (one.old_version == NEVER))
            take_away_old_version(numbers, copies.canary_rows[away & ~is_part[of]])
            take_away_old_version(numbers, copies.canary_rows[away & is_part[of]], one.fails)
    return replace(
        copies,
        ids=named("outage", copies.ids),
        labels=np.full(n, BAD, dtype=np.int8),
        rolled_back=np.zeros(n, dtype=bool),
        numbers=numbers,
    )


def outage_errors(usual: float) -> float:
    """Returns the error rate that is an outage where it stays: ten times the usual one, or 5 %."""
    return min(max(_TENFOLD * usual, _LEAST_ERRORS), 1.0)


def _levels(name: str, episodes: Episodes, random: np.random.Generator, n: int) -> np.ndarray:
    """Draws how bad a metric is, shape (n,)."""
    if name == ERRORS:
        return error_levels(usual_errors(episodes), random, n)
    return random.uniform(*_AT_LIMIT.get(name, _UNREADY), n)


def usual_errors(episodes: Episodes) -> float:
    """Returns the median error rate of releases, 0 where none reports it."""
    return float(np.nan_to_num(np.nanmedian(episodes.column(ERRORS))))


def error_levels(usual: float, random: np.random.Generator, n: int) -> np.ndarray:
    """Draws error rates of outages, shape (n,), see `outage_errors`."""
    # Most of them near the least: what is worse than that follows, for it is in order.
    return np.minimum(outage_errors(usual) * _TENFOLD ** random.uniform(size=n), 1.0)


def take_away_old_version(
    numbers: Mapping[str, np.ndarray], rows: np.ndarray, metrics: Sequence[str] | None = None
) -> None:
    """Takes what is known of the old version out of some rows, in place; of all metrics if None."""
    for name, column in numbers.items():
        if name.startswith(CONTROL) and (metrics is None or name[len(CONTROL) :] in metrics):
            column[rows] = np.nan


def named(what: str, ids: np.ndarray) -> np.ndarray:
    """Returns ids that say what was made from which release, shape (n,)."""
    return np.array([f"{what} {i} of {id_}" for i, id_ in enumerate(ids)], dtype=object)
