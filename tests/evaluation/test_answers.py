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

"""A data set is answered at once as a rollout is, observation by observation."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.evaluation.evaluate import evaluate, policy_answers
from oumi_deploy.evaluation.figures.judged import judge_policy
from oumi_deploy.evaluation.metrics import point_figures
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.policy.answers import ANSWERS, PAUSED
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.guardrails import Guardrails, read_guardrails
from oumi_deploy.policy.pauses import FALLBACKS, PauseRules
from oumi_deploy.policy.qfunctions import NetworkQ, TableQ
from oumi_deploy.policy.rollout import reason_names
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import StateEncoder, fit_encoder
from oumi_deploy.problem.rewards import Rewards

TO_ROLLBACK = PauseRules(pause_fallback="ROLLBACK")
STATE = ["error_rate", "error_rate.max", "memory_usage.slope", "cpu_usage.baseline", "canary_share"]


@pytest.fixture(scope="module")
def releases() -> Episodes:
    """Releases with all that makes a policy pause."""
    return generate_sample(
        60, 5, {"lost_telemetry_probability": 0.9, "low_traffic_probability": 0.3}
    )


def random_policy(episodes: Episodes, **calibration) -> DeploymentPolicy:
    """A network of chance whose range is that of a third of the releases.

    Its risk is on both sides of break-even: log odds of -1.1 are those of 0.25.
    """
    encoder = fit_encoder(STATE, episodes.select(np.arange(20)))
    random = np.random.default_rng(3)
    layers = [
        (random.normal(size=(8, encoder.n_inputs)), random.normal(size=8)),
        (30 * random.normal(size=(2, 8)), random.normal(size=2)),
    ]
    return DeploymentPolicy(
        encoder,
        NetworkQ(layers),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={},
        metrics={},
        calibration=Calibration(-2.0, 0.5, **calibration),
    )


def rows_of(episodes: Episodes, number: int) -> list[dict]:
    """The observations of one release as a caller would send them."""
    first, n_base = episodes.offsets[number], episodes.baseline_lengths[number]
    return [
        {
            "phase": "baseline" if row < first + n_base else "canary",
            **{name: column[row] for name, column in episodes.numbers.items()},
        }
        for row in range(first, episodes.offsets[number + 1])
    ]


@pytest.mark.parametrize(
    "calibration",
    [
        {},
        {"pauses": PauseRules(max_doubt=0.3, pause_limit=3, pause_fallback="CONTINUE")},
        {"alpha": 0.1, "rollback_from": 0.6},
    ],
)
def test_all_at_once_is_one_by_one(releases, calibration):
    policy = random_policy(releases, **calibration)
    answers = policy_answers(policy, releases)
    seen = set()
    for number in range(len(releases)):
        rollout, at = policy.begin(), int(releases.canary_offsets[number])
        for row in rows_of(releases, number):
            rollout.observe(row)
            if row["phase"] == "baseline":
                continue
            said = rollout.decide()
            assert said.decision == ANSWERS[answers.decision[at]]
            assert said.risk == pytest.approx(answers.risk[at])
            assert said.confidence == pytest.approx(answers.confidence[at])
            assert said.reasons == reason_names(answers.reasons[at])
            seen |= {said.decision, *said.reasons}
            at += 1
    assert {"CONTINUE", "PAUSE", "ROLLBACK", "telemetry_missing", "few_requests"} <= seen


MIXED = ["error_rate.control", "error_rate.change", "memory_usage.baseline", "health_score"]
RAILS = read_guardrails(
    {
        "limits": [
            {"metric": "error_rate", "above": 0.9, "for": 2, "answer": "ROLLBACK"},
            {"metric": "memory_usage", "above": 0.9, "answer": "PAUSE"},
        ],
        "present": [{"metric": "health_score", "for": 3}],
    }
)


@cache
def mixed_encoder() -> StateEncoder:
    return fit_encoder(MIXED, generate_sample(20, 2))


def mixed_policy(seed: int, kind: str, calibration: Calibration | None) -> DeploymentPolicy:
    """A table or a network of chance over features that need a baseline or the old version."""
    random = np.random.default_rng(seed)
    encoder = mixed_encoder()
    if kind == "table":
        edges = [np.sort(random.uniform(-0.1, 0.8, 2)) for _ in MIXED]
        table = random.uniform(-200, 100, (4 ** len(MIXED), 2))
        q_function = TableQ(edges, table, np.ones_like(table))
    else:
        layers = [
            (random.normal(size=(6, encoder.n_inputs)), random.normal(size=6)),
            (random.normal(size=(2, 6)) * [[1], [40]], random.normal(size=2)),
        ]
        q_function = NetworkQ(layers, Bounds.of(Rewards(), 6))
    policy = DeploymentPolicy(encoder, q_function, "sequential", Rewards(), 1.0, {}, {})
    return replace(policy, calibration=calibration)


calibrations = st.none() | st.builds(
    Calibration,
    intercept=st.floats(-2, 2),
    slope=st.floats(0.3, 3),
    rollback_from=st.sampled_from([0.0, 0.0, 0.5]),
    guardrails=st.sampled_from([Guardrails(), RAILS]),
    pauses=st.builds(
        PauseRules,
        min_requests=st.sampled_from([0, 20]),
        max_doubt=st.none() | st.floats(0.1, 0.5),
        certain_risk=st.sampled_from([0.6, 0.9]),
        watch_limit=st.integers(1, 4),
        pause_limit=st.integers(1, 4),
        pause_fallback=st.sampled_from(FALLBACKS),
    ),
)
shares = st.none() | st.floats(0, 1)
rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(("error_rate", "memory_usage", "health_score"), shares),
        "control_error_rate": shares,
        "requests": st.none() | st.integers(0, 40),
    }
)
releases_of_chance = st.tuples(
    st.lists(rows, max_size=2),
    st.lists(rows, min_size=1, max_size=6),
    st.none() | st.integers(1, 6),
)


@pytest.mark.parametrize("kind", ["table", "network"])
@pytest.mark.parametrize("version", [1, 2])
@settings(max_examples=25)
@given(st.lists(releases_of_chance, min_size=1, max_size=4), calibrations, st.integers(0, 99))
def test_any_data_set_is_answered_at_once_as_one_by_one(
    make_episodes, kind, version, chances, calibration, seed
):
    policy = replace(mixed_policy(seed, kind, calibration), version=version)
    columns = [
        {
            "phase": ["baseline"] * len(baseline) + ["canary"] * len(canary),
            "planned_steps": planned,
            **{name: [row[name] for row in (*baseline, *canary)] for name in canary[0]},
        }
        for baseline, canary, planned in chances
    ]
    # A column without any value would be read as text.
    whole = {"phase": "canary", "planned_steps": 1, **dict.fromkeys(chances[0][1][0], 0.5)}
    episodes = make_episodes(*columns, whole)
    answers, at = policy_answers(policy, episodes), 0
    for number in range(len(episodes)):
        rollout = policy.begin()
        observations = rows_of(episodes, number)
        for i, row in enumerate(observations):
            rollout.observe(row)
            if row["phase"] == "baseline":
                continue
            # The end of the file is the end of the rollout.
            said = rollout.decide(last=i + 1 == len(observations))
            assert said.decision == ANSWERS[answers.decision[at]]
            assert said.reasons == reason_names(answers.reasons[at])
            assert answers.held[at] == ("held_for_a_person" in said.reasons)
            if said.risk is None:
                assert np.isnan(answers.risk[at])
            elif kind == "table":
                assert said.risk == answers.risk[at]
                assert said.confidence == answers.confidence[at]
            else:
                # One row and many are multiplied in another order.
                assert said.risk == pytest.approx(answers.risk[at], rel=1e-12)
            at += 1
    assert at == len(answers.decision)


def test_scores_use_the_decision_after_the_fallback(make_episodes):
    """Silent from the second observation on: pauses, and falls back at the last."""
    episodes = make_episodes(
        {"error_rate": [0.01, None, None, None], "memory_usage": [0.5, None, None, None],
         "cpu_usage": [0.5, None, None, None], "canary_share": 0.5, "label": "bad"},
        {"error_rate": [0.01] * 4, "memory_usage": 0.5, "cpu_usage": 0.5,
         "canary_share": 0.5, "label": "good"},
    )  # fmt: skip
    encoder = fit_encoder(STATE, episodes)
    always_on = NetworkQ([(np.zeros((2, encoder.n_inputs)), np.array([50.0, -49.0]))])
    policy = random_policy(generate_sample(20, 1), pauses=TO_ROLLBACK)
    policy = replace(policy, encoder=encoder, q_function=always_on)
    answers = policy_answers(policy, episodes)
    assert [ANSWERS[code] for code in answers.decision] == [
        "CONTINUE", "PAUSE", "PAUSE", "ROLLBACK", *["CONTINUE"] * 4
    ]  # fmt: skip
    scores = score(episodes, answers.actions, Rewards(), answers=answers)
    assert scores.rolled_back.tolist() == [True, False]
    assert scores.paused.tolist() == [True, False]
    assert scores.fell_back.tolist() == [True, False]
    assert scores.end.tolist() == [3, 7]
    # Three waits on a bad release at half the traffic, a PAUSE as dear as a CONTINUE.
    assert scores.reward_with_delay[0] == 100 - 3 * 2 * 0.5
    judged = evaluate(policy, episodes)["metrics"]
    assert judged["share_ever_paused"]["value"] == 0.5
    assert judged["share_ended_by_fallback"]["value"] == 0.5


def test_an_observation_on_its_own_has_no_later_one_to_wait_for(releases):
    policy = random_policy(releases, pauses=TO_ROLLBACK)
    answers = policy_answers(policy, releases, per_observation=True)
    assert "PAUSE" not in {ANSWERS[code] for code in np.unique(answers.decision)}
    assert answers.fell_back.any()


def test_a_pause_with_nothing_to_wait_for_is_held_for_a_person(releases):
    answers = policy_answers(random_policy(releases), releases, per_observation=True)
    assert answers.held.any()
    np.testing.assert_array_equal(answers.held, answers.decision == PAUSED)
    assert not answers.fell_back.any()


@pytest.mark.parametrize("per_observation", [False, True])
def test_the_pictures_show_what_is_judged(releases, per_observation):
    policy = random_policy(releases, pauses=TO_ROLLBACK)
    drawn = judge_policy(policy, releases, per_observation)
    judged = evaluate(policy, releases, per_observation=per_observation)
    assert drawn.scores.fell_back.any()
    shown = point_figures(drawn.scores)
    for name in ("accuracy", "mean_reward", "share_ever_paused", "share_ended_by_fallback"):
        assert shown[name] == pytest.approx(judged["metrics"][name]["value"])
