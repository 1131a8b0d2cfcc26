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

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import policy_answers
from oumi_deploy.evaluation.false_alarms import least_rollback_risk
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import FALLBACKS, Evidence, PauseRules
from oumi_deploy.problem.rewards import Action, Rewards

REWARDS = Rewards()
NEVER = PauseRules(min_requests=0)
CALIBRATION = Calibration(0.0, 1.0, NEVER)


def evidence_of(belief: list[float], **said) -> Evidence:
    """Evidence with these beliefs in "bad", and ROLLBACK preferred above break-even."""
    n = len(belief)
    q_values = np.stack([np.full(n, -1e3), 150 * np.array(belief) - 50], axis=1)
    plain = {
        "q_values": q_values,
        "is_silent": np.zeros(n, dtype=bool),
        "is_unmatched": np.zeros(n, dtype=bool),
        "is_outside": np.zeros(n, dtype=bool),
        "requests": np.full(n, np.nan),
        "q_uncounted": said.get("q_values", q_values),
        "guard": np.zeros(n, dtype=int),
    }
    return Evidence(**{**plain, **said})


@pytest.fixture
def bound(error_policy):
    def find(episodes: Episodes, belief: list[float], alpha: float, rules=NEVER, **said) -> float:
        policy = replace(error_policy, calibration=replace(CALIBRATION, pauses=rules))
        return least_rollback_risk(policy, episodes, evidence_of(belief, **said), alpha)

    return find


@pytest.fixture
def nine(make_episodes) -> Episodes:
    """Nine healthy releases of two observations, each a group; and a bad one."""
    healthy = [{"step": [0, 1], "label": "good", "group": f"g{i}"} for i in range(9)]
    return make_episodes(*healthy, {"step": [0, 1], "label": "bad", "group": "b"})


def risks(*highest: float) -> list[float]:
    """Two observations a release, the second the riskier; the bad one is sure."""
    return [r for high in (*highest, 1.0) for r in (0.0, high)]


def between(one: float, other: float):
    """Halfway; the log odds of a belief bend off a little."""
    return pytest.approx((one + other) / 2, abs=2e-3)


def test_the_least_risk_is_worked_by_hand(nine, bound):
    told = risks(0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.45, 0.4, 0.3)
    # (k + 1) / 10 <= alpha: with 0.1 no healthy release may be rolled back, with 0.3 two may.
    assert bound(nine, told, 0.1) == between(0.9, 1)
    assert bound(nine, told, 0.3) == between(0.7, 0.8)
    assert bound(nine, told, 0.99) == between(0.3, 0.4)


def test_nothing_is_held_back_where_nothing_need_be(nine, bound):
    # Below break-even nothing is rolled back, whatever the Q-values.
    assert bound(nine, risks(*[0.2] * 9), 0.1) == 0.0
    # Above it the Q-values may be for another look, and then a watch ends in ROLLBACK.
    patient = np.tile([100.0, 150 * 0.4 - 50], (20, 1))
    assert bound(nine, [0.4] * 20, 0.1, q_values=patient) == between(0.4, 1)
    # Not where a person is worth more: a ROLLBACK at 0.26 pays -11.
    patient[:, 1] = 150 * 0.26 - 50
    assert bound(nine, [0.26] * 20, 0.1, q_values=patient) == 0.0


def test_equal_risks_are_let_through_together_or_not_at_all(nine, bound):
    assert bound(nine, risks(0.9, *[0.5] * 8), 0.3) == between(0.9, 0.5)


def test_a_group_counts_once_with_the_share_of_its_healthy_releases(make_episodes, bound):
    pair = [{"step": [0], "label": "good", "group": "g0"} for _ in range(2)]
    rest = [{"step": [0], "label": "good", "group": f"g{i}"} for i in range(1, 4)]
    episodes = make_episodes(*pair, *rest)
    told = [0.9, 0.3, 0.4, 0.5, 0.6]
    # Four groups: (loss + 1) / 5. Half of g0 passes 0.3; half of g0 and g3 would be 0.5.
    assert bound(episodes, told, 0.3) == between(0.6, 0.9)
    assert bound(episodes, told, 0.29) == between(0.9, 1)


def test_too_few_groups_name_the_smallest_alpha_and_how_many_would_do(nine, bound):
    with pytest.raises(DeployError, match=r"9 groups .* support 0.1 or more; .* at least 19"):
        bound(nine, risks(*[0.5] * 9), 0.05)
    assert bound(nine, risks(*[0.5] * 9), 0.1) > 0.5


def test_fallbacks_count_and_are_named_where_they_alone_are_too_many(nine, bound):
    told, silent = risks(0.2, 0.2, *[0.5] * 7), np.zeros(20, dtype=bool)
    silent[[0, 1, 2, 3]] = True
    rolls_back = PauseRules(min_requests=0, pause_fallback="ROLLBACK")
    # Two of nine end silent, so that their pause falls back at the last observation; and what the
    # bound holds back until then falls back too: 9 of 9.
    with pytest.raises(DeployError, match=r"alone roll back 100.0% .* PAUSE or CONTINUE"):
        bound(nine, told, 0.2, rolls_back, is_silent=silent)
    quiet = risks(*[0.2] * 9)
    with pytest.raises(DeployError, match=r"22.2% of the healthy .* set alpha to 0.3"):
        bound(nine, quiet, 0.2, rolls_back, is_silent=silent)
    assert bound(nine, quiet, 0.3, rolls_back, is_silent=silent) == 0.0
    for fallback in ("CONTINUE", "PAUSE"):
        kind = PauseRules(min_requests=0, pause_fallback=fallback)
        assert bound(nine, told, 0.2, kind, is_silent=silent) > 0.5


