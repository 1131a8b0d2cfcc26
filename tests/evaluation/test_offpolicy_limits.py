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

"""Off-policy evaluation: the simulator of logs, intervals, refusals and the command."""

import argparse
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from oumi_deploy.cli import offpolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.offpolicy import estimate_policy, log_decisions, soft_error_rule
from oumi_deploy.evaluation.offpolicy.intervals import studentised
from oumi_deploy.evaluation.offpolicy.log import read_log
from oumi_deploy.evaluation.offpolicy.weights import Mean
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards


@pytest.fixture(scope="module")
def releases() -> Episodes:
    return generate_sample(60, 5)


def test_the_soft_rule_rises_with_the_error_rate_and_explores_everywhere(make_episodes):
    errors = [0.0, 0.03, 0.04, 1.0, None]
    chances = soft_error_rule(
        make_episodes({"error_rate": errors}), threshold=0.03, width=0.01, least=0.1, most=0.5
    )
    third = 0.1 + 0.4 / (1 + np.exp(-1))
    np.testing.assert_allclose(chances[1:], [0.3, third, 0.5, 0.1], atol=1e-9)
    assert 0.1 < chances[0] < 0.12


def test_a_log_ends_at_its_rollback_and_says_how_probable_each_decision_was(make_episodes):
    episodes = make_episodes(
        {
            "phase": ["baseline", "canary", "canary", "canary"],
            "error_rate": [0.0, 0.1, 0.2, 0.3],
            "label": "bad",
        },
        {"step": [0, 1], "error_rate": [0.4, 0.5], "label": "good"},
    )
    chances = np.array([0.0, 1.0, 0.5, 0.0, 0.0])
    for hide in (True, False):
        log = log_decisions(episodes, chances, seed=1, hide_labels=hide)
        assert log.rolled_back.tolist() == [True, False]
        assert log.labels.tolist() == [UNKNOWN if hide else 1, 0]
        assert log.lengths.tolist() == [3, 2]
        assert log.column("error_rate").tolist() == [0.0, 0.1, 0.2, 0.4, 0.5]
        np.testing.assert_array_equal(log.column("propensity"), [np.nan, 1, 1, 1, 1])


def test_rollbacks_are_drawn_with_their_probability_by_the_seed(releases):
    many = releases.select(np.repeat(np.arange(60), 50))
    chances = np.full(int(many.canary_offsets[-1]), 0.3)
    one, same, other = (log_decisions(many, chances, seed) for seed in (1, 1, 2))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    ended_at_once = (one.canary_lengths == 1).mean()
    assert ended_at_once == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(many)))
    rows = one.canary_rows
    back = np.zeros(len(rows), dtype=bool)
    back[one.canary_offsets[1:] - 1] = one.rolled_back
    expected = np.where(back, 0.3, 0.7)
    np.testing.assert_allclose(one.column("propensity")[rows], expected)


def test_what_was_rolled_back_already_cannot_be_logged_anew(make_episodes):
    episodes = make_episodes({"action": ["CONTINUE", "ROLLBACK"], "label": "bad"})
    with pytest.raises(DeployError, match=r"e0 was rolled back.*seen to their end"):
        log_decisions(episodes, np.zeros(2), 0)
    with pytest.raises(DeployError, match="a probability for each of the 2 decisions"):
        log_decisions(episodes, np.zeros(3), 0)


def as_mean(values: np.ndarray) -> Mean:
    ones = np.ones(len(values))
    return Mean("mean", np.stack([values, -values], axis=1), ones, ones)


def test_the_interval_of_many_plain_values_is_that_of_the_t_distribution():
    values = np.random.default_rng(3).normal(10, 4, 400)
    low, high, bound = studentised([as_mean(values)], np.arange(400))[0, 0]
    error = values.std(ddof=1) / np.sqrt(400)
    mean = values.mean()
    expected = mean + error * np.array([-1.966, 1.966, -1.649])
    np.testing.assert_allclose([low, high, bound], expected, atol=0.15 * error)


def test_the_interval_leans_to_the_side_of_rare_large_weights():
    values = np.random.default_rng(4).lognormal(0, 1, 200)
    low, high, _ = studentised([as_mean(values)], np.arange(200))[0, 0]
    assert high - values.mean() > 1.2 * (values.mean() - low)


def test_releases_of_one_group_count_as_one():
    values = np.random.default_rng(5).normal(size=50)
    alone = studentised([as_mean(values)], np.arange(50))
    ten_times = studentised([as_mean(np.repeat(values, 10))], np.repeat(np.arange(50), 10))
    np.testing.assert_allclose(ten_times, alone)


def test_values_without_spread_have_an_interval_without_width():
    ends = studentised([as_mean(np.full(20, 50.0))], np.arange(20))
    np.testing.assert_allclose(ends[0], [[50] * 3, [-50] * 3])


def logged(make_episodes, *propensities: list, back: bool = False, label: str | None = "good"):
    last = "ROLLBACK" if back else "CONTINUE"
    return make_episodes(
        *[
            {"propensity": p, "action": ["CONTINUE"] * (len(p) - 1) + [last], "label": label}
            for p in propensities
        ]
    )


