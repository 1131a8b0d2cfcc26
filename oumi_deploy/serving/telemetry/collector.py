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

"""Collects the observations of a rollout from Prometheus."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, NamedTuple

import httpx

from oumi_deploy.episodes.schema import CONTROL, ROLLOUT_COLUMNS, number_column
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.telemetry.align import Steps, align, coverage, steps_until
from oumi_deploy.serving.telemetry.prometheus import query_range
from oumi_deploy.serving.telemetry.queries import ReleaseName, queries_of_new, queries_of_old
from oumi_deploy.serving.telemetry.settings import TelemetrySettings

MAX_STEPS = 50_000
"""Steps of one rollout, five weeks of minutes; a start before that is a mistake."""

_CLOCK_SKEW = 300
"""Seconds that the clock of whoever tells the start may be ahead of ours."""

_Values = dict[str, list[float | None]]
"""Of each metric, the value in each step."""


@dataclass(frozen=True)
class Collected:
    """What was collected of a rollout.

    Attributes:
        observations: One mapping a step, oldest first, with the names of the episode format: the
            old version's steps before the start (`phase` baseline), then the new version's, with
            the old one's at the same time as `control_` columns. `timestamp` is the step's end.
            None is missing.
        coverage: Share 0..1 of the canary steps in which a column has a value, by its name, and
            of the baseline steps by `<metric>.baseline`. A phase without steps has none.
        clipped: Values that lay outside what the episode format allows and were taken to the
            nearest end of it, by column; columns without any are left out.
        newest_at: End of the newest step in which the new version reported a metric other than
            its traffic and pods, Unix seconds; None if it never did.
        notes: What a person should know of this telemetry, a sentence each.
    """

    observations: list[dict[str, Any]]
    coverage: dict[str, float]
    clipped: dict[str, int]
    newest_at: float | None
    notes: list[str]


async def collect(
    client: httpx.AsyncClient,
    settings: TelemetrySettings,
    name: ReleaseName,
    started_at: float,
    now: float,
) -> Collected:
    """Collects what there is to see of a rollout by now.

    Args:
        client: From `connect`.
        settings: What to ask for.
        name: The service, its environment and the new version.
        started_at: When the canary began, Unix seconds.
        now: Unix seconds; steps that were over `settings.settle` seconds before are collected.

    Raises:
        TelemetryUnavailable: If Prometheus does not answer.
        DeployError: If it refuses a query, the name is not whole, or the start is no such time.
    """
    if not (isfinite(started_at) and settings.baseline <= started_at <= now + _CLOCK_SKEW):
        raise DeployError(
            f"started_at: {started_at:.15g} is not a time up to now: give Unix seconds"
        )
    return await collect_until(client, settings, name, started_at, now - settings.settle)


async def collect_until(
    client: httpx.AsyncClient,
    settings: TelemetrySettings,
    name: ReleaseName,
    started_at: float,
    until: float,
) -> Collected:
    """Collects the steps that were over at `until`, see `collect`."""
    begin = started_at - settings.baseline // settings.step * settings.step
    before = steps_until(begin, settings.step, min(started_at, until))
    after = steps_until(started_at, settings.step, until)
    if after.count > MAX_STEPS:
        raise DeployError(
            f"started_at: {_moment(started_at)} lies more than {MAX_STEPS:,} steps of "
            f"{settings.step}s back: give the start of the canary"
        )
    n_before = before.count
    whole = Steps(begin, settings.step, n_before + after.count)
    new, old = await _ask_for_both(client, settings, name, after, whole)
    notes = [note for answer in (*new.values(), *old.values()) for note in answer.notes]
    new_values, few_new = _leave_out_few(settings, new, _NEW)
    old_values, few_old = _leave_out_few(settings, old, _OLD)
    control = {CONTROL + metric: values[n_before:] for metric, values in old_values.items()}
    canary, clipped = _clip(new_values | control)
    baseline, clipped_before = _clip({m: values[:n_before] for m, values in old_values.items()})
    return Collected(
        [*_rows("baseline", before, baseline), *_rows("canary", after, canary)],
        _coverage(baseline, ".baseline") | _coverage(canary, ""),
        dict(clipped + clipped_before),
        _newest(new_values, after),
        [*dict.fromkeys(notes), *few_new, *few_old],
    )


_NEW, _OLD = "the new version", "the old version"


class _Answer(NamedTuple):
    values: list[float | None]
    notes: list[str]


async def _ask_for_both(
    client: httpx.AsyncClient,
    settings: TelemetrySettings,
    name: ReleaseName,
    after: Steps,
    whole: Steps,
) -> tuple[dict[str, _Answer], dict[str, _Answer]]:
    """Asks all at once for the new version after the start and the old one throughout."""
    queries_new, queries_old = queries_of_new(settings, name), queries_of_old(settings, name)
    try:
        async with asyncio.TaskGroup() as group:
            new = {
                metric: group.create_task(_ask(client, f"{metric} of {_NEW}", query, after))
                for metric, query in queries_new.items()
            }
            old = {
                metric: group.create_task(_ask(client, f"{metric} of {_OLD}", query, whole))
                for metric, query in queries_old.items()
            }
    except ExceptionGroup as failed:
        # One is enough to tell: the others were cancelled, or fail alike.
        raise failed.exceptions[0] from None
    return (
        {metric: task.result() for metric, task in new.items()},
        {metric: task.result() for metric, task in old.items()},
    )


async def _ask(client: httpx.AsyncClient, what: str, query: str, steps: Steps) -> _Answer:
    if not steps.count:
        return _Answer([], [])
    ends = steps.ends()
    series = await query_range(client, what, query, ends[0], ends[-1], steps.length)
    notes = [f"{what}: Prometheus warns: {warning}" for warning in series.warnings]
    values = align(series.points, steps)
    if not series.points:
        notes.append(f"{what}: no series: look over its query and the labels of canary and stable")
    elif not any(value is not None for value in values):
        notes.append(f"{what}: not a number in any step, such as 0/0")
    return _Answer(values, notes)


def _leave_out_few(
    settings: TelemetrySettings, answers: Mapping[str, _Answer], whose: str
) -> tuple[_Values, list[str]]:
    """Returns the values without those that rest on too few requests, and what was left out."""
    values = {metric: list(answer.values) for metric, answer in answers.items()}
    notes = []
    for metric in settings.per_request:
        few = [
            k
            for k, requests in enumerate(values.get("requests", ()))
            if requests is not None
            and requests < settings.min_requests
            and metric in values
            and values[metric][k] is not None
        ]
        for k in few:
            values[metric][k] = None
        if few:
            notes.append(
                f"{metric} of {whose}: left out in {len(few)} steps with fewer than "
                f"{settings.min_requests:g} requests"
            )
    return values, notes


def _clip(columns: _Values) -> tuple[_Values, Counter[str]]:
    """Takes values outside the episode format's range to its nearest end, and counts them."""
    clipped: Counter[str] = Counter()
    kept: _Values = {}
    for name, values in columns.items():
        rule = number_column(name)
        kept[name] = [None if v is None else min(max(v, rule.low), rule.high) for v in values]
        changed = sum(old != new for old, new in zip(values, kept[name], strict=True))
        if changed:
            clipped[name] = changed
    return kept, clipped


def _rows(phase: str, steps: Steps, columns: _Values) -> Iterable[dict[str, Any]]:
    for k, end in enumerate(steps.ends()):
        yield {
            "timestamp": end,
            "phase": phase,
            **{name: values[k] for name, values in columns.items()},
        }


def _coverage(columns: _Values, suffix: str) -> dict[str, float]:
    return {name + suffix: coverage(values) for name, values in columns.items() if values}


def _newest(values: _Values, steps: Steps) -> float | None:
    told = [column for metric, column in values.items() if metric not in ROLLOUT_COLUMNS]
    newest = [end for k, end in enumerate(steps.ends()) if any(c[k] is not None for c in told)]
    return newest[-1] if newest else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
