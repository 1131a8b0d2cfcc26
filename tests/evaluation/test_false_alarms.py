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

import numpy as np
import pytest

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.false_alarms import least_rollback_risk
from oumi_deploy.policy.pauses import Evidence, PauseRules

NEVER = PauseRules(min_requests=0)


def bound(episodes: Episodes, risk: list[float], alpha: float, rules=NEVER, **evidence) -> float:
    """The bound where the policy prefers ROLLBACK at every observation."""
    n = len(risk)
    said = {
        "q_values": np.tile([0.0, 1.0], (n, 1)),
        "is_silent": np.zeros(n, dtype=bool),
        "is_outside": np.zeros(n, dtype=bool),
        "requests": np.full(n, np.nan),
        **evidence,
    }
    return least_rollback_risk(episodes, Evidence(**said), np.array(risk), rules, alpha)


@pytest.fixture
def nine(make_episodes) -> Episodes:
    """Nine healthy releases of two observations, each a group; and a bad one."""
    healthy = [{"step": [0, 1], "label": "good", "group": f"g{i}"} for i in range(9)]
    return make_episodes(*healthy, {"step": [0, 1], "label": "bad", "group": "b"})


def risks(*highest: float) -> list[float]:
    """Two observations a release, the second the riskier; the bad one is sure."""
    return [r for high in (*highest, 1.0) for r in (0.0, high)]


def test_the_least_risk_is_worked_by_hand(nine):
    told = risks(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    # (k + 1) / 10 <= alpha: with 0.1 no healthy release may be rolled back, with 0.3 two may.
    assert bound(nine, told, 0.1) == pytest.approx((0.9 + 1) / 2)
    assert bound(nine, told, 0.3) == pytest.approx((0.7 + 0.8) / 2)
    assert bound(nine, told, 0.99) == pytest.approx((0.1 + 0.2) / 2)


def test_nothing_is_held_back_where_nothing_need_be(nine):
    told = risks(*[0.4] * 9)
    quiet = np.tile([1.0, 0.0], (20, 1))
    assert bound(nine, told, 0.1, q_values=quiet) == 0.0


def test_equal_risks_are_let_through_together_or_not_at_all(nine):
    assert bound(nine, risks(0.9, *[0.5] * 8), 0.3) == pytest.approx((0.9 + 0.5) / 2)


def test_a_group_counts_once_with_the_share_of_its_healthy_releases(make_episodes):
    pair = [{"step": [0], "label": "good", "group": "g0"} for _ in range(2)]
    rest = [{"step": [0], "label": "good", "group": f"g{i}"} for i in range(1, 4)]
    episodes = make_episodes(*pair, *rest)
    told = [0.9, 0.1, 0.2, 0.3, 0.4]
    # Four groups: (loss + 1) / 5. Half of g0 passes 0.3; half of g0 and g3 would be 0.5.
    assert bound(episodes, told, 0.3) == pytest.approx((0.4 + 0.9) / 2)
    assert bound(episodes, told, 0.29) == pytest.approx((0.9 + 1) / 2)


def test_too_few_groups_name_the_smallest_alpha_and_how_many_would_do(nine):
    with pytest.raises(DeployError, match=r"9 groups .* support 0.1 or more; .* at least 19"):
        bound(nine, risks(*[0.5] * 9), 0.05)
    assert bound(nine, risks(*[0.5] * 9), 0.1) > 0.5


def test_fallbacks_count_and_are_named_where_they_alone_are_too_many(nine):
    told, silent = risks(*[0.5] * 9), np.zeros(20, dtype=bool)
    silent[[0, 1, 2, 3]] = True
    # Two of nine end silent, so that their pause falls back at the last observation: 3 / 10.
    with pytest.raises(DeployError, match=r"22.2% of the healthy .* CONTINUE, or alpha to 0.3"):
        bound(nine, told, 0.2, is_silent=silent)
    assert bound(nine, told, 0.3, is_silent=silent) > 0.5
    kind = PauseRules(min_requests=0, pause_fallback="CONTINUE")
    assert bound(nine, told, 0.2, kind, is_silent=silent) > 0.5


def test_a_healthy_release_that_the_log_rolled_back_counts_as_a_false_alarm(make_episodes):
    healthy = [{"step": [0], "label": "good", "group": f"g{i}"} for i in range(9)]
    episodes = make_episodes(*healthy, {"step": [0], "label": "good", "action": ["ROLLBACK"]})
    # One of ten groups anyhow: (1 + 1) / 11.
    with pytest.raises(DeployError, match=r"or alpha to 0.182 or more"):
        bound(episodes, [0.5] * 10, 0.15)


def test_the_expected_share_stays_below_alpha(make_episodes):
    """Over many draws of calibration groups, new releases are rolled back as rarely as promised."""
    random = np.random.default_rng(0)
    one = {"step": [0], "label": "good"}
    episodes = make_episodes(*[{**one, "group": f"g{i}"} for i in range(30)])
    passed = []
    for _ in range(1500):
        least = bound(episodes, list(random.random(30)), 0.1)
        passed.append(1 - least)
    # A new risk, uniform too, passes with probability 1 - least.
    mean, error = np.mean(passed), np.std(passed) / np.sqrt(len(passed))
    assert mean <= 0.1 + 2 * error
    assert mean > 0.07
