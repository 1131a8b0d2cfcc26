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

"""The pictures of a run: that they appear, count rightly, and refuse what they cannot draw."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.figures import make, make_figures
from oumi_deploy.evaluation.figures.choice import choose_episode
from oumi_deploy.evaluation.figures.clock import read_clock, with_gaps
from oumi_deploy.evaluation.figures.judged import judge_policy
from oumi_deploy.evaluation.figures.plane import make_plane, pick_features
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import NetworkQ, QFunction, TableQ
from oumi_deploy.problem.bins import table_shape
from oumi_deploy.problem.encoder import StateEncoder, fit_encoder
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import parse_state

ALL = set(make.NAMES)
PNG = b"\x89PNG\r\n\x1a\n"
LOGGED = {
    "global_step": 1.0,
    "train/loss": 3.0,
    "val/accuracy": 0.5,
    "val/mean_reward_with_delay": -10.0,
}


def table_that_rolls_back_from(error_rate: float, n_other_bins: int) -> TableQ:
    """A table over error_rate, and where there are other bins, a second feature it ignores."""
    edges = [np.array([error_rate])] + ([np.array([0.5])] if n_other_bins > 1 else [])
    # Bins of error_rate: below, above, missing.
    values = np.repeat([[40.0, -20.0], [-80.0, 60.0], [40.0, -20.0]], n_other_bins, axis=0)
    return TableQ(edges, values, np.ones_like(values))


def policy_of(encoder: StateEncoder, q_function: QFunction, form: str) -> DeploymentPolicy:
    return DeploymentPolicy(
        encoder=encoder,
        q_function=q_function,
        form=form,
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
    )


def table_policy(episodes: Episodes, *state: str) -> DeploymentPolicy:
    table = table_that_rolls_back_from(0.05, 3 if len(state) > 1 else 1)
    return policy_of(fit_encoder(state, episodes), table, "sequential")


def save_run(folder: Path, policy: DeploymentPolicy, curve: list[dict[str, Any]]) -> Path:
    policy.save(folder / "deployment_policy_model.json")
    (folder / "learning_curve.json").write_text(json.dumps(curve))
    return folder


@pytest.fixture(scope="module")
def releases(make_episodes: Callable[..., Episodes]) -> Episodes:
    memory = {"memory_usage": 0.4}
    return make_episodes(
        {"error_rate": [0.0, 0.0], "label": "good", "fault_type": "none", **memory},
        {"error_rate": [0.01, 0.0, 0.02], "label": "good", "fault_type": "warm_up", **memory},
        {"error_rate": [0.0, 0.2], "label": "good", "fault_type": "warm_up", **memory},
        {"error_rate": [0.0, 0.0, 0.3], "label": "bad", "fault_type": "error_spike", **memory},
        {"error_rate": [0.4, 0.4], "label": "bad", "fault_type": "error_spike", **memory},
        {"error_rate": [0.01, 0.01], "label": "bad", "fault_type": "error_creep", **memory},
        {"error_rate": [0.4], "fault_type": "error_creep", **memory},
    )


@pytest.fixture(scope="module")
def run(releases: Episodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = table_policy(releases, "error_rate", "memory_usage")
    return save_run(tmp_path_factory.mktemp("run"), policy, [LOGGED])


@pytest.fixture(scope="module")
def drawn(run: Path, releases: Episodes, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_figures(run, releases, tmp_path_factory.mktemp("out"))


def test_every_picture_appears(drawn: list[Path]):
    assert {path.name for path in drawn} == ALL
    assert {path.name for path in drawn[0].parent.iterdir()} == ALL
    assert all(path.read_bytes().startswith(PNG) for path in drawn if path.suffix == ".png")


def test_decisions_are_counted_by_label(drawn: list[Path]):
    table = read_table(drawn).query("part == 'by_label'")
    assert counts_by(table, "label", "decision") == {
        ("good", "CONTINUE"): 2,
        ("good", "ROLLBACK"): 1,
        ("bad", "CONTINUE"): 1,
        ("bad", "ROLLBACK"): 2,
    }
    assert table.query("correct")["n"].sum() == 4


def test_decisions_are_counted_by_fault_type(drawn: list[Path]):
    table = read_table(drawn).query("part == 'by_fault_type'")
    assert counts_by(table, "fault_type", "decision", "correct") == {
        ("none", "CONTINUE", True): 1,
        ("warm_up", "CONTINUE", True): 1,
        ("warm_up", "ROLLBACK", False): 1,
        ("error_spike", "ROLLBACK", True): 2,
        ("error_creep", "CONTINUE", False): 1,
    }


def test_worst_decisions_come_first_with_their_delay_and_reward(drawn: list[Path]):
    worst = read_table(drawn).query("part == 'worst'")
    assert list(worst["episode_id"]) == ["e5", "e2"]
    # A missed release of two steps waits once at the full share: -200 - 2.
    assert list(worst["reward_with_delay"]) == [-202.0, -50.0]
    assert np.isnan(worst["delay_steps"].iloc[0])
    assert worst["delay_steps"].iloc[1] == 1


def test_observations_are_counted_where_each_is_a_decision(
    run: Path, releases: Episodes, tmp_path: Path
):
    table = read_table(make_figures(run, releases, tmp_path, per_observation=True))
    by_label = table.query("part == 'by_label'")
    assert counts_by(by_label, "label", "decision") == {
        ("good", "CONTINUE"): 6,
        ("good", "ROLLBACK"): 1,
        ("bad", "CONTINUE"): 4,
        ("bad", "ROLLBACK"): 3,
    }
    worst = table.query("part == 'worst'")
    assert list(zip(worst["episode_id"], worst["n"], strict=True)) == [
        ("e3", 2),
        ("e5", 2),
        ("e2", 1),
    ]


def test_existing_pictures_stay_unless_overwriting_is_allowed(
    run: Path, releases: Episodes, tmp_path: Path
):
    (tmp_path / "timeline.png").write_bytes(b"mine")
    with pytest.raises(DeployError, match=r"timeline\.png exists already"):
        make_figures(run, releases, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["timeline.png"]
    assert (tmp_path / "timeline.png").read_bytes() == b"mine"
    make_figures(run, releases, tmp_path, overwrite=True)
    assert (tmp_path / "timeline.png").read_bytes().startswith(PNG)


def test_nothing_is_written_where_a_picture_fails(
    run: Path, releases: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*unused: Any) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(make, "draw_learning_curve", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        make_figures(run, releases, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ("error_rate", "colour")}, "no colour; name two of error_rate, memory_usage"),
        (
            {"features": ("error_rate", "error_rate")},
            "are not two features; name two of error_rate",
        ),
        ({"episode_id": "e99"}, r"no episode is called e99; there are e0, e1, e2, \.\.\."),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    run: Path, releases: Episodes, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(DeployError, match=message):
        make_figures(run, releases, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["deployment_policy_model.json", "learning_curve.json"])
@pytest.mark.parametrize("content", [None, "[{", "{}", "[]"])
def test_a_missing_or_broken_file_of_the_run_is_named(
    run: Path, releases: Episodes, tmp_path: Path, name: str, content: str | None
):
    for path in run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DeployError, match=name) as refusal:
        make_figures(tmp_path, releases, tmp_path / "out")
    assert "\n" not in str(refusal.value)


def test_episodes_without_any_column_of_the_state_are_refused(
    run: Path, make_episodes: Callable[..., Episodes], tmp_path: Path
):
    episodes = make_episodes({"latency": [0.1], "label": "bad"})
    with pytest.raises(DeployError, match=r"error_rate.*memory_usage"):
        make_figures(run, episodes, tmp_path)


def test_a_state_of_one_feature_has_no_boundary(
    releases: Episodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = save_run(tmp_path / "run", table_policy(releases, "error_rate"), [LOGGED])
    with caplog.at_level(logging.WARNING):
        paths = make_figures(run, releases, tmp_path / "out")
    assert {path.name for path in paths} == ALL - {"decision_boundary.png", "q_margin.png"}
    assert "no decision boundary" in caplog.text


def test_a_network_with_history_is_drawn_on_unlabelled_episodes(
    make_episodes: Callable[..., Episodes], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Also: minutes, a baseline, an old version, a column without a value, an exploring run."""
    episodes = make_episodes(
        {
            "error_rate": [0.0, 0.0, np.nan, 0.2],
            "latency": np.nan,
            "control_error_rate": [np.nan, np.nan, 0.01, 0.0],
            "phase": ["baseline", "canary", "canary", "canary"],
            "timestamp": [0.0, 60.0, 120.0, 600.0],
        }
    )
    encoder = fit_encoder(["error_rate", "error_rate.max", "latency", "minutes"], episodes)
    weights = np.random.default_rng(0).normal(size=(2, encoder.n_inputs))
    policy = policy_of(encoder, NetworkQ([(weights, np.zeros(2))]), "single")
    curve = [
        {**LOGGED, "global_step": k, "train/reward": k, "train/epsilon": 1 / k} for k in (1, 2)
    ]
    run = save_run(tmp_path / "run", policy, curve)
    with caplog.at_level(logging.WARNING):
        paths = make_figures(
            run, episodes, tmp_path / "out", features=("minutes", "error_rate.max"), episode_id="e0"
        )
    assert {path.name for path in paths} == ALL - {"decisions.png", "decisions.csv"}
    assert "no episode is labelled" in caplog.text


