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

import pytest

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules


@pytest.fixture
def policy(make_table, calibrate_as_is):
    """Healthy below an error rate of 0.1, bad from there on, healthy where it is missing."""
    return calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1]))


def answers(policy, *observations, **options):
    """The answers after each observation of one rollout."""
    rollout, said = policy.begin(), []
    for observation in observations:
        rollout.observe(observation)
        said.append(rollout.decide(**options).decision)
    return said


SILENT, WELL, ILL = {"error_rate": None}, {"error_rate": 0.01}, {"error_rate": 0.3}


def test_the_answers_name_risk_and_confidence(policy):
    well, ill = policy.decide([WELL]), policy.decide([ILL])
    assert (well.decision, ill.decision) == ("CONTINUE", "ROLLBACK")
    assert well.risk == pytest.approx(0.05, abs=1e-3)
    assert well.confidence == pytest.approx(0.95, abs=1e-3)
    assert ill.risk == ill.confidence == pytest.approx(0.9, abs=1e-3)
    paused = policy.decide([SILENT])
    assert paused.decision == "PAUSE"
    assert paused.confidence == max(paused.risk, 1 - paused.risk)
    assert paused.reasons == ("telemetry_missing",)


def test_silence_is_two_observations_or_the_first(policy):
    said = answers(policy, SILENT, WELL, SILENT, SILENT, WELL)
    assert said == ["PAUSE", "CONTINUE", "CONTINUE", "PAUSE", "CONTINUE"]


def test_the_fifth_pause_running_falls_back_and_so_do_those_after_it(policy):
    assert answers(policy, *[SILENT] * 6) == ["PAUSE"] * 4 + ["ROLLBACK"] * 2
    assert policy.decide([SILENT] * 5).reasons == ("telemetry_missing", "paused_too_long")
    # An answer in between starts the count anew.
    rows = [*[SILENT] * 4, WELL, *[SILENT] * 5]
    assert answers(policy, *rows)[-4:] == ["PAUSE"] * 4


def test_the_fallback_and_its_limit_are_the_users(make_table, calibrate_as_is):
    table = make_table([0.05, 0.9, 0.05], [0.1])
    policy = calibrate_as_is(table, pause_limit=2, pause_fallback="CONTINUE")
    assert answers(policy, SILENT, SILENT, SILENT) == ["PAUSE", "CONTINUE", "CONTINUE"]


def test_a_pause_has_no_place_at_the_last_observation(policy):
    assert policy.decide([WELL, SILENT, SILENT], last=True).decision == "ROLLBACK"
    planned = {**SILENT, "planned_steps": 2}
    assert answers(policy, planned, planned) == ["PAUSE", "ROLLBACK"]
    assert policy.decide([planned, planned]).reasons == ("telemetry_missing", "last_observation")
    assert policy.decide([WELL], last=True).decision == "CONTINUE"


def test_silence_and_strange_values_hold_back_continue_alone(make_table, calibrate_as_is):
    # Believes in "bad" wherever the value is missing, and from 0.1 on.
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.9], [0.1]))
    assert answers(policy, SILENT) == ["ROLLBACK"]
    assert answers(policy, {"error_rate": 0.6}) == ["ROLLBACK"]
    timid = calibrate_as_is(make_table([0.05, 0.05, 0.05], [0.1]))
    outside = timid.decide([{"error_rate": 0.6}])
    assert (outside.decision, outside.reasons) == ("PAUSE", ("out_of_range",))
    # The training split reached 0.5; a margin of 0.2 widens 0..0.5 by 0.1.
    roomy = calibrate_as_is(make_table([0.05, 0.05, 0.05], [0.1]), range_margin=0.2)
    assert answers(roomy, {"error_rate": 0.59}, {"error_rate": 0.61}) == ["CONTINUE", "PAUSE"]


