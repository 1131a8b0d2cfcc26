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

"""Policies beside what teams use today, each judged on releases that it was not fitted on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.baselines.catalogue import BEST_ACHIEVABLE, HINDSIGHT, ONLINE
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.evaluation.baselines.hindsight import best_achievable
from oumi_deploy.evaluation.evaluate import require_labels
from oumi_deploy.evaluation.metrics import paired_gains, summarise, told
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.policy.answers import Answers
from oumi_deploy.problem.rewards import Rewards

COLUMNS = {
    "precision": ("precision", ".3g"),
    "recall": ("recall", ".3g"),
    "f1": ("F1", ".3g"),
    "mean_reward": ("reward", ".3g"),
    "mean_reward_with_delay": ("with delay", ".3g"),
    "mean_reward_with_delay_of_decided": ("of decided ones", ".3g"),
    "share_held": ("held", ".1%"),
    "median_delay_minutes": ("minutes", ".3g"),
}
"""Figures of the table to read, with their headings and how they are told."""


def held_out_baselines(
    episodes: Episodes,
    folds: np.ndarray,
    rewards: Rewards,
    state: Sequence[str],
    seed: int = 0,
    names: Iterable[str] = (*ONLINE, *HINDSIGHT),
) -> dict[str, np.ndarray]:
    """Fits every baseline on all folds but one, and lets it decide on that one.

    Where a fit would take minutes, it draws some of the training releases; `MOST_EPISODES` of each
    module says how many.

    Args:
        episodes: The episodes.
        folds: Fold of each episode, int of shape (n_episodes,).
        rewards: What decisions pay.
        state: Names of the features that models see.
        seed: Seed of whatever the fits draw.
        names: The baselines, of `ONLINE` and `HINDSIGHT`.

    Returns:
        Action at every decision, int of shape (n_decisions,), by name.

    Raises:
        DeployError: If a baseline cannot be fitted to all folds but one.
    """
    context, fits = Context(rewards, tuple(state), seed), ONLINE | HINDSIGHT
    of = np.repeat(folds, episodes.canary_lengths)
    actions = {name: np.empty(len(of), dtype=np.int64) for name in names}
    tasks = [(fold, name) for fold in np.unique(folds) for name in actions]
    for fold, name in tqdm(tasks, desc="Baselines", unit="fit"):
        rule = fits[name](episodes.select(folds != fold), context)
        actions[name][of == fold] = rule(episodes.select(folds == fold))
    return actions


def compare(
    episodes: Episodes,
    policies: Mapping[str, Answers],
    baselines: Mapping[str, np.ndarray],
    rewards: Rewards,
    state: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Judges policies and baselines by the same rules.

    Args:
        episodes: The episodes.
        policies: Answers of the policies at every decision, by name; gains are the first one's.
            Without a policy there are no gains.
        baselines: Actions of the baselines, as of `held_out_baselines`.
        rewards: What decisions pay.
        state: The features on which the best achievable value is fitted.
        seed: Seed of the intervals and of that fit.

    Returns:
        `rows`, each with `name`, `online` (whether it can be asked during the rollout), `metrics`
        and `gains` (of the first policy over it; None for itself); `notes`, what is left out; and
        `held_reward`, what a release pays that is held for a person.

    Raises:
        DeployError: If no episode is labelled.
    """
    require_labels(episodes)
    taken = {name: answers.actions for name, answers in policies.items()} | dict(baselines)
    notes = []
    best = best_achievable(episodes, Context(rewards, tuple(state), seed))
    if isinstance(best, str):
        notes.append(best)
    else:
        taken[BEST_ACHIEVABLE] = best
    first = next(iter(policies), None)
    scores = {
        name: score(episodes, actions, rewards, answers=policies.get(name))
        for name, actions in taken.items()
    }
    rows = [
        {
            "name": name,
            "online": name not in HINDSIGHT and name != BEST_ACHIEVABLE,
            "metrics": summarise(earned, episodes, seed),
            "gains": None
            if first in (None, name)
            else paired_gains(scores[first], earned, episodes, seed),
        }
        for name, earned in scores.items()
    ]
    beaten = _beaten_bound(rows)
    if beaten is not None:
        rows = [row for row in rows if row["name"] != BEST_ACHIEVABLE]
        notes.append(beaten)
    return {"rows": rows, "notes": notes, "held_reward": rewards.held}


def _beaten_bound(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Says why what was fitted as the best achievable value bounds nothing, None where it does."""
    earned = {row["name"]: row["metrics"]["mean_reward_with_delay"]["value"] for row in rows}
    bound = earned.pop(BEST_ACHIEVABLE, None)
    best = max((row["name"] for row in rows if row["online"]), key=earned.__getitem__, default=None)
    if bound is None or best is None or earned[best] <= bound:
        return None
    return (
        f"the best achievable value is left out: fitted to these releases it earns {bound:.1f}, "
        f"and {best} earns {earned[best]:.1f}"
    )


def as_text(table: Mapping[str, Any]) -> str:
    """Renders a comparison as aligned columns, intervals in brackets."""
    heads = [heading for heading, _ in COLUMNS.values()]
    lines = [["", *heads, "gain in reward with delay"]]
    for row in table["rows"]:
        gain = row["gains"] and row["gains"]["mean_reward_with_delay"]
        cells = [told(row["metrics"][name], tell) for name, (_, tell) in COLUMNS.items()]
        lines.append([_called(row), *cells, told(gain) if gain else ""])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    marks = any(not row["online"] for row in table["rows"])
    notes = [*(["* decides in hindsight"] if marks else []), *table["notes"]]
    if any(row["metrics"]["share_held"]["value"] for row in table["rows"]):
        notes.append(about_held(table["held_reward"]))
    return "\n".join(line.rstrip() for line in [*text, *notes])


def about_held(reward: float) -> str:
    """Says how a release counts that is held for a person to decide, by what it pays."""
    return (
        "held: a person must decide. Precision, recall and F1 are of the releases that were "
        f"decided; rewards pay a held one {reward:g} (`rewards.held`), besides what waiting cost, "
        "and leave it out under `of decided ones`."
    )


def as_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a comparison as flat rows for a CSV file, None where a figure is not defined."""
    rows = []
    for row in table["rows"]:
        gains = {f"gain_{name}": metric for name, metric in (row["gains"] or {}).items()}
        figures = {
            name if part == "value" else f"{name}_{part}": metric[part]
            for name, metric in {**row["metrics"], **gains}.items()
            for part in ("value", "low", "high")
        }
        rows.append({"name": row["name"], "online": row["online"], **figures})
    return rows


def _called(row: Mapping[str, Any]) -> str:
    return row["name"] if row["online"] else f"{row['name']} *"