def test_the_timeline_shows_the_bad_release_that_was_caught_last(releases: Episodes):
    policy = table_policy(releases, "error_rate", "memory_usage")
    judged = judge_policy(policy, releases, per_observation=False)
    assert choose_episode(judged, None) == 3
    assert choose_episode(judged, "e1") == 1
    good = judge_policy(policy, releases.select(np.array([0, 1])), per_observation=False)
    assert choose_episode(good, None) == 0


@pytest.fixture(scope="module")
def with_held(make_episodes: Callable[..., Episodes]) -> Episodes:
    """A good and a bad release of which nothing is reported any more, one that is, one caught."""
    memory, nothing = {"memory_usage": [0.4] * 3}, {"memory_usage": [0.4, np.nan, np.nan]}
    silent = {"error_rate": [0.0, np.nan, np.nan], "fault_type": "lost_telemetry", **nothing}
    return make_episodes(
        {**silent, "label": "good"},
        {**silent, "label": "bad"},
        {"error_rate": [0.0, 0.01, 0.0], "label": "good", "fault_type": "none", **memory},
        {"error_rate": [0.0, 0.3, 0.3], "label": "bad", "fault_type": "error_spike", **memory},
    )


def test_held_releases_are_neither_right_nor_wrong(run: Path, with_held: Episodes, tmp_path: Path):
    table = read_table(make_figures(run, with_held, tmp_path, episode_id="e1"))
    by_label = table.query("part == 'by_label'")
    assert counts_by(by_label.query("n > 0"), "label", "decision") == {
        ("good", "PAUSE"): 1,
        ("bad", "PAUSE"): 1,
        ("good", "CONTINUE"): 1,
        ("bad", "ROLLBACK"): 1,
    }
    assert set(by_label.query("decision == 'PAUSE'")["correct"].isna()) == {True}
    by_fault = table.query("part == 'by_fault_type' and fault_type == 'lost_telemetry'")
    assert set(by_fault["decision"]) == {"PAUSE"}
    assert table.query("part == 'worst'").empty