@pytest.mark.parametrize("observation", [WELL, ILL])
def test_few_requests_and_doubt_hold_back_either_answer(observation, make_table, calibrate_as_is):
    table = make_table([0.2, 0.7, 0.05], [0.1])
    policy = calibrate_as_is(table)
    paused = policy.decide([{**observation, "requests": 19}])
    assert (paused.decision, paused.reasons) == ("PAUSE", ("few_requests",))
    assert policy.decide([{**observation, "requests": 20}]).decision != "PAUSE"
    assert policy.decide([observation]).decision != "PAUSE"
    assert calibrate_as_is(table, min_requests=0).decide(
        [{**observation, "requests": 0}]
    ).decision != "PAUSE"  # fmt: skip
    # Both are wrong with a probability of at least 0.2: 0.2, and 1 - 0.7.
    doubting = calibrate_as_is(table, max_doubt=0.15).decide([observation])
    assert (doubting.decision, doubting.reasons) == ("PAUSE", ("doubt",))
    assert calibrate_as_is(table, max_doubt=0.35).decide([observation]).decision != "PAUSE"


def test_what_the_rollout_counts_is_no_telemetry(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1], ["error_rate", "canary_share"]))
    rows = [{"error_rate": None, "canary_share": 0.1}] * 2
    assert answers(policy, *rows) == ["PAUSE", "PAUSE"]


def test_one_missing_metric_is_for_the_marks(make_table, calibrate_as_is):
    state = ["error_rate", "memory_usage"]
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1], state))
    assert answers(policy, *[{"error_rate": None, "memory_usage": 0.4}] * 3) == ["CONTINUE"] * 3


def test_a_share_of_missing_values_and_a_clock_have_no_range(make_table, calibrate_as_is):
    for state in (["error_rate.missing", "error_rate"], ["error_rate", "steps"]):
        policy = calibrate_as_is(make_table([0.05, 0.05, 0.05], [9.0], state))
        rows = [WELL, SILENT, WELL, SILENT, WELL]
        assert "PAUSE" not in answers(policy, *rows)


def test_empty_observations_pause_but_strange_names_are_refused(policy):
    assert answers(policy, {}, {}) == ["PAUSE", "PAUSE"]
    assert policy.decide([{"requests": 500, "canary_share": 0.1}]).decision == "PAUSE"
    with pytest.raises(DeployError, match="no observation names a metric"):
        policy.decide([{"eror_rate": 0.5}])


def test_without_calibration_there_is_no_pause(make_table):
    said = make_table([0.05, 0.9, 0.05], [0.1]).decide([{**SILENT, "requests": 1}], last=True)
    assert (said.decision, said.confidence, said.risk, said.reasons) == ("CONTINUE", None, None, ())


def test_a_bound_lets_through_only_the_riskiest_rollbacks(make_table):
    table = make_table([0.05, 0.5, 0.95, 0.05], [0.1, 0.2])
    policy = replace(table, calibration=Calibration(0.0, 1.0, alpha=0.05, rollback_from=0.7))
    held = policy.decide([{"error_rate": 0.15}])
    assert (held.decision, held.reasons) == ("CONTINUE", ("false_alarm_bound",))
    assert held.confidence == pytest.approx(0.5, abs=1e-3)
    assert policy.decide([{"error_rate": 0.3}]).decision == "ROLLBACK"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"min_requests": -1}, "min_requests: -1 is not a number of 0 or more"),
        ({"range_margin": float("nan")}, "range_margin: nan is not a number"),
        ({"max_doubt": 1}, "max_doubt: 1 is not between 0 and 1"),
        ({"pause_limit": 2.5}, "pause_limit: 2.5 is not a whole number above 0"),
        ({"pause_fallback": "PAUSE"}, "pause_fallback: 'PAUSE' is not one of CONTINUE, ROLLBACK"),
    ],
)
def test_impossible_rules_are_refused(setting, message):
    with pytest.raises(DeployError, match=message):
        PauseRules(**setting)
