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

"""Converts the public canary releases of ChangeRCA (FSE 2024) to episodes.

The source is the repository IntelligentDDS/ChangeRCA. It states no licence: convert a clone of
your own, and do not pass the rows on.
"""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from oumi_deploy.episodes.changerca_plan import Release, read_plan
from oumi_deploy.episodes.changerca_source import (
    Call,
    find_experiments,
    floor_to_minute,
    read_calls,
    read_service_success,
)

COLUMNS = (
    *("episode_id", "group", "service", "step", "timestamp", "phase"),
    *("error_rate", "memory_usage", "cpu_usage", "latency", "canary_share", "n_pods"),
    *("error_rate_worst_pod", "error_rate_outgoing", "latency_outgoing"),
    *("control_error_rate", "control_memory_usage", "control_cpu_usage", "control_latency"),
    *("service_error_rate", "telemetry", "label", "fault_type"),
)
"""The columns of the table, in their order."""

_CONTROL = ("error_rate", "memory_usage", "cpu_usage", "latency")

_Key = TypeVar("_Key", bound=Hashable)


def convert_changerca(
    clone: str | os.PathLike[str], progress: Callable[[int], object] | None = None
) -> pd.DataFrame:
    """Converts a clone of IntelligentDDS/ChangeRCA to a table of episodes.

    An episode is the release of one service, a row is one minute of it: the old version's pods
    before the release began (`phase` baseline), the new version's pods from the first completed
    step or the first report of a new pod, whichever is earlier, until the experiment's last step
    was completed (`phase` canary). The minutes between the two are left out.

    The metrics are the release's own version's, the control columns the old version's in the
    canary phase, `service_error_rate` both together. Error rates and latencies are means over the
    pods and their callers, `error_rate_worst_pod` is the highest of one pod and caller.

    Args:
        clone: The repository's root or its `data` folder.
        progress: Called after each experiment with the number of experiments just done (1).

    Returns:
        One row per release and minute, sorted by `episode_id` and `step`; the columns are
        `COLUMNS`. Rates and shares are 0..1 (`memory_usage` may pass 1), latencies and
        `timestamp` seconds, `timestamp` since 1970 UTC. `group` is the experiment, in which
        several services were released together. Canary minutes without a report of a new pod
        have `n_pods` 0. A value that was not measured is NaN; `fault_type` is None for good
        releases.

    Raises:
        DeployError: `clone` holds no experiment, or a file of an experiment is malformed.
    """
    rows = []
    for folder in find_experiments(Path(clone)):
        rows += _experiment_rows(folder)
        if progress:
            progress(1)
    # Stable: the rows of an episode stay in their order.
    rows.sort(key=lambda row: row["episode_id"])
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _experiment_rows(folder: Path) -> list[dict[str, Any]]:
    plan = read_plan(folder / f"{folder.name}.json")
    end = max(release.steps[-1].complete for release in plan.releases)
    calls = [call for call in read_calls(folder) if call.minute <= end]
    minutes = sorted({call.minute for call in calls})
    service_success = read_service_success(folder)
    rows = []
    for release in plan.releases:
        names = {
            "episode_id": f"{folder.name}-{release.service}",
            "group": folder.name,
            "service": release.service,
            "label": "bad" if release.bad else "good",
            "fault_type": plan.fault if release.bad else None,
        }
        for step, row in enumerate(_release_rows(calls, minutes, release)):
            success = service_success.get(row["timestamp"], {})
            row["service_error_rate"] = _service_error_rate(success, release.service)
            rows.append({**names, "step": step, **row})
    return rows


