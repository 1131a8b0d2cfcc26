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

"""Right and wrong decisions, counted."""

import numpy as np
import pandas as pd

from oumi_deploy.evaluation.figures.judged import Judged
from oumi_deploy.policy.answers import ANSWERS, PAUSED
from oumi_deploy.policy.pauses import PAUSE
from oumi_deploy.problem.rewards import ACTIONS

WORST = 10
"""Wrong decisions that are listed one by one."""

_WORDS = np.array(["good", "bad"], dtype=object)
_COLUMNS = (
    "part",
    "fault_type",
    "label",
    "decision",
    "correct",
    "n",
    "episode_id",
    "delay_steps",
    "delay_minutes",
    "reward_with_delay",
)


def scored_frame(judged: Judged) -> pd.DataFrame:
    """Returns one row a scored episode (observation).

    The columns are `episode` (its number), `episode_id`, `fault_type` where the episodes have
    it, `label`, `decision`, `correct` (NA of one that is held for a person, whose decision is
    PAUSE), `delay_steps`, `delay_minutes`, `reward_with_delay`.
    """
    scores, episodes = judged.scores, judged.episodes
    decisions = np.array(ANSWERS, dtype=object)
    codes = np.where(scores.held, PAUSED, scores.rolled_back.astype(int))
    correct = pd.Series(scores.bad == scores.rolled_back, dtype="boolean")
    frame = pd.DataFrame(
        {
            "episode": scores.episode,
            "episode_id": episodes.ids[scores.episode],
            "label": _WORDS[scores.bad.astype(int)],
            "decision": decisions[codes],
            "correct": correct.mask(scores.held),
            "delay_steps": scores.delay_steps,
            "delay_minutes": scores.delay_minutes,
            "reward_with_delay": scores.reward_with_delay,
        }
    )
    if "fault_type" in episodes.texts:
        faults = pd.Series(episodes.texts["fault_type"][scores.episode], dtype=object)
        frame["fault_type"] = faults.fillna("none")
    return frame


def count_by_label(scored: pd.DataFrame) -> pd.DataFrame:
    """Counts label by decision, also those that never occur; PAUSE only where some are held."""
    is_held = scored["decision"] == PAUSE
    decisions = ANSWERS if is_held.any() else ACTIONS
    pairs = pd.MultiIndex.from_product([_WORDS, decisions], names=["label", "decision"])
    groups = scored.groupby(["label", "decision"])
    counts = pd.DataFrame(
        {"n": groups.size(), "reward_with_delay": groups["reward_with_delay"].sum()}, index=pairs
    )
    counts = counts.fillna({"n": 0, "reward_with_delay": 0.0}).astype({"n": int}).reset_index()
    correct = (counts["label"] == "bad").eq(counts["decision"] == "ROLLBACK")
    counts["correct"] = correct.astype("boolean").mask(counts["decision"] == PAUSE)
    return counts


def count_by_fault(scored: pd.DataFrame) -> pd.DataFrame:
    """Counts fault, label and decision as they occur; empty where there are no fault types."""
    if "fault_type" not in scored:
        return pd.DataFrame()
    by = ["fault_type", "label", "decision", "correct"]
    groups = scored.groupby(by, dropna=False)["reward_with_delay"]
    return groups.agg(n="size", reward_with_delay="sum").reset_index()


def worst_decisions(scored: pd.DataFrame) -> pd.DataFrame:
    """Returns the episodes whose wrong decisions cost most, the dearest first.

    Scored per observation, the wrong ones of an episode are one row: their number `n`, their
    mean delay and their rewards together.
    """
    wrong = scored[(~scored["correct"]).fillna(value=False)].assign(n=1)
    # An episode has one label, so that all its wrong decisions are of one kind.
    rules = {name: "first" for name in _COLUMNS if name in wrong}
    rules |= {"n": "sum", "reward_with_delay": "sum"}
    rules |= {"delay_steps": "mean", "delay_minutes": "mean"}
    worst = pd.DataFrame(wrong.groupby("episode").agg(rules))
    return worst.sort_values(by="reward_with_delay", kind="stable").head(WORST)


def decisions_table(scored: pd.DataFrame) -> pd.DataFrame:
    """Joins the three tables into one, told apart by `part`."""
    parts = {
        "by_label": count_by_label(scored),
        "by_fault_type": count_by_fault(scored),
        "worst": worst_decisions(scored),
    }
    filled = [
        # Sums of step costs carry the dust of binary fractions.
        part.round(6).assign(part=name).reindex(columns=_COLUMNS).astype(object)
        for name, part in parts.items()
        if len(part)
    ]
    return pd.concat(filled, ignore_index=True)