def test_a_rollout_ends_where_it_is_rolled_back_or_held(with_held: Episodes):
    policy = table_policy(with_held, "error_rate", "memory_usage")
    judged = judge_policy(policy, with_held, per_observation=False)
    ends = [judged.end(number) for number in range(4)]
    assert ends == [("PAUSE", 2), ("PAUSE", 2), ("CONTINUE", None), ("ROLLBACK", 1)]
    assert choose_episode(judged, None) == 3


def test_boundary_shows_where_the_policy_says_pause(make_episodes: Callable[..., Episodes]):
    releases = make_episodes({"error_rate": [0.0, 0.4], "memory_usage": [0.1, 0.9], "label": "bad"})
    # From an error rate of 0.05 on the risk is 0.4, and another look is worth more.
    values = np.repeat([[40.0, -20.0], [30.0, 10.0], [10.0, 0.0]], 3, axis=0)
    table = TableQ([np.array([0.05]), np.array([0.5])], values, np.ones_like(values))
    policy = policy_of(fit_encoder(["error_rate", "memory_usage"], releases), table, "sequential")
    plane = make_plane(judge_policy(policy, releases, per_observation=False), [0, 1])
    above = np.tile(plane.x.points >= 0.05, (len(plane.y.points), 1))
    np.testing.assert_array_equal(plane.pauses, above)
    assert not plane.rolls_back.any()