def estimated(episodes: Episodes, action: int = 0) -> dict:
    actions = np.full(int(episodes.canary_offsets[-1]), action)
    return estimate_policy(episodes, actions, Rewards(), np.zeros((len(actions), 1)))


def test_without_propensities_nothing_is_estimated(make_episodes):
    with pytest.raises(DeployError, match="propensity: the log does not say"):
        estimated(make_episodes({"step": [0, 1], "label": "good"}))
    with pytest.raises(DeployError, match=r"propensity: missing in 2 canary rows, first in .* e1"):
        estimated(logged(make_episodes, [0.5, 0.5], [0.5, None], [None, 0.5]))


def test_a_baseline_row_needs_no_propensity(make_episodes):
    episodes = make_episodes(
        {"phase": ["baseline", "canary"], "propensity": [None, 0.5], "label": "good"}
    )
    assert read_log(episodes, np.zeros(1), Rewards()).propensity.tolist() == [0.5]


def test_actions_must_be_one_for_each_decision(make_episodes):
    with pytest.raises(DeployError, match="one for each of the 2 decisions"):
        read_log(logged(make_episodes, [0.5, 0.5]), np.zeros(3), Rewards())


def test_a_policy_that_no_logged_release_agrees_with_is_refused(make_episodes):
    answer = estimated(logged(make_episodes, *[[0.5]] * 20), action=1)
    refusal = answer["families"]["seen_rewards"]["refused"]
    assert "none of the 20 logged releases was decided as the policy would have" in refusal


def test_an_action_that_the_log_never_chooses_is_refused(make_episodes):
    answer = estimated(logged(make_episodes, *[[1.0, 1.0]] * 20), action=1)
    refusal = answer["families"]["seen_rewards"]["refused"]
    assert "release e0: the log never chooses ROLLBACK" in refusal
    # The outcome of every release is seen, and replaying a rollback needs no more.
    assert answer["families"]["completed"]["mean_reward"][0]["value"] == -50


def test_a_sure_rollback_leaves_nothing_to_weigh_it_by(make_episodes):
    sure = logged(make_episodes, *[[1.0, 1.0]] * 20, back=True, label="bad")
    with pytest.raises(DeployError, match=r"20 releases .first e0. were rolled back with"):
        estimated(sure)
    with pytest.raises(DeployError, match="the log never chooses CONTINUE"):
        estimated(sure)


def test_too_few_effective_releases_are_refused(make_episodes):
    # (30 / 0.9 + 100)^2 / (30 / 0.81 + 100^2) = 1.77
    one_heavy = logged(make_episodes, *[[0.9]] * 30, [0.01])
    with pytest.raises(DeployError, match=r"worth 1\.8 releases, and 10 are the least"):
        estimated(one_heavy)


def test_no_completed_release_with_a_label_is_refused(make_episodes):
    with pytest.raises(DeployError, match=r"none of the 12 .* both completed and labelled"):
        estimated(logged(make_episodes, *[[0.5]] * 12, label=None))


def test_too_few_groups_are_refused(make_episodes):
    episodes = logged(make_episodes, *[[0.5]] * 30)
    few = dataclasses.replace(episodes, groups=np.repeat(["a", "b", "c"], 10).astype(object))
    with pytest.raises(DeployError, match="3 groups of releases, and an interval needs 10"):
        estimated(few)


@pytest.fixture
def files(tmp_path, monkeypatch) -> SimpleNamespace:
    """A policy that rolls back from an error rate of 0.05 on, and a log that hides labels."""
    episodes = generate_sample(300, 1)
    log = log_decisions(episodes, soft_error_rule(episodes), seed=1)
    monkeypatch.setattr("oumi_deploy.episodes.packed.read_episodes", lambda _: log)
    encoder = fit_encoder(["error_rate"], episodes)
    table = np.array([[50.0, -50.0], [-50.0, 100.0], [50.0, -50.0]])
    q_function = TableQ([np.array([0.05])], table, np.ones((3, 2)))
    path = tmp_path / "policy.json"
    DeploymentPolicy(encoder, q_function, "sequential", Rewards(), 1.0, {}, {}).save(path)
    return SimpleNamespace(policy=path, log=tmp_path / "log.parquet")


def run(files: SimpleNamespace, *options: str) -> None:
    parser = argparse.ArgumentParser()
    offpolicy.add_commands(parser.add_subparsers())
    words = ["offpolicy", "--policy", str(files.policy), "--episodes", str(files.log)]
    args = parser.parse_args([*words, *options])
    args.run(args)


def test_the_command_prints_a_table_and_one_json_object(files, capsys):
    run(files)
    table = capsys.readouterr().out
    assert "from seen rewards: not estimated: " in table
    assert "from completed releases: " in table
    run(files, "--json", "--seed", "0")
    result = json.loads(capsys.readouterr().out)
    entries = result["families"]["completed"]["mean_reward_with_delay"]
    assert [e["name"] for e in entries] == ["IPW", "weighted IPW", "doubly robust IPW"]
    for entry in entries:
        line = f"{entry['value']:.2f}{entry['low']:>11.2f} to {entry['high']:.2f}"
        assert line.replace(" ", "") in table.replace(" ", "")