def _release_rows(
    calls: list[Call], minutes: list[int], release: Release
) -> Iterator[dict[str, Any]]:
    """Yields the rows of both phases of one release, minute by minute.

    Args:
        calls: The reports of all pods of the experiment.
        minutes: The minutes in which any of them reported.
        release: The release.
    """
    own = _own_calls([call for call in calls if call.service == release.service], release)
    old = _grouped((call for call in own if call.version == "v1"), lambda call: call.minute)
    new = _grouped((call for call in own if call.version == "v2"), lambda call: call.minute)
    begin = floor_to_minute(release.begin)
    start = min([floor_to_minute(release.steps[0].complete), *new])
    telemetry = _telemetry(new, release.service)
    for minute in minutes:
        row = {"timestamp": minute, "telemetry": telemetry}
        before = _metrics(old.get(minute, []), release.service)
        if minute >= start:
            row |= {"phase": "canary", "canary_share": _canary_share(release, minute)}
            row |= {f"control_{name}": before[name] for name in _CONTROL}
            yield row | _metrics(new.get(minute, []), release.service)
        elif minute < begin and minute in old:
            yield {**row, "phase": "baseline", "canary_share": 0.0, **before}


def _own_calls(calls: list[Call], release: Release) -> list[Call]:
    """Leaves what each of a service's pods reported of itself while it was in service.

    The files of an old pod carry on with the rows of the new pod that replaced it: from the first
    row on that a new pod reports too, they are not the old pod's. An old pod without CPU and
    memory use is going down, which is no load; a new one never came up, which tells something.
    """
    of_new_pods = {_content(call) for call in calls if call.version == "v2"}
    end: dict[str, float] = {
        pod: step.complete for step in release.steps for pod in step.deleted_pods
    }
    for call in calls:
        if call.version == "v1" and _content(call) in of_new_pods:
            end[call.pod] = min(end.get(call.pod, math.inf), call.minute - 1)

    def in_service(call: Call) -> bool:
        going_down = call.version == "v1" and call.cpu == call.memory == 0
        return call.time <= end.get(call.pod, math.inf) and not going_down

    return [call for call in calls if in_service(call)]


def _content(call: Call) -> tuple[Hashable, ...]:
    """Says what two reports have in common if they are the same; text, as NaN equals nothing."""
    measured = (call.cpu, call.memory, call.latency)
    return call.minute, call.caller, call.callee, *map(str, measured)


def _metrics(calls: list[Call], service: str) -> dict[str, float]:
    """Sums up what one version's pods reported in one minute; NaN for what they did not."""
    inbound = [call for call in calls if call.callee == service]
    outgoing = [call for call in calls if call.caller == service]
    errors = [_error_rate(call.success) for call in inbound]
    # A pod repeats its load in the file of each caller and callee, but must count once.
    pods = _grouped(calls, lambda call: call.pod).values()
    return {
        "error_rate": _mean(errors),
        "memory_usage": _mean(_mean(call.memory for call in pod) for pod in pods) / 100,
        "cpu_usage": _mean(_mean(call.cpu for call in pod) for pod in pods) / 100,
        "latency": _mean(call.latency for call in inbound),
        "n_pods": float(len(pods)),
        "error_rate_worst_pod": max(_measured(errors), default=math.nan),
        "error_rate_outgoing": _mean(_error_rate(call.success) for call in outgoing),
        "latency_outgoing": _mean(call.latency for call in outgoing),
    }


def _service_error_rate(success: dict[str, float], service: str) -> float:
    """Takes the mean error rate over the callers of a service, both versions together."""
    return _mean(
        _error_rate(percent) for pair, percent in success.items() if pair.endswith(f"_{service}")
    )


def _canary_share(release: Release, minute: int) -> float:
    """Tells the share of new pods; until the first step is complete, the share it leads to."""
    complete = [step for step in release.steps if floor_to_minute(step.complete) <= minute]
    return (complete or release.steps[:1])[-1].canary_share


def _telemetry(new: dict[int, list[Call]], service: str) -> str:
    """Tells whether the new pods ever reported inbound calls, by all their reports."""
    if not new:
        return "none"
    inbound = any(call.callee == service for calls in new.values() for call in calls)
    return "full" if inbound else "outgoing_only"


def _grouped(calls: Iterable[Call], key: Callable[[Call], _Key]) -> dict[_Key, list[Call]]:
    groups: dict[_Key, list[Call]] = defaultdict(list)
    for call in calls:
        groups[key(call)].append(call)
    return groups


def _error_rate(success: float) -> float:
    return (100 - success) / 100


def _measured(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: Iterable[float]) -> float:
    measured = _measured(values)
    return sum(measured) / len(measured) if measured else math.nan
