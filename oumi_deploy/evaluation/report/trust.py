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

"""Where a policy must not be trusted, read off the contents of its report."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.evaluation.report.vet import against

FEW = 5
"""Releases of one label below which a breakdown says nothing."""

FEW_GROUPS = 20
"""Groups, or bad releases, below which intervals from resampling are themselves rough."""

WITHOUT_PAUSES = "its Q-values alone"
"""Row of a comparison that shows what the policy's rules on risk cost or save: CONTINUE only at or
below break-even, its pauses, its guardrails and bound, and the releases that it holds."""

_NAMED = 8
"""Names that a sentence lists; of more, the first and their number."""

_NOTABLE = 0.01
"""Share of odd observations from which on they are worth a warning."""


def what_speaks_against(contents: Mapping[str, Any]) -> list[str]:
    """Returns one sentence for each thing that speaks against trusting the policy.

    Args:
        contents: The other parts of a report, see `contents`.
    """
    return [
        *_on_the_episodes(contents["judged_on"]),
        *_on_calibration(contents),
        *_on_the_comparison(contents["comparison"]["rows"]),
        *(said for column, rows in contents["by"].items() for said in _on_parts(column, rows)),
        *_on_observations(contents["observations"]),
        *against(contents["vet"]),
    ]


def _on_the_episodes(counts: Mapping[str, Any]) -> list[str]:
    said = []
    if counts["all_seen"]:
        said.append(
            "Every release here is of a group that the policy was trained on: what it reaches on "
            "them says nothing of others. `oumi-deploy crossval` judges each release by a policy "
            "that never saw it."
        )
    elif not counts["knows_groups"]:
        said.append(
            "The policy file does not list the groups that it was trained on: whether some of "
            "these are among them cannot be checked."
        )
    if counts["calibrated_on_them"]:
        said.append(
            "It was calibrated on these very releases: its risk and its false alarms look better "
            "on them than they will on others."
        )
    if counts["n_groups"] < FEW_GROUPS:
        groups = _count(counts["n_groups"], "group")
        said.append(f"{groups}: too few for the intervals themselves to be exact.")
    for label in ("bad", "good"):
        if counts[f"n_{label}"] < FEW_GROUPS:
            n = _count(counts[f"n_{label}"], f"{label} release")
            what = "recall and delay" if label == "bad" else "false alarms"
            said.append(f"{n}: {what} are known roughly at best.")
    if counts["n_censored"]:
        said.append(
            f"{_count(counts['n_censored'], 'release')} not scored: the log ends in a rollback "
            "that the policy did not make, so nobody knows what would have come of it."
        )
    return said


def _on_calibration(contents: Mapping[str, Any]) -> list[str]:
    if contents["policy"]["calibration"] is None:
        if contents["policy"]["version"] == 1:
            return ["It is not calibrated: it states no risk and never says PAUSE."]
        return [
            "It is not calibrated: its risk is what its Q-values imply, and was held against no "
            "release that it was not trained on."
        ]
    told = contents["false_alarms"]
    alpha, low = told["alpha"], told["share"]["low"]
    if alpha is not None and low is not None and low > alpha:
        return [
            f"It rolls back more healthy releases than its bound of {alpha:g} allows: these are "
            "not like those it was calibrated on."
        ]
    return []


def _on_the_comparison(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    gains = {
        row["name"]: row["gains"]["mean_reward_with_delay"]
        for row in rows
        if row["online"] and row["gains"]
    }
    known = {name: gain for name, gain in gains.items() if gain["low"] is not None}
    pauses = known.pop(WITHOUT_PAUSES, None)
    worse = [name for name, gain in known.items() if gain["high"] < 0]
    unclear = [name for name, gain in known.items() if gain["low"] <= 0 <= gain["high"]]
    said = []
    if pauses is not None and pauses["high"] < 0:
        said.append(
            f"Its rules on risk, with its pauses and the releases that it holds, cost "
            f"{-pauses['value']:.1f} of the mean reward here, beside its Q-values alone."
        )
    if worse:
        said.append(f"On these releases it earns less than: {_listed(worse)}.")
    if unclear:
        said.append(f"On these releases it is not shown to be better than: {_listed(unclear)}.")
    return said


def _on_parts(column: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    def told(row: Mapping[str, Any], hit: str, of: str) -> str:
        return f"{_name(row)} ({row[hit]} of {row[of]})"

    words = column.replace("_", " ")
    few = [_name(row) for row in rows if 0 < row["n_bad"] < FEW]
    missed = [
        told(row, "caught", "n_bad")
        for row in rows
        if row["n_bad"] >= FEW and row["caught"] < (row["n_bad"] - row["bad_held"]) / 2
    ]
    held = [
        f"{_name(row)} ({row['bad_held'] + row['good_held']} of {row['n']})"
        for row in rows
        if row["n"] >= FEW and row["bad_held"] + row["good_held"] > row["n"] / 2
    ]
    disturbed = [
        told(row, "disturbed", "n_good")
        for row in rows
        if row["n_good"] >= FEW and row["disturbed"] > row["n_good"] / 2
    ]
    said = {
        f"Less than half of the bad releases caught that it decided, by {words}": missed,
        f"More than half of the healthy releases rolled back, by {words}": disturbed,
        f"More than half of the releases held for a person, by {words}": held,
        f"Fewer than {FEW} bad releases, too few to say, by {words}": few,
    }
    return [f"{what}: {_listed(names)}." for what, names in said.items() if names]


def _on_observations(told: Mapping[str, Any]) -> list[str]:
    said = []
    if told["untaught"]:
        names = _listed(told["untaught"])
        said.append(f"Nothing was learnt from what its training releases never reported: {names}.")
    if told["unreported"]:
        said.append(
            f"These releases never report what it was taught: {_listed(told['unreported'])}. It "
            "decides without that here."
        )
    for name, what in (
        ("out_of_range", "have a value worse than all that its training has seen"),
        ("silent", "come without telemetry that it can use"),
        ("few_requests", "have fewer requests than it takes for a decision"),
    ):
        if told[name] > _NOTABLE:
            said.append(f"{told[name]:.1%} of the observations here {what}.")
    return said


def _name(row: Mapping[str, Any]) -> str:
    return "not given" if row["name"] is None else row["name"]


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" + "s" * (n != 1)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
    return ", ".join(names[:_NAMED]) + more
