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

"""Policies and baselines beside each other: nothing leaks, nothing looks ahead."""

import json
from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.schema import BAD
from oumi_deploy.evaluation.baselines.catalogue import BEST_ACHIEVABLE, HINDSIGHT, ONLINE
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.evaluation.compare import as_rows, as_text, compare, held_out_baselines
from oumi_deploy.evaluation.folds import assign_folds
from oumi_deploy.policy.answers import Answers
from oumi_deploy.problem.rewards import Rewards

STATE = ("error_rate.mean", "memory_usage.baseline", "health_score", "error_rate.missing")
REWARDS = Rewards()
KINDS = [("bad", 0), ("bad", 1), ("good", 0), ("good", 1)]
LIKE = {"policy": "online rule", "other": "always roll back"}


@pytest.fixture(scope="module")
def releases():
    return generate_sample(120, seed=5)


@pytest.fixture(scope="module")
def folds(releases):
    return assign_folds(releases.group_codes(), 2, seed=0)


@pytest.fixture(scope="module")
def actions(releases, folds):
    return held_out_baselines(releases, folds, REWARDS, STATE)


def answers_of(actions: np.ndarray) -> Answers:
    """The answers of a policy that takes these actions and never pauses."""
    none = np.zeros(len(actions), dtype=np.int64)
    return Answers(actions, np.full(len(actions), 0.5), none, none > 0, none > 0)


def test_every_baseline_decides_on_every_release(releases, actions):
    assert list(actions) == [*ONLINE, *HINDSIGHT]
    for taken in actions.values():
        assert taken.shape == (int(releases.canary_offsets[-1]),)
        assert set(np.unique(taken)) <= {0, 1}
    assert actions["always roll back"].all()


def test_no_baseline_sees_the_labels_of_the_fold_it_decides_on(releases, folds, actions):
    labels = releases.labels.copy()
    labels[folds == 0] = 1 - labels[folds == 0]
    hidden = held_out_baselines(replace(releases, labels=labels), folds, REWARDS, STATE)
    rows = np.repeat(folds, releases.canary_lengths) == 0
    for name, taken in actions.items():
        assert (hidden[name][rows] == taken[rows]).all(), name


def test_no_online_baseline_looks_ahead(releases, folds, actions):
    """Without the second half of their canary rows, releases get the same actions in the first."""
    kept = np.ones(releases.n_rows, dtype=bool)
    halves = (releases.canary_lengths + 1) // 2
    for end, n_lost in zip(releases.offsets[1:], releases.canary_lengths - halves, strict=True):
        kept[end - n_lost : end] = False
    shorter = replace(
        releases,
        offsets=np.concatenate([[0], np.cumsum(releases.baseline_lengths + halves)]),
        numbers={name: values[kept] for name, values in releases.numbers.items()},
    )
    training, context = releases.select(folds == 0), Context(REWARDS, STATE)
    first = kept[releases.canary_rows]
    for name, fit in ONLINE.items():
        rule = fit(training, context)
        assert (rule(releases)[first] == rule(shorter)).all(), name


def test_the_table_holds_every_figure_and_the_gains_of_the_first_policy(releases, actions):
    policies = {name: answers_of(actions[like]) for name, like in LIKE.items()}
    baselines = {name: actions[name] for name in ("always continue", *HINDSIGHT)}
    table = compare(releases, policies, baselines, REWARDS, STATE)
    assert json.loads(json.dumps(table)) == table
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["policy", "other", "always continue", *HINDSIGHT]
    assert [row["online"] for row in table["rows"]] == [True] * 3 + [False] * 3
    assert rows["policy"]["gains"] is None
    bad = (releases.labels == 1).mean()
    assert rows["always continue"]["metrics"]["mean_reward"]["value"] == pytest.approx(
        50 - 250 * bad
    )
    gain = rows["other"]["gains"]["mean_reward"]
    mine, others = (rows[n]["metrics"]["mean_reward"]["value"] for n in ("policy", "other"))
    assert gain["value"] == pytest.approx(mine - others)
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert "left out" in table["notes"][0]


