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

"""What a night came to, as text."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from oumi_deploy.evaluation.metrics import told

_PARTS = {"trusted": "trusted file", "new": "new, held out", "together": "what decides"}
_HEAD = ("", "releases", "groups", "bad", "champion", "challenger", "gain", "lower bound")
_HEAD += ("recall", "let through", "held")
_SIDES = {"judge": "held out", "trusted": "trusted file"}
_DONE = {"train": "trained on", "calibrate": "calibrated on", **_SIDES}
_TO_DO = {"train": "to train on", "calibrate": "to calibrate on", **_SIDES}


def describe(report: Mapping[str, Any]) -> str:
    """Returns what `learn`, `begin` or `go_back` did, to read."""
    lines = []
    if "exported" in report:
        lines += [_exported(report["exported"]), _sides(report)]
    if "figures" in report:
        lines += ["", _table(report["figures"]), "", f"the log alone: {_log_alone(report)}"]
    waiting = report.get("waiting_for_review", {})
    if any(waiting.values()):
        stopped, others = (waiting[kind] for kind in ("rolled_back", "completed"))
        lines += [
            f"{len(stopped)} rolled-back releases and {len(others)} others held out have no label "
            f"(--json lists them), {[*stopped, *others][0]} among them: a review may draw from them"
        ]
    return "\n".join([*lines, *([""] if lines else []), _outcome(report)])


def describe_history(history: list[dict[str, Any]]) -> str:
    """Returns the events, oldest first."""
    return "\n".join(
        f"{datetime.fromisoformat(line['at']):%Y-%m-%d %H:%M}  {line['event']:10} champion "
        f"{line['champion']} ({line['policy_version']})"
        + (f", version {line['version']}" if "version" in line else "")
        + f": {line['reason']}"
        for line in history
    )


def _exported(exported: Mapping[str, Any]) -> str:
    by = ", ".join(f"{n} by {source}" for source, n in exported["labelled_by"].items()) or "none"
    untold = f"; {exported['n_untold']} labelled by sources that do not count"
    return f"{exported['n_releases']} new releases; labelled: {by}" + untold * bool(
        exported["n_untold"]
    )


def _sides(report: Mapping[str, Any]) -> str:
    names = _TO_DO if report["outcome"] == "skipped" else _DONE
    return "; ".join(
        f"{name}: {part['n_releases']} releases in {part['n_groups']} groups"
        for name, part in ((name, report["data"][side]) for side, name in names.items())
    )


def _table(figures: Mapping[str, Any]) -> str:
    rows = [_HEAD, *(_row(name, figures[part]) for part, name in _PARTS.items() if part in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _row(name: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    who = [part["champion"], part["challenger"]]
    bound = part["gain"]["lower_bound"]
    return (
        name,
        *(str(part[count]) for count in ("n_releases", "n_groups", "n_bad")),
        *("-" if one["reward"] is None else f"{one['reward']:.1f}" for one in who),
        told(part["gain"], ".1f"),
        "-" if bound is None else f"{bound:.2f}",
        *(
            " to ".join("-" if one[share] is None else f"{one[share]:.3f}" for one in who)
            for share in ("recall", "let_through", "held")
        ),
    )


def _log_alone(report: Mapping[str, Any]) -> str:
    said = report["log_alone"]
    if "refused" in said:
        return f"not estimated: {said['refused']}"
    told_by = []
    for family, answer in said["families"].items():
        if "refused" not in answer:
            best = next(e for e in answer["mean_reward_with_delay"] if "doubly" in e["name"])
            told_by.append(
                f"{best['value']:.1f} ({best['low']:.1f} to {best['high']:.1f}) from "
                f"{family.replace('_', ' ')}"
            )
    return f"the challenger earns {', '.join(told_by)}; this decides nothing"


def _outcome(report: Mapping[str, Any]) -> str:
    champion = f"version {report['champion']} is champion"
    if report.get("dry_run"):
        champion += " and stays so: nothing was written, this is what would have happened"
    seconds = report.get("seconds")
    took = f" ({', '.join(f'{k} {v:g} s' for k, v in seconds.items())})" if seconds else ""
    return f"{report['outcome']}: {report['reason']}\n{champion}{took}"
