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

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.calibration import Calibration, belief_log_odds, read_calibration
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.problem.rewards import Rewards


def risk_of(q_rollback: float, intercept: float = 0.0, slope: float = 1.0) -> float:
    calibration = Calibration(intercept, slope)
    return float(calibration.risk(np.array([[0.0, q_rollback]]), Rewards())[0])


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.8])
def test_risk_is_the_belief_that_q_rollback_implies(p):
    # 100 p - 50 (1 - p) is the reward of rolling back; the ends bend off within 0.01.
    assert risk_of(100 * p - 50 * (1 - p)) == pytest.approx(p, abs=2e-3)


def test_the_logistic_map_is_worked_by_hand():
    # Belief 0.5 has log odds 0, so the risk is the logistic function of the intercept.
    assert risk_of(25.0, intercept=1.0, slope=7.0) == pytest.approx(1 / (1 + math.exp(-1)))
    # Belief 0.8: log odds log 4 = 1.386294, times 2 is 2.772589: 16 to 1.
    assert risk_of(70.0, slope=2.0) == pytest.approx(16 / 17, abs=1e-3)


@given(st.floats(-400, 400), st.floats(0.01, 50))
def test_risk_rises_with_q_rollback_even_outside_what_rewards_allow(q, more):
    odds = belief_log_odds(np.array([[0, q], [0, q + more]]), Rewards())
    assert np.isfinite(odds).all()
    assert odds[0] < odds[1]


def test_a_bend_changes_the_slope_where_the_belief_is_high():
    def odds(q_rollback: float, bend: float = 0.0) -> float:
        risk = Calibration(0.5, 2.0, bend=bend).risk_of(q_rollback, Rewards())
        return math.log(risk / (1 - risk))

    # Belief 0.8 has log odds log 4, and log(1 + 4) = log 5: 0.5 + 2 log 4 - log 5.
    assert odds(70.0, bend=-1.0) == pytest.approx(0.5 + 2 * math.log(4) - math.log(5), abs=1e-3)
    # Belief 0.02, log odds -log 49, hardly sees it: log(1 + 1 / 49) = 0.02.
    assert odds(-47.0, bend=-1.0) == pytest.approx(odds(-47.0) - 0.02, abs=1e-2)


@given(st.floats(-50, 100), st.floats(0, 30), st.floats(0.01, 5), st.floats(-5, 5))
def test_risk_rises_with_belief_whatever_the_bend(q, more, slope, bend):
    if slope + bend <= 0:
        with pytest.raises(DeployError, match=r"bend: .* turns the risk round"):
            Calibration(0.0, slope, bend=bend)
        return
    calibration = Calibration(0.0, slope, bend=bend)
    one, other = (calibration.risk_of(x, Rewards()) for x in (q, q + more))
    assert other >= one - 1e-12


def test_other_rewards_imply_other_beliefs():
    rewards = Rewards(correct_rollback=10, unnecessary_rollback=-10)
    assert Calibration(0, 1).risk(np.array([[0.0, 5.0]]), rewards)[0] == pytest.approx(
        0.75, abs=1e-3
    )


def test_a_calibration_survives_the_file(tmp_path, make_table):
    calibration = Calibration(
        0.25,
        1.5,
        PauseRules(min_requests=7, max_doubt=0.2, certain_risk=0.8, pause_fallback="CONTINUE"),
        alpha=0.05,
        rollback_from=0.625,
        bend=-0.5,
        fitted_on={"n_groups": 12},
    )
    policy = make_table([0.05, 0.9, 0.05], [0.1])
    calibrated = DeploymentPolicy.from_dict(
        {**policy.as_dict(), "calibration": calibration.as_dict()}
    )
    calibrated.save(tmp_path / "p.json")
    back = DeploymentPolicy.load(tmp_path / "p.json")
    assert back.calibration == calibration
    row = [{"error_rate": 0.3}]
    assert back.decide(row) == calibrated.decide(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slope": 0.0}, "slope: 0 is not above 0"),
        ({"slope": "steep"}, "slope: 'steep' is not a finite number"),
        ({"bend": None}, "bend: None is not a finite number"),
        ({"alpha": 1.5}, "alpha: 1.5 is not between 0 and 1"),
        ({"beta": 1}, "calibration: .*beta"),
        ({"pauses": {"pause_limit": 0}}, "pause_limit: 0 is not a whole number"),
        ({"pauses": None}, "calibration: .* is missing or malformed"),
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path, make_table, change, message):
    plain = make_table([0.05, 0.9, 0.05], [0.1]).as_dict()
    plain["calibration"] = {**Calibration(0.0, 1.0).as_dict(), **change}
    (tmp_path / "p.json").write_text(json.dumps(plain))
    with pytest.raises(DeployError, match=message):
        DeploymentPolicy.load(tmp_path / "p.json")


def test_no_calibration_stays_none():
    assert read_calibration(None) is None
