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

"""The table at the end: what was caught, missed and disturbed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from rollouts import Run
from rule import rolls_back_after

from oumi_deploy.episodes.faults import FAULTS


@dataclass(frozen=True)
class Judged:
    """A release, with what the policy did and what the rule would have done.

    Attributes:
        run: What became of it.
        by_rule: Minute after which the rule rolls back, None for never.
    """

    run: Run
    by_rule: int | None

    @property
    def by_policy(self) -> int | None:
        """Minute after which the policy rolled back, None for never."""
        return self.run.minutes if self.run.rolled_back else None


_HEAD = 2
"""Lines of a table before its first row."""

Stop = Callable[[Judged], int | None]


def judge(runs: Sequence[Run], episodes: Path) -> list[Judged]:
    """Sets the rule on the telemetry of an exported log."""
    table = pd.read_parquet(episodes, columns=["service", "version", "phase", "error_rate"])
    canary = table[table["phase"] == "canary"]
    seen = {
        name: [float(value) for value in rows["error_rate"]]
        for name, rows in canary.groupby(["service", "version"])
    }
    return [Judged(run, rolls_back_after(run.release, seen.get(_key(run), []))) for run in runs]


def _key(run: Run) -> tuple[str, str]:
    return run.release.service.name, run.release.version


def tables(judged: Sequence[Judged]) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of both tables as plain values, the last of each over all."""
    bad = [j for j in judged if j.run.release.fault is not None]
    good = [j for j in judged if j.run.release.fault is None]
    faults = {name: [j for j in bad if j.run.release.fault == name] for name in FAULTS}
    befell = sorted({_befell(j.run) for j in good}, key=lambda name: (name != "nothing", name))
    return {
        "bad": [_bad_row(name, some) for name, some in [*faults.items(), ("all", bad)] if some],
        "good": [
            _good_row(name, [j for j in good if name in ("all", _befell(j.run))])
            for name in ([*befell, "all"] if good else [])
        ],
    }


def _befell(run: Run) -> str:
    """Names what happened to a good release; a neighbour's fault is told before all else."""
    return "a neighbour's fault" if run.dragged >= 1 else run.release.kind


def _bad_row(name: str, some: Sequence[Judged]) -> dict[str, Any]:
    return {
        "fault": name,
        "releases": len(some),
        "policy": _caught(some, lambda j: j.by_policy, sum(j.run.by_person for j in some)),
        "rule": _caught(some, lambda j: j.by_rule),
    }


def _caught(some: Sequence[Judged], stop: Stop, for_person: int | None = None) -> dict[str, Any]:
    """Returns how many were stopped and how soon; and of those left for a person how many."""
    delays = [
        max(0, minute - (j.run.release.onset or 0)) for j in some if (minute := stop(j)) is not None
    ]
    held = {} if for_person is None else {"for a person": for_person}
    return {
        "caught": len(delays),
        **held,
        "missed": len(some) - len(delays) - (for_person or 0),
        "minutes": median(delays) if delays else None,
    }


def _good_row(name: str, some: Sequence[Judged]) -> dict[str, Any]:
    return {
        "what befell it": name,
        "releases": len(some),
        "policy": {
            "rolled back": sum(j.by_policy is not None for j in some),
            "held": sum(j.run.held > 0 for j in some),
            "minutes held": sum(j.run.held for j in some),
            "for a person": sum(j.run.by_person for j in some),
        },
        "rule": {"rolled back": sum(j.by_rule is not None for j in some)},
    }


def described(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """Returns both tables to read, in Markdown."""
    bad = [
        "| bad releases | | caught | for a person | missed | minutes to it | rule: caught | missed "
        "| minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["bad"]:
        policy, rule = row["policy"], row["rule"]
        cells = [row["fault"], row["releases"], *policy.values(), *rule.values()]
        bad.append(_line(cells))
    good = [
        "| good releases | | rolled back | held for a while | minutes held | for a person | rule: "
        "rolled back |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["good"]:
        cells = [row["what befell it"], row["releases"], *row["policy"].values()]
        good.append(_line([*cells, row["rule"]["rolled back"]]))
    return "\n\n".join("\n".join(lines) for lines in (bad, good) if len(lines) > _HEAD)


def _line(cells: Sequence[Any]) -> str:
    told = ["-" if cell is None else str(cell).replace("_", " ") for cell in cells]
    return f"| {' | '.join(told)} |"