def test_the_text_and_the_csv_rows_show_the_table(releases, actions):
    table = compare(
        releases,
        {"policy": answers_of(actions["online rule"])},
        {name: actions[name] for name in ("always continue", next(iter(HINDSIGHT)))},
        REWARDS,
        STATE,
    )
    head, policy, never, late, *notes = as_text(table).splitlines()
    assert head.split()[:3] == ["precision", "recall", "F1"]
    assert "held" in head
    assert "0.0%" in policy
    assert policy.startswith("policy ")
    # Nothing was rolled back: no precision, and a recall of 0.
    assert never.removeprefix("always continue").split()[0] == "-"
    assert late.startswith(f"{next(iter(HINDSIGHT))} *")
    assert notes == ["* decides in hindsight", *table["notes"]]
    rows = as_rows(table)
    assert rows[0]["name"] == "policy"
    assert rows[1]["precision"] is None
    assert rows[1]["recall"] == 0
    assert rows[1]["gain_mean_reward_low"] < rows[1]["gain_mean_reward_high"]


def test_held_releases_have_a_column_and_a_gain_beside_them(make_episodes):
    rows = [{"step": [0, 1], "label": label, "group": label + str(i)} for label, i in KINDS]
    releases = make_episodes(*rows)
    # The policy rolls back the first bad one, holds the second and the first good one, and lets
    # the second good one go on.
    decision, held = np.array([1, 1, 2, 2, 2, 2, 0, 0]), np.zeros(8, dtype=bool)
    held[[3, 5]] = True
    none = np.zeros(8, dtype=np.int64)
    answers = Answers(decision, np.full(8, 0.2), none, none > 0, held)
    table = compare(releases, {"policy": answers}, {"never": none}, REWARDS, STATE)
    ours, never = table["rows"]
    assert ours["metrics"]["share_held"]["value"] == 0.5
    assert never["metrics"]["share_held"]["value"] == 0
    # 100, -10 less a wait of 2, -10, 50; against -202, -202, 50, 50.
    gains = {name: gain["value"] for name, gain in never["gains"].items()}
    assert gains["mean_reward_with_delay"] == (302 + 190 - 60 + 0) / 4
    assert gains["mean_reward_with_delay_of_decided"] == (302 + 0) / 2
    text = as_text(table)
    assert "50.0%" in text
    assert "pay a held one -10" in text.splitlines()[-1]
    (policy, _) = as_rows(table)
    assert policy["share_held"] == 0.5
    assert policy["mean_reward_with_delay_of_decided"] == (100 + 50) / 2


def test_on_enough_releases_the_best_achievable_value_is_there_and_best():
    releases = generate_sample(320, seed=6)
    never = {"never": np.zeros(int(releases.canary_offsets[-1]), dtype=int)}
    table = compare(releases, {}, never, REWARDS, STATE)
    rows = {row["name"]: row for row in table["rows"]}
    assert not rows[BEST_ACHIEVABLE]["online"]
    assert rows[BEST_ACHIEVABLE]["gains"] is None
    values = [row["metrics"]["mean_reward_with_delay"]["value"] for row in table["rows"]]
    assert values[1] > values[0]
    assert table["notes"] == []


def test_a_bound_that_is_beaten_is_none():
    releases = generate_sample(320, seed=6)
    of = np.repeat(releases.labels == BAD, releases.canary_lengths)
    table = compare(releases, {}, {"oracle": of.astype(int)}, REWARDS, STATE)
    assert [row["name"] for row in table["rows"]] == ["oracle"]
    (note,) = table["notes"]
    n_bad = (releases.labels == BAD).sum()
    assert f"oracle earns {(100 * n_bad + 50 * (320 - n_bad)) / 320:.1f}" in note
