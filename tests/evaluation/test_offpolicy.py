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

"""Estimators from logged decisions: numbers worked by hand, and unbiasedness by enumeration."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.evaluate import judge
from oumi_deploy.evaluation.offpolicy.doubly_robust import doubly_robust, doubly_robust_completion
from oumi_deploy.evaluation.offpolicy.estimate import (
    estimate_policy,
    estimates_from_completed,
    estimates_from_seen_rewards,
)
from oumi_deploy.evaluation.offpolicy.fitted_q import fitted_q_evaluation
from oumi_deploy.evaluation.offpolicy.log import DecisionLog, read_log
from oumi_deploy.evaluation.offpolicy.outcomes import fitted_outcomes
from oumi_deploy.evaluation.offpolicy.weights import (
    Mean,
    completion_weighting,
    importance_sampling,
    replay,
)
from oumi_deploy.policy.answers import Answers
from oumi_deploy.problem.rewards import Rewards

CONTINUE, ROLLBACK = 0, 1


def release(label: str | None, propensity: list[float], *, back: bool = False, **more: Any) -> dict:
    """A release logged with these propensities, rolled back in its last row or seen to its end."""
    actions = ["CONTINUE"] * len(propensity)
    actions[-1] = "ROLLBACK" if back else "CONTINUE"
    # Half the traffic: a CONTINUE on a bad release costs 1.
    return {
        "label": label,
        "propensity": propensity,
        "action": actions,
        "canary_share": 0.5,
        **more,
    }


@pytest.fixture
def log(make_episodes) -> DecisionLog:
    """Rolled back as the target would; completed as it would; completed, where it would not."""
    episodes = make_episodes(
        release("bad", [0.8, 0.5], back=True),
        release("good", [0.9, 0.8]),
        release("bad", [0.5, 0.5]),
    )
    return read_log(episodes, np.array([0, 1, 0, 0, 1, 0]), Rewards())


def by_name(means: list[Mean]) -> dict[str, np.ndarray]:
    return {mean.name: mean.value for mean in means}


def test_importance_sampling_worked_by_hand(log):
    # Weights 1 / (0.8 * 0.5) = 2.5, 1 / 0.72 and 0; returns 100 (99 with delay) and 50.
    values = by_name(importance_sampling(log))
    good = 50 / 0.72
    np.testing.assert_allclose(values["IS"], [(250 + good) / 3, (247.5 + good) / 3])
    below = 2.5 + 1 / 0.72
    np.testing.assert_allclose(
        values["weighted IS"], [(250 + good) / below, (247.5 + good) / below]
    )
    # The cost of 1 is paid after one decision, so it weighs 1 / 0.8.
    np.testing.assert_allclose(
        values["per-decision IS"], [(250 + good) / 3, (250 - 1.25 + good) / 3]
    )


def test_doubly_robust_worked_by_hand(log):
    q_values = np.empty((6, 2, 2))
    q_values[:, CONTINUE], q_values[:, ROLLBACK] = 10.0, 20.0
    # Stopped with a known label: 100, then 10 + 1.25 (100 - 10), or 10 + 1.25 (-1 + 100 - 10).
    first = np.array([122.5, 121.25])
    # 10 + 1.25 (50 - 10) = 60, then 10 + (60 - 10) / 0.9. The third is stopped at once, for 100.
    second = 10 + 50 / 0.9
    np.testing.assert_allclose(doubly_robust(log, q_values).value, (first + second + 100) / 3)


def test_completion_weighting_worked_by_hand(log):
    # The target earns 50 on the second release and 100 on the third, rolled back at once.
    values = by_name(completion_weighting(log))
    above = 50 / 0.72 + 4 * 100
    np.testing.assert_allclose(values["IPW"], [above / 3] * 2)
    np.testing.assert_allclose(values["weighted IPW"], [above / (1 / 0.72 + 4)] * 2)


def test_doubly_robust_completion_worked_by_hand(log):
    # With m = 10: lost, so 10; 10 + (10 + 1.25 * 40 - 10) / 0.9; 10 + 2 (10 + 2 * 90 - 10).
    expected = (10 + 10 + 50 / 0.9 + 370) / 3
    value = doubly_robust_completion(log, np.full((6, 2), 10.0)).value
    np.testing.assert_allclose(value, [expected] * 2)


def test_replay_worked_by_hand(log):
    # Going on to where the target stops: 1 / 0.8 for one decision, 1 / 0.72 for two, 1 for none.
    values = by_name(replay(log))
    above = np.array([125 + 50 / 0.72 + 100, 1.25 * 99 + 50 / 0.72 + 100])
    np.testing.assert_allclose(values["replay"], above / 3)
    np.testing.assert_allclose(values["weighted replay"], above / (1.25 + 1 / 0.72 + 1))


def test_fitted_q_worked_by_hand(log):
    # Nothing is known of the state, so Q is a mean; the first release is one fold.
    fitted = fitted_q_evaluation(log, np.ones((6, 1)), np.array([0, 1, 1]), seed=0)
    # Without it: ROLLBACK pays (2 * -50 + 2 * 100) / 4. CONTINUE pays (50 - 200) / 4, or -151 / 4
    # with delay, and leads to another CONTINUE half the time: twice at most, by the horizon.
    np.testing.assert_allclose(fitted.q_values[0, ROLLBACK], [25, 25], rtol=1e-5)
    np.testing.assert_allclose(fitted.q_values[0, CONTINUE], [-56.25, -56.625], rtol=1e-5)
    # From the first alone: a bad release that the target stops at the second decision.
    np.testing.assert_allclose(fitted.q_values[2, ROLLBACK], [100, 100], rtol=1e-5)
    np.testing.assert_allclose(fitted.q_values[2, CONTINUE], [100, 99], rtol=1e-5)
    expected = [(-56.25 + 100 + 100) / 3, (-56.625 + 99 + 100) / 3]
    np.testing.assert_allclose(fitted.value, expected, rtol=1e-5)


def test_outcomes_weigh_a_completed_release_for_those_lost_later(make_episodes):
    episodes = make_episodes(
        release("good", [0.5, 0.25], group="a"),
        release("bad", [1.0, 0.5], group="b"),
        release("good", [1.0, 1.0], group="c"),
    )
    log = read_log(episodes, np.zeros(6, dtype=int), Rewards(step_cost=0))
    outcomes = fitted_outcomes(log, np.ones((6, 1)), np.array([0, 0, 1]))
    # Weights 8 and 4 for 50, 2 and 2 for -200; the penalty counts as one decision of weight 4.
    expected = (12 * 50 + 4 * -200) / (16 + 4)
    np.testing.assert_allclose(outcomes[4:], expected)


def outcomes_of(label: str, chances: list[float], hide: bool) -> list[tuple[float, dict]]:
    """Every log that a behaviour policy could leave of one release, with its probability."""
    found, reached = [], 1.0
    for t, chance in enumerate(chances):
        went_on = [1 - c for c in chances[:t]]
        logged = release(None if hide else label, [*went_on, chance], back=True)
        found.append((reached * chance, logged))
        reached *= 1 - chance
    return [*found, (reached, release(label, [1 - c for c in chances]))]


problems = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        st.sampled_from(["good", "bad"]),
        st.lists(st.floats(0.05, 0.9), min_size=n, max_size=n),
        st.lists(st.sampled_from([CONTINUE, ROLLBACK]), min_size=n, max_size=n),
        st.integers(0, 1000),
    )
)


@settings(max_examples=40)
@given(problems)
def test_estimates_are_unbiased_over_all_that_the_behaviour_policy_could_do(make_episodes, problem):
    label, chances, target, seed = problem
    whole = make_episodes(release(label, [1.0] * len(target)))
    truth = judge(whole, np.array(target), Rewards())["metrics"]
    expected = [truth[name]["value"] for name in ("mean_reward", "mean_reward_with_delay")]
    # Any function of the state will do: with known propensities no model can bias an estimate.
    wrong = np.random.default_rng(seed).normal(0, 100, (len(target), 2, 2))
    for hide in (False, True):
        chance, logs = zip(*outcomes_of(label, chances, hide), strict=True)
        episodes = make_episodes(*logs)
        actions = np.concatenate([target[:n] for n in episodes.canary_lengths])
        log = read_log(episodes, actions, Rewards())
        model = wrong[np.concatenate([np.arange(n) for n in episodes.canary_lengths])]
        means = [completion_weighting(log)[0], doubly_robust_completion(log, model[:, 0])]
        if not hide:
            sampling = importance_sampling(log)
            means += [sampling[0], sampling[2], replay(log)[0], doubly_robust(log, model)]
        for mean in means:
            np.testing.assert_allclose(chance @ mean.above, expected, err_msg=mean.name)


def test_completed_releases_without_a_label_are_stood_for_by_those_with_one(make_episodes):
    rolled_back = release("bad", [0.5], back=True)
    half = make_episodes(rolled_back, release("good", [0.5]), release(None, [0.5]), rolled_back)
    full = make_episodes(rolled_back, release("good", [0.5]), release("good", [0.5]), rolled_back)
    actions = np.zeros(4, dtype=int)
    some, every = (read_log(episodes, actions, Rewards()) for episodes in (half, full))
    model = np.full((4, 2, 2), 7.0)
    model[:, ROLLBACK] = -3.0
    for make in (
        lambda log: importance_sampling(log)[0],
        lambda log: importance_sampling(log)[2],
        lambda log: replay(log)[0],
        lambda log: doubly_robust(log, model),
        lambda log: completion_weighting(log)[0],
        lambda log: completion_weighting(log)[1],
        lambda log: doubly_robust_completion(log, model[:, 0]),
    ):
        np.testing.assert_allclose(make(some).value, make(every).value)


def seen(n_good: int, n_bad: int, make_episodes) -> Episodes:
    """Good releases completed and bad ones rolled back at their second row, all for sure."""
    good = [release("good", [1.0, 1.0, 1.0])] * n_good
    return make_episodes(*good, *[release("bad", [1.0, 1.0], back=True)] * n_bad)


def test_a_policy_that_logged_its_own_decisions_earns_what_they_earned(make_episodes):
    episodes = seen(14, 6, make_episodes)
    actions = np.array([0, 0, 0] * 14 + [0, 1] * 6)
    log = read_log(episodes, actions, Rewards())
    is_bad = np.repeat([0.0, 1.0], [3 * 14, 2 * 6])
    features = np.column_stack([actions, is_bad])
    overlap, estimates = estimates_from_seen_rewards(log, features)
    assert (overlap.effective_n, overlap.largest_weight, overlap.usable_share) == (20, 1, 1)
    for metric, bad in (("mean_reward", 100), ("mean_reward_with_delay", 99)):
        names = [e.name for e in estimates[metric]]
        assert names[:4] == ["IS", "weighted IS", "per-decision IS", "doubly robust"]
        assert names[4:] == ["replay", "weighted replay", "fitted Q"]
        for estimate in estimates[metric][:-1]:
            assert estimate.value == pytest.approx((14 * 50 + 6 * bad) / 20)
            assert estimate.low < estimate.lower_bound < estimate.value < estimate.high
            assert (estimate.n, estimate.effective_n, estimate.largest_weight) == (20, 20, 1)


def test_with_all_completed_for_sure_the_estimates_are_the_mean_that_evaluate_reports(
    make_episodes,
):
    episodes = make_episodes(*[release("good", [1.0, 1.0])] * 11, *[release("bad", [1.0, 1.0])] * 4)
    actions = np.array([0, 0] * 10 + [0, 1] + [1, 0] * 2 + [0, 1] + [0, 0])
    truth = judge(episodes, actions, Rewards())["metrics"]
    log = read_log(episodes, actions, Rewards())
    _, estimates = estimates_from_completed(log, actions[:, None].astype(float))
    for metric, entries in estimates.items():
        assert [e.name for e in entries] == ["IPW", "weighted IPW", "doubly robust IPW"]
        for estimate in entries:
            assert estimate.value == pytest.approx(truth[metric]["value"])


def test_a_log_that_hides_labels_answers_from_completed_releases_alone(make_episodes):
    episodes = make_episodes(
        *[release("good", [0.8, 0.8])] * 12,
        *[release("bad", [0.8, 0.8])] * 4,
        *[release(None, [0.8, 0.2], back=True)] * 5,
    )
    actions = np.tile([0, 1], 21)
    features = np.tile([0.0, 1.0], 21)[:, None]
    result = estimate_policy(episodes, actions, Rewards(), features)
    counts = {name: result[name] for name in result if name.startswith("n_")}
    assert counts == {
        "n_releases": 21,
        "n_groups": 21,
        "n_completed": 16,
        "n_completed_unlabelled": 0,
        "n_rolled_back": 5,
        "n_rolled_back_unlabelled": 5,
    }
    assert (
        "5 rolled-back releases have no label (first e16)"
        in (result["families"]["seen_rewards"]["refused"])
    )
    completed = result["families"]["completed"]
    # All weights are 1 / 0.64: sixteen releases of like weight.
    assert completed["overlap"]["effective_n"] == pytest.approx(16)
    assert completed["overlap"]["largest_weight"] == pytest.approx(1 / 0.64)
    assert completed["overlap"]["usable_share"] == pytest.approx(16 / 21)
    weighted = completed["mean_reward"][1]
    assert weighted["name"] == "weighted IPW"
    assert weighted["value"] == pytest.approx((12 * -50 + 4 * 100) / 16)


def answers_of(decision: list[int], held: list[int]) -> Answers:
    """Answers by code: 0 CONTINUE, 1 ROLLBACK, 2 PAUSE."""
    n = len(decision)
    nothing = np.zeros(n, dtype=bool)
    return Answers(
        decision=np.array(decision),
        risk=np.full(n, 0.5),
        reasons=np.zeros(n, dtype=int),
        fell_back=nothing,
        held=np.array(held, dtype=bool),
    )


def test_what_is_held_at_its_end_is_paid_as_held_and_what_is_decided_later_is_not(make_episodes):
    episodes = make_episodes(
        release("bad", [0.5] * 4),  # Held from the second on.
        release("bad", [0.5] * 4),  # Held at the second, and decided at the last.
        release("good", [0.5] * 2),
    )
    answers = answers_of([0, 2, 2, 2, 2, 2, 2, 0, 2, 2], [0, 1, 0, 1, 0, 1, 0, 0, 0, 0])
    log = read_log(episodes, answers.actions, Rewards(held=-10.0), answers)
    # By hand: each CONTINUE at half the traffic costs 1, and while it is held it costs nothing.
    assert log.returns.tolist() == [[-10, -11], [-200, -203], [50, 50]]
    assert log.rewards[:4, 1].tolist() == [-1, 0, 0, -10]
    assert log.rewards[4:8, 1].tolist() == [-1, 0, 0, -202]


@given(data=st.data())
def test_the_rewards_of_what_was_completed_add_up_to_what_replaying_it_pays(make_episodes, data):
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    labels = [data.draw(st.sampled_from(["good", "bad"])) for _ in lengths]
    episodes = make_episodes(
        *(release(label, [0.5] * n) for label, n in zip(labels, lengths, strict=True))
    )
    n = sum(lengths)
    decision = data.draw(st.lists(st.sampled_from([0, 2]), min_size=n, max_size=n))
    flags = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    held = [int(word == 2 and flag) for word, flag in zip(decision, flags, strict=True)]
    answers = answers_of(decision, held)
    log = read_log(episodes, answers.actions, Rewards(), answers)
    np.testing.assert_allclose(np.add.reduceat(log.rewards, log.offsets[:-1]), log.returns)
