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

"""The generator of releases, and how hard the releases are to judge."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oumi_deploy.episodes import generator
from oumi_deploy.episodes.faults import DISTURBANCES, FAULTS
from oumi_deploy.episodes.generator import (
    ReleaseParameters,
    generate_episodes,
    stream_episodes,
    write_episodes,
)
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.reference import best_achievable_value

METRICS = ["error_rate", "memory_usage", "cpu_usage", "health_score"]
TWELVE_STEPS = ReleaseParameters(baseline_steps=(0, 0), canary_steps=(12, 12))
REWARDS = np.array([[50.0, -50.0], [-200.0, 100.0]])
CALM: dict[str, Any] = {f"{name}_probability": 0.0 for name in DISTURBANCES} | {
    "missing_probability": 0.0
}


@pytest.fixture(scope="module")
def releases() -> Any:
    return generate_episodes(4_000, seed=5)


def only(name: str, **changes: Any) -> Any:
    """300 releases which all have the fault or disturbance `name`, and no other."""
    if name in FAULTS:
        weights = {f"{fault}_weight": float(fault == name) for fault in FAULTS}
        changes = weights | {"bad_share": 1.0, "mild_share": 0.0, "late_share": 0.0} | changes
    else:
        changes = {f"{name}_probability": 1.0, "bad_share": 0.0} | changes
    return generate_episodes(300, 7, ReleaseParameters(**(CALM | changes)))


def mean_of(rows: Any, column: str) -> Any:
    return rows.groupby("episode_id")[column].mean()


def canary(table: Any) -> Any:
    return table[table["phase"] == "canary"]


def minute(table: Any) -> Any:
    """Observations since the start of the canary, for the canary rows."""
    return canary(table).groupby("episode_id").cumcount()


def last_rows(table: Any, count: int = 3) -> Any:
    return table.groupby("episode_id").tail(count)


def test_same_seed_gives_the_same_table_and_another_seed_another():
    first, again = generate_episodes(200, 3), generate_episodes(200, 3)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not first["error_rate"].equals(generate_episodes(200, 4)["error_rate"])


def test_first_episodes_do_not_depend_on_the_count(monkeypatch):
    monkeypatch.setattr(generator, "EPISODES_PER_CHUNK", 100)
    few, many = generate_episodes(130, 3), generate_episodes(250, 3)
    pd.testing.assert_frame_equal(few, many.iloc[: len(few)], check_exact=True)
    assert many["episode_id"].nunique() == 250
    assert [table["episode_id"].nunique() for table in stream_episodes(250, 3)] == [100, 100, 50]


def test_values_stay_in_their_ranges(releases):
    for column in ("error_rate", "health_score", "canary_share"):
        for name in {column, f"control_{column}"} & set(releases.columns):
            assert releases[name].dropna().between(0, 1).all()
    for column in ("requests", "memory_usage", "cpu_usage", "n_pods"):
        assert (releases[column].dropna() >= 0).all()
    assert (releases["latency"].dropna() > 0).all()
    assert np.isfinite(
        releases.select_dtypes("number").to_numpy()[releases.notna().all(axis=1)]
    ).all()
    assert set(releases["label"]) == {"good", "bad"}


def test_steps_count_from_zero_and_the_canary_follows_the_baseline(releases):
    position = releases.groupby("episode_id", sort=False).cumcount()
    assert (releases["step"] == position).all()
    is_canary = releases["phase"] == "canary"
    assert (is_canary.groupby(releases["episode_id"]).diff().dropna().astype(int) >= 0).all()
    assert (releases.loc[~is_canary, "canary_share"] == 0).all()
    assert (releases.loc[is_canary, "canary_share"] > 0).all()
    assert (
        is_canary.groupby(releases["episode_id"]).transform("sum") == releases["planned_steps"]
    ).all()
    gaps = releases.groupby("episode_id")["timestamp"].diff().dropna()
    assert np.allclose(gaps, 60)


def test_control_is_there_while_old_pods_are(releases):
    compared = releases["canary_share"].between(0, 1, inclusive="neither")
    control = releases["control_memory_usage"].notna()
    assert not control[~compared].any()
    assert control[compared].mean() > 0.95


def test_groups_hold_one_to_four_releases_alike_in_level(releases):
    episodes = (
        releases[releases["phase"] == "baseline"]
        .groupby("episode_id")
        .agg(group=("group", "first"), memory=("memory_usage", "mean"))
    )
    assert episodes["group"].value_counts().between(1, 4).all()
    within = episodes.groupby("group")["memory"].std().mean()
    assert within < 0.5 * episodes["memory"].std()


def test_every_kind_with_a_weight_occurs_and_a_fault_means_bad(releases):
    kinds = releases.groupby("fault_type")["label"].agg(set)
    faults = {name for name in FAULTS if getattr(ReleaseParameters(), f"{name}_weight")}
    assert set(kinds.index) == {*faults, *DISTURBANCES, "none"}
    assert all(kinds[name] == ({"bad"} if name in FAULTS else {"good"}) for name in kinds.index)


@pytest.mark.parametrize(
    ("fault", "metric", "rise"),
    [
        ("error_spike", "error_rate", 0.03),
        ("error_creep", "error_rate", 0.03),
        ("memory_leak", "memory_usage", 0.25),
        ("cpu_saturation", "cpu_usage", 0.2),
        ("crash_loop", "error_rate", 0.1),
        ("crash_loop", "health_score", -0.2),
        ("not_ready", "health_score", -0.4),
    ],
)
def test_a_fault_shows_late_in_its_metric_and_not_in_the_old_version(fault, metric, rise):
    table = only(fault)
    before = mean_of(table[table["phase"] == "baseline"], metric)
    shift = mean_of(last_rows(table), metric) - before
    assert (np.sign(rise) * shift).median() > abs(rise)
    old = mean_of(canary(table), f"control_{metric}") - before
    assert old.abs().median() < 0.02


def test_a_memory_leak_climbs_before_it_reaches_the_limit():
    table = only("memory_leak")
    early = canary(table)[minute(table) < canary(table)["planned_steps"] / 2]
    ends = early.groupby("episode_id")["memory_usage"].agg(["first", "last"])
    below = ends[ends["last"] < 0.9]
    assert (below["last"] - below["first"]).median() > 0.05
    assert (table.groupby("episode_id")["memory_usage"].max() > 0.97).mean() > 0.5


def test_creeping_errors_grow():
    table = only("error_creep")
    half = minute(table) >= canary(table)["planned_steps"] / 2
    rows = canary(table)
    growth = mean_of(rows[half], "error_rate") - mean_of(rows[~half], "error_rate")
    assert (growth > 0).mean() > 0.9


@pytest.mark.parametrize("fault", ["error_spike", "error_creep"])
def test_pods_that_answer_with_errors_stay_ready(fault):
    table = only(fault, severity=(1.0, 1.0))
    before = table[table["phase"] == "baseline"]
    assert (mean_of(last_rows(table), "error_rate") > 0.03).mean() > 0.8
    fallen = mean_of(before, "health_score") - mean_of(canary(table), "health_score")
    assert abs(fallen.mean()) < 0.01


def test_pods_that_hang_answer_without_errors():
    table = only("not_ready")
    before = table[table["phase"] == "baseline"]
    for metric in ("error_rate", "memory_usage", "cpu_usage"):
        shift = mean_of(last_rows(table), metric) - mean_of(before, metric)
        assert abs(shift.mean()) < 0.01


def test_health_is_a_share_of_whole_pods(releases):
    known = releases.dropna(subset=["health_score", "n_pods"])
    ready = known["health_score"] * known["n_pods"]
    assert np.allclose(ready, ready.round(), atol=1e-3)
    assert (ready.round() < known["n_pods"]).any()


def test_a_warm_up_heals():
    rows, since = canary(only("warm_up")), minute(only("warm_up"))
    start, later = (mean_of(rows[part], "error_rate") for part in (since == 0, since >= 8))
    assert (start - later).median() > 0.02
    assert (start - later > 0).mean() > 0.9


def test_a_noisy_neighbour_moves_old_and_new_alike():
    rows = canary(only("noisy_neighbour", canary_steps=(30, 30))).dropna()
    rise = rows[["cpu_usage", "control_cpu_usage"]] - rows.groupby("episode_id")[
        ["cpu_usage", "control_cpu_usage"]
    ].transform("median")
    hit = rise[rise["cpu_usage"] > 0.1]
    assert len(hit) > 300
    assert hit["control_cpu_usage"].mean() == pytest.approx(hit["cpu_usage"].mean(), rel=0.15)


def test_lost_telemetry_leaves_stretches_of_missing_values():
    missing = canary(only("lost_telemetry"))[METRICS].isna()
    assert missing.all(axis=1).any()
    assert (missing.any(axis=1) & ~missing.all(axis=1)).any()
    assert not canary(only("warm_up", low_traffic_probability=0.0))[METRICS].isna().any(axis=None)


def test_low_traffic_makes_error_rates_coarse():
    table = only("low_traffic", low_traffic_requests=(10.0, 10.0))
    assert table.loc[table["phase"] == "baseline", "requests"].median() == pytest.approx(10, abs=2)
    failed = (table["error_rate"] * table["requests"]).dropna()
    assert np.allclose(failed, failed.round())


def test_episodes_of_exactly_twelve_steps():
    table = generate_episodes(100, 1, TWELVE_STEPS)
    assert len(table) == 1_200
    assert set(table["phase"]) == {"canary"}
    assert set(table.groupby("episode_id")["step"].max()) == {11}


def test_faults_start_early_enough_to_show_in_most_canary_rows():
    table = only("error_spike", error_spike_rate=(0.5, 0.5), severity=(1.0, 1.0))
    failing = canary(table)["error_rate"] > 0.25
    assert failing.groupby(canary(table)["episode_id"]).mean().median() > 2 / 3


def test_written_file_equals_the_table_and_progress_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "EPISODES_PER_CHUNK", 100)
    done: list[int] = []
    path = tmp_path / "episodes.parquet"
    write_episodes(path, 250, 3, progress=done.append)
    pd.testing.assert_frame_equal(
        pd.read_parquet(path), generate_episodes(250, 3), check_exact=True
    )
    assert done == [100, 100, 50]
    with pytest.raises(DeployError, match="exists already"):
        write_episodes(path, 10, 3)
    write_episodes(path, 10, 3, overwrite=True)
    assert pd.read_parquet(path)["episode_id"].nunique() == 10


def test_nothing_is_left_behind_if_writing_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "EPISODES_PER_CHUNK", 100)

    def fail(_: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_episodes(tmp_path / "episodes.parquet", 250, 3, progress=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"bad_share": 1.5},
        {"bad_share": float("nan")},
        {"crash_loop_weight": -1.0},
        {"canary_steps": (0, 5)},
        {"canary_steps": (10.5, 12.0)},
        {"baseline_steps": (9, 5)},
        {"onset": 0.5},
        {"warm_up_rate": (0.1, "0.2")},
    ],
)
def test_a_bad_parameter_is_refused_by_name(change):
    with pytest.raises(DeployError, match=next(iter(change))):
        dataclasses.replace(ReleaseParameters(), **change)


def test_weights_count_and_seed_are_checked():
    with pytest.raises(DeployError, match="weight"):
        dataclasses.replace(TWELVE_STEPS, **{f"{name}_weight": 0.0 for name in FAULTS})
    with pytest.raises(DeployError, match="count"):
        generate_episodes(0, 1)
    with pytest.raises(DeployError, match="seed"):
        generate_episodes(1, -1)


def running(values: Any, episodes: Any) -> Any:
    """The mean so far in each episode, over what is not missing."""
    known = values.notna().groupby(episodes, sort=False).cumsum()
    return values.fillna(0).groupby(episodes, sort=False).cumsum() / known.where(known > 0)


def prefix_features(table: Any) -> np.ndarray:
    """A simple summary of what is known at each canary row, (n_rows, n_features)."""
    rows = canary(table)
    episodes = rows["episode_id"]
    since = minute(table)
    columns = [since, since / rows["planned_steps"], rows["canary_share"], rows["requests"]]
    columns.append(rows["requests"].groupby(episodes, sort=False).cumsum())
    for name in METRICS:
        now = rows[name]
        before = episodes.map(mean_of(table[table["phase"] == "baseline"], name))
        mean = running(now, episodes)
        when = since.where(now.notna())
        mean_when = running(when, episodes)
        spread = running(when**2, episodes) - mean_when**2
        slope = (running(now * when, episodes) - mean * mean_when) / spread.where(spread > 0)
        recent = now.fillna(mean).groupby(episodes, sort=False)
        recent = sum(recent.shift(lag).fillna(mean) for lag in range(4)) / 4
        against = now - rows[f"control_{name}"]
        columns += [now, mean, now.groupby(episodes, sort=False).cummax(), slope, mean - before]
        columns += [now - before, against, running(against, episodes), recent, recent - before]
    return np.column_stack(columns)


def test_the_defaults_are_neither_easy_nor_hopeless(releases: Any):
    rows = canary(releases)
    first = rows.drop_duplicates("episode_id")
    labels = (first["label"] == "bad").to_numpy().astype(int)
    offsets = np.append(0, np.cumsum(rows.groupby("episode_id", sort=False).size()))
    constant = REWARDS[labels].mean(axis=0).max()
    perfect = REWARDS[labels].max(axis=1).mean()

    costs = 2 * rows["canary_share"].to_numpy()
    best = best_achievable_value(
        prefix_features(releases), offsets, labels, first["group"].to_numpy(), costs, REWARDS, 0
    )
    highest = rows.groupby("episode_id", sort=False)["error_rate"].max().fillna(0).to_numpy()
    threshold = max(
        REWARDS[labels, (highest >= theta).astype(int)].mean()
        for theta in np.quantile(highest, np.linspace(0, 1, 201))
    )
    # 4,000 releases teach the models a little less than the 10,000 of the nominal 0.85.
    assert 0.83 <= (best.mean_reward - constant) / (perfect - constant) <= 0.95
    assert (threshold - constant) / (perfect - constant) <= 0.75
    assert best.mean_reward - 10 < best.mean_reward_with_delay < best.mean_reward


def test_single_observations_look_as_the_label_suggests(releases):
    rows = canary(releases)

    def bad_share_near(centre: list[float], width: list[float]) -> float:
        near = ((rows[METRICS] - centre).abs() <= width).all(axis=1)
        assert near.sum() > 100
        return (rows.loc[near, "label"] == "bad").mean()

    for calm in ([0.02, 0.45, 0.30, 0.98], [0.01, 0.50, 0.35, 0.99]):
        assert bad_share_near(calm, [0.015, 0.06, 0.06, 0.025]) < 0.18
    for degraded in ([0.15, 0.85, 0.75, 0.60], [0.25, 0.92, 0.90, 0.40]):
        assert bad_share_near(degraded, [0.1, 0.12, 0.15, 0.15]) > 0.5


def test_the_best_value_needs_both_labels_and_enough_groups():
    with pytest.raises(DeployError, match="groups"):
        best_achievable_value(
            np.zeros((4, 1)),
            np.array([0, 2, 4]),
            np.array([0, 1]),
            np.array(["a", "b"]),
            np.zeros(4),
            REWARDS,
            0,
        )


def test_the_best_value_of_a_plain_signal_is_that_of_the_label():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1_000)
    features = np.repeat(labels, 3)[:, None] + rng.normal(0, 0.01, (3_000, 1))
    best = best_achievable_value(
        features, np.arange(0, 3_001, 3), labels, np.arange(1_000), np.ones(3_000), REWARDS, 0
    )
    assert best.mean_reward == pytest.approx(REWARDS[labels].max(axis=1).mean())
    assert best.mean_reward_with_delay == best.mean_reward