def test_the_history_of_a_metric_moves_with_it(make_episodes: Callable[..., Episodes]):
    releases = make_episodes({"error_rate": [0.1, 0.1, 0.4], "memory_usage": 0.5, "label": "bad"})
    names = ["error_rate", "memory_usage", "error_rate.max", "error_rate.slope", "steps"]
    encoder = fit_encoder(names, releases)
    # ROLLBACK from a maximum of 0.2 on, whatever else.
    values = np.array([[40.0, -40.0], [-150.0, 80.0], [40.0, -40.0]])
    edges = [np.array([]), np.array([]), np.array([0.2]), np.array([]), np.array([])]
    shape = table_shape(edges)
    grid = np.indices(shape)[2].ravel()
    policy = policy_of(encoder, TableQ(edges, values[grid], np.ones((grid.size, 2))), "sequential")
    plane = make_plane(judge_policy(policy, releases, per_observation=False), [0, 1])
    assert plane.moved == ["error_rate.max"]
    assert [*plane.held] == ["error_rate.slope", "steps"]
    # The medians of value and maximum are both 0.1, so that one is 0.2 where the other is.
    above = np.tile(plane.x.points >= 0.2, (len(plane.y.points), 1))
    np.testing.assert_array_equal(plane.rolls_back, above)


def test_what_tells_how_a_metric_moved_stays_where_its_level_moves(make_episodes):
    releases = make_episodes({"error_rate": [0.1, 0.1, 0.4], "memory_usage": 0.5, "label": "bad"})
    how = ["slope", "change", "control_change", "slope_before", "change_before", "missing"]
    names = ["error_rate", "memory_usage", "error_rate.mean", *(f"error_rate.{k}" for k in how)]
    encoder = fit_encoder(names, releases)
    edges = [np.array([])] * len(names)
    n_cells = int(np.prod(table_shape(edges)))
    table = TableQ(edges, np.tile([40.0, -40.0], (n_cells, 1)), np.ones((n_cells, 2)))
    policy = policy_of(encoder, table, "sequential")
    plane = make_plane(judge_policy(policy, releases, per_observation=False), [0, 1])
    assert plane.moved == ["error_rate.mean"]
    assert [*plane.held] == [f"error_rate.{k}" for k in how]


def test_boundary_lies_where_the_policy_changes_its_mind(releases: Episodes):
    policy = table_policy(releases, "error_rate", "memory_usage")
    plane = make_plane(judge_policy(policy, releases, per_observation=False), [0, 1])
    above = plane.x.points >= 0.05
    np.testing.assert_array_equal(plane.rolls_back, np.tile(above, (len(plane.y.points), 1)))
    assert plane.x.points[[0, -1]].tolist() == [0.0, 0.4]
    assert plane.held == {}
    assert plane.thin.all()


def test_current_values_come_before_history_and_clocks():
    state = parse_state(["steps", "error_rate.max", "error_rate", "cpu_usage"])
    assert pick_features(state, None) == [2, 3]
    assert pick_features(state[:3], None) == [2, 0]
    assert pick_features(state, ("cpu_usage", "steps")) == [3, 0]


def test_time_is_in_minutes_only_where_all_observations_have_one(
    make_episodes: Callable[..., Episodes],
):
    phase = ["baseline", "canary", "canary"]
    episodes = make_episodes(
        {"error_rate": 0.1, "phase": phase, "timestamp": [60.0, 180.0, 240.0]},
        {"error_rate": 0.1, "phase": phase, "timestamp": [60.0, np.nan, 240.0], "step": [1, 2, 5]},
    )
    minutes, steps = read_clock(episodes, 0), read_clock(episodes, 1)
    assert (minutes.unit, minutes.times.tolist(), minutes.border) == ("minutes", [-2, 0, 1], -1)
    assert (steps.unit, steps.times.tolist()) == ("steps", [-1, 0, 3])


def test_a_missing_observation_breaks_the_line():
    times, values = with_gaps(np.array([0.0, 1, 2, 4, 5]), np.arange(5.0))
    assert len(times) == 6
    assert np.flatnonzero(np.isnan(values)).tolist() == [3]


def read_table(paths: list[Path]) -> pd.DataFrame:
    return pd.read_csv(paths[0].parent / "decisions.csv", keep_default_na=False, na_values=[""])


def counts_by(table: pd.DataFrame, *columns: str) -> dict[Any, int]:
    return table.set_index(list(columns))["n"].to_dict()
