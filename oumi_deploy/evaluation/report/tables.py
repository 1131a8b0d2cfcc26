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

"""The sections of a report that are tables, each from its part of the contents."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.evaluation.report.html_pieces import cell, paragraph, row, table, told

_FIGURES = {
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "f1": ("F1", ".3f"),
    "mean_reward": ("mean reward", ".1f"),
    "mean_reward_with_delay": ("mean reward with delay", ".1f"),
    "mean_reward_with_delay_of_decided": ("the same, of decided ones alone", ".1f"),
    "share_held": ("held", ".1%"),
    "median_delay_minutes": ("median minutes until rollback", ".3g"),
    "median_delay_steps": ("median steps until rollback", ".3g"),
}

_MOST_ROWS = 40
"""Rows of a breakdown that the page shows; the JSON has all."""


def comparison(compared: Mapping[str, Any], watches: Mapping[str, Any]) -> str:
    """Shows the policy beside the baselines, and how often it paused and held.

    Args:
        compared: The comparison.
        watches: How many releases were watched while the recording raised the traffic.
    """
    ours, *others = compared["rows"]
    unit = "steps" if ours["metrics"]["median_delay_minutes"]["value"] is None else "minutes"
    other_unit = {"steps": "minutes", "minutes": "steps"}[unit]
    shown = {k: v for k, v in _FIGURES.items() if k != f"median_delay_{other_unit}"}

    gains = {"mean_reward_with_delay": "gain of the policy"} if others else {}
    if others and ours["metrics"]["share_held"]["value"]:
        gains["mean_reward_with_delay_of_decided"] = "gain of decided"
    heads = ["", *(words for words, _ in shown.values()), *gains.values()]

    def one(entry: Mapping[str, Any], kind: str = "") -> str:
        cells = [cell(entry["metrics"][name], tell) for name, (_, tell) in shown.items()]
        cells += [cell(entry["gains"][name], ".1f") if entry["gains"] else "" for name in gains]
        return row(entry["name"], cells, kind)

    bodies = {"": [one(ours, "ours"), *(one(r) for r in others if r["online"])]}
    in_hindsight = [one(r) for r in others if not r["online"]]
    if in_hindsight:
        bodies["In hindsight: no rule that is asked during a rollout can match these"] = (
            in_hindsight
        )
    caption = (
        "Figures with 95 % intervals from resampling groups. A PAUSE goes on as a CONTINUE does, "
        "and what it ends in counts. Precision, recall and F1 are of the releases that were "
        f"decided; rewards pay one that was held for a person {compared['held_reward']:g} "
        "(`rewards.held`), besides what waiting cost."
    )
    if others:
        caption += (
            " Baselines are fitted on the other folds of these episodes. The gain is the policy's, "
            "in mean reward with delay with held ones paid, release by release: where its interval "
            "is above 0, the policy is better. `Of decided` is the gain on those releases alone "
            "that the policy decides."
        )
    notes = "".join(paragraph(note[:1].upper() + note[1:]) for note in compared["notes"])
    return table(caption, heads, bodies) + _pauses(ours["metrics"], watches) + notes


def _pauses(metrics: Mapping[str, Any], watches: Mapping[str, Any]) -> str:
    """Says how often the policy paused, and what came of it."""
    if not metrics["share_ever_paused"]["value"]:
        return paragraph("The policy never said PAUSE.")
    said = paragraph(
        f"The policy said PAUSE at some point in {told(metrics['share_ever_paused'], '.1%')} of "
        f"the releases; {told(metrics['share_held'], '.1%')} were held in the end, for a person to "
        "decide, and the fallback of a pause ended "
        f"{told(metrics['share_ended_by_fallback'], '.1%')}."
    )
    n_rose = watches["n_share_rose"]
    if not n_rose:
        return said
    return said + paragraph(
        "Recordings went on raising the traffic where a PAUSE would not have: so in "
        f"{n_rose:,} of the {watches['n_scored']:,} releases, while the policy watched or later. "
        "What it saw of them from then on, it would have seen of less traffic. If each of these "
        "watches had ended where the traffic rose, with nothing seen after that, the mean reward "
        f"with delay would be {told(metrics['mean_reward_with_delay_withheld'], '.1f')}."
    )


def false_alarms(said: Mapping[str, Any]) -> str:
    """Shows how many healthy releases are rolled back, beside the bound."""
    shares = table(
        "Healthy releases rolled back, of all of them, those held for a person included, with 95 % "
        "intervals. What alpha bounds is the mean over groups.",
        ["", "rolled back", "of all, by the fallback of a pause"],
        {
            "": [
                row(
                    f"mean over the {said['n_groups']:,} groups",
                    [cell(said["share"], ".1%"), cell(said["share_by_fallback"], ".1%")],
                ),
                row(
                    "of all healthy releases",
                    [
                        cell(said["share_of_releases"], ".1%"),
                        cell(said["share_of_releases_by_fallback"], ".1%"),
                    ],
                ),
            ]
        },
    )
    if said["alpha"] is not None:
        return shares + paragraph(
            f"The policy's bound is alpha = {said['alpha']:.1%}: what is to be expected, mean over "
            "groups like those it was calibrated on, is at most that."
        )
    supported = [
        row(f"{s['alpha']:g}", [f"{s['n_groups']:,}", "yes" if s["enough"] else "no"])
        for s in said["supported"]
    ]
    advice = "<p>No bound was asked for; <code>oumi-deploy calibrate --alpha</code> fits one."
    if said["share_by_fallback"]["value"]:
        advice += (
            " One below the share that ends by the fallback takes <code>--pause-fallback PAUSE"
            "</code> or <code>CONTINUE</code>."
        )
    return (
        shares
        + f"{advice}</p>"
        + table(
            "Bounds that so many groups with healthy releases would support.",
            ["alpha", "groups it needs", "enough here"],
            {"": supported},
        )
    )


def breakdown(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Shows results by the words of a text column."""
    counts = ["n_bad", "caught", "bad_held", "n_good", "disturbed", "good_held"]
    heads = ["", "bad", "caught", "held", "good", "disturbed", "held"]
    shown = [
        row(
            "not given" if r["name"] is None else r["name"],
            [
                *(f"{r[k]:,}" for k in counts),
                "–" if r["median_delay"] is None else f"{r['median_delay']:.3g}",  # noqa: RUF001
                *(f"{r[k]:.1f}" for k in ("mean_reward", "mean_reward_with_delay")),
            ],
        )
        for r in rows[:_MOST_ROWS]
    ]
    left_out = len(rows) - len(shown)
    caption = (
        "Bad releases and how many of them were caught or held for a person, good ones and how "
        "many were disturbed or held, the median delay of those caught, and mean rewards."
    )
    note = f" The {left_out:,} with the fewest releases are not shown." * (left_out > 0)
    return table(caption + note, [*heads, f"median {unit}", "reward", "with delay"], {"": shown})