def test_guardrails_count(nine, bound):
    asked = np.zeros(20, dtype=int)
    asked[[0, 2]] = 2
    with pytest.raises(DeployError, match=r"22.2% of the healthy .* loosen the guardrails"):
        bound(nine, risks(*[0.2] * 9), 0.2, guard=asked)
    # Two of nine come anyhow, and a third may: (3 + 1) / 10.
    told = risks(0.2, 0.2, 0.9, 0.8, *[0.5] * 5)
    assert bound(nine, told, 0.4, guard=asked) == between(0.8, 0.9)


def test_a_healthy_release_that_the_log_rolled_back_counts_as_a_false_alarm(make_episodes, bound):
    healthy = [{"step": [0], "label": "good", "group": f"g{i}"} for i in range(9)]
    episodes = make_episodes(*healthy, {"step": [0], "label": "good", "action": ["ROLLBACK"]})
    # One of ten groups anyhow: (1 + 1) / 11.
    with pytest.raises(DeployError, match=r"set alpha to 0.182 or more"):
        bound(episodes, [0.5] * 10, 0.15)


@st.composite
def rules(draw) -> PauseRules:
    return PauseRules(
        max_doubt=draw(st.none() | st.sampled_from([0.3, 0.6])),
        certain_risk=draw(st.sampled_from([0.2, 0.6, 0.9, 1.0])),
        watch_limit=draw(st.integers(1, 4)),
        pause_limit=draw(st.integers(1, 4)),
        pause_fallback=draw(st.sampled_from(FALLBACKS)),
    )


@settings(max_examples=150)
@given(rules(), st.integers(0, 9999), st.lists(st.integers(1, 6), min_size=2, max_size=6))
def test_the_bound_counts_every_rollback_that_would_come(
    make_episodes, error_policy, pauses, seed, lengths
):
    """For any bound, what is rolled back is what the fit says of it."""
    random = np.random.default_rng(seed)
    n = sum(lengths)
    episodes = make_episodes(
        *(
            {
                "step": list(range(length)),
                "label": "good",
                "planned_steps": random.choice([length, 9]) if random.random() < 0.5 else None,
            }
            for length in lengths
        )
    )
    belief = random.choice([0.05, 0.24, 0.26, 0.3, 0.5, 0.7, 0.93], n)
    q_values = np.stack([random.uniform(-150, 100, n), 150 * belief - 50], axis=1)
    uncounted = np.stack([q_values[:, 0], np.minimum(q_values[:, 1], random.choice([-20, 60], n))])
    evidence = Evidence(
        q_values,
        is_silent=random.random(n) < 0.2,
        is_unmatched=random.random(n) < 0.5,
        is_outside=random.random(n) < 0.2,
        requests=random.choice([np.nan, 5.0, 50.0], n),
        q_uncounted=uncounted.T,
        guard=random.choice([0, 1, 2], n, p=[0.9, 0.05, 0.05]),
    )

    def policy_from(least: float) -> DeploymentPolicy:
        return replace(error_policy, calibration=Calibration(0.0, 1.0, pauses, 0.5, least))

    def rolled_back(least: float) -> np.ndarray:
        decisions = policy_answers(policy_from(least), episodes, evidence=evidence).decision
        return np.logical_or.reduceat(decisions == Action.ROLLBACK, episodes.canary_offsets[:-1])

    for alpha in (0.4, 0.6, 0.8):
        share = 1 / (len(lengths) + 1)
        try:
            least = least_rollback_risk(policy_from(0.0), episodes, evidence, alpha)
        except DeployError:
            # Too few releases, or what comes though no risk is let through.
            assert (rolled_back(2.0).sum() + 1) * share > alpha
            continue
        n_rolled_back = rolled_back(least).sum()
        assert (n_rolled_back + 1) * share <= alpha + 1e-9
        # It is the least: where it holds anything back, the next to be let through is too much.
        lower = (rolled_back(r).sum() for r in sorted(risks_in(evidence))[::-1] if r < least)
        if least > 0:
            assert (next(n for n in lower if n > n_rolled_back) + 1) * share > alpha


def risks_in(evidence: Evidence) -> list[float]:
    return CALIBRATION.risk_of(evidence.q_values[:, 1], REWARDS).tolist()


def test_the_expected_share_stays_below_alpha(make_episodes, bound):
    """Over many draws of calibration groups, new releases are rolled back as rarely as promised."""
    random = np.random.default_rng(0)
    one = {"step": [0], "label": "good"}
    episodes = make_episodes(*[{**one, "group": f"g{i}"} for i in range(30)])
    passed = []
    for _ in range(1500):
        # All above break-even: uniform over 0.3 to 0.8.
        least = bound(episodes, list(0.3 + 0.5 * random.random(30)), 0.1)
        passed.append(np.clip((0.8 - least) / 0.5, 0, 1))
    # A new risk, uniform too, passes with what is left above the bound.
    mean, error = np.mean(passed), np.std(passed) / np.sqrt(len(passed))
    assert mean <= 0.1 + 2 * error
    assert mean > 0.07
