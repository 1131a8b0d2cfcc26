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

"""The rules of PAUSE, on tables whose risk is known: what holds an answer back, and what ends it.

With the default rewards the break-even is a risk of 0.25, and a ROLLBACK pays more than a person's
time (-10) from 100 r - 50 (1 - r) > -10, a risk of 0.267, on.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules, count_requests
from oumi_deploy.policy.rollout import Decision
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.rewards import Rewards

SILENT, WELL, ILL = {"error_rate": None}, {"error_rate": 0.01}, {"error_rate": 0.3}


@pytest.fixture
def policy(make_table, calibrate_as_is):
    """Healthy below an error rate of 0.15, bad from there on, healthy where it is missing.

    The usual error rate is 0.1.
    """
    return calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.15]), watch_limit=3)


@pytest.fixture
def patient(make_table, calibrate_as_is):
    """Risks of 0.05, 0.26, 0.4, 0.7 and 0.95 from error rates of 0, 0.1, 0.2, 0.3 and 0.4 on.

    Another look is worth 200 to it, so it prefers ROLLBACK from a belief of 0.75 on.
    """

    def make(**rules) -> DeploymentPolicy:
        beliefs, edges = [0.05, 0.26, 0.4, 0.7, 0.95, 0.05], [0.1, 0.2, 0.3, 0.4]
        table = make_table(beliefs, edges, waiting=200)
        return calibrate_as_is(table, **{"watch_limit": 3, **rules})

    return make


def decisions(policy: DeploymentPolicy, *observations, **end) -> list[Decision]:
    """The answers after each observation of one rollout."""
    rollout, said = policy.begin(), []
    for observation in observations:
        rollout.observe(observation)
        said.append(rollout.decide(**end))
    return said


def answers(policy: DeploymentPolicy, *observations, **end) -> list[str]:
    return [decision.decision for decision in decisions(policy, *observations, **end)]


def reasons(policy: DeploymentPolicy, *observations, **end) -> tuple[str, ...]:
    """The reasons of the last answer."""
    return decisions(policy, *observations, **end)[-1].reasons


def rates(*values: float | None) -> list[dict[str, float | None]]:
    return [{"error_rate": value} for value in values]


def test_the_answers_name_risk_and_confidence(policy):
    well, ill = policy.decide([WELL]), policy.decide([ILL])
    assert (well.decision, ill.decision) == ("CONTINUE", "ROLLBACK")
    assert well.risk == pytest.approx(0.05, abs=1e-3)
    assert well.confidence == pytest.approx(0.95, abs=1e-3)
    assert ill.risk == ill.confidence == pytest.approx(0.9, abs=1e-3)
    assert (well.reasons, ill.reasons) == ((), ())
    paused = policy.decide([SILENT])
    assert paused.decision == "PAUSE"
    assert paused.confidence == max(paused.risk, 1 - paused.risk)
    assert paused.reasons == ("telemetry_missing",)


def test_a_look_that_saw_nothing_is_no_ground_to_go_on(policy):
    said = answers(policy, SILENT, WELL, SILENT, SILENT, WELL)
    assert said == ["PAUSE", "CONTINUE", "PAUSE", "PAUSE", "CONTINUE"]


def test_a_value_that_the_state_cannot_use_is_as_good_as_none(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1], ["error_rate.control"]))
    alone = {"error_rate": 0.9}
    assert reasons(policy, alone) == ("telemetry_missing",)
    assert answers(policy, {**alone, "control_error_rate": 0.9}) == ["CONTINUE"]
    to_baseline = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1], ["error_rate.baseline"]))
    assert answers(to_baseline, alone) == ["PAUSE"]
    assert to_baseline.decide([{**WELL, "phase": "baseline"}, WELL]).decision == "CONTINUE"


def test_what_the_rollout_counts_is_no_telemetry(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1], ["error_rate", "canary_share"]))
    assert answers(policy, {"error_rate": None, "canary_share": 0.1}) == ["PAUSE"]


def test_one_missing_metric_is_for_the_marks(make_table, calibrate_as_is):
    state = ["error_rate", "memory_usage"]
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1], state))
    assert answers(policy, *[{"error_rate": None, "memory_usage": 0.4}] * 3) == ["CONTINUE"] * 3


def test_silence_is_no_ground_for_either_action(make_table, calibrate_as_is):
    # Believes in "bad" wherever the value is missing, and from 0.1 on.
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.95], [0.1]), pause_limit=3)
    assert answers(policy, SILENT, SILENT, SILENT) == ["PAUSE"] * 3
    third = policy.decide([SILENT] * 3)
    assert third.risk > 0.9
    assert third.reasons == ("telemetry_missing", "paused_too_long", "held_for_a_person")
    # Nor does a watch that ends before that roll back what nobody saw.
    watching = calibrate_as_is(make_table([0.05, 0.9, 0.6], [0.1]), watch_limit=2)
    assert answers(watching, SILENT, SILENT, SILENT) == ["PAUSE"] * 3
    assert "held_for_a_person" in watching.decide([SILENT, SILENT]).reasons
    # What was seen before it stands, and what is seen after it decides.
    assert answers(policy, {"error_rate": 0.2}, SILENT, {"error_rate": 0.2}) == [
        "ROLLBACK",
        "PAUSE",
        "ROLLBACK",
    ]


def test_that_the_new_version_alone_is_silent_may_roll_it_back(make_table, calibrate_as_is):
    both = {**SILENT, "control_error_rate": 0.0}
    # The share of looks in which the old version alone reports: from one half on it is bad.
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.5], ["error_rate.unmatched"]))
    assert answers(policy, both) == ["ROLLBACK"]
    # Then neither reports: two of three looks are as they were, and this one tells nothing.
    assert answers(policy, both, both, SILENT) == ["ROLLBACK", "ROLLBACK", "PAUSE"]
    unread = calibrate_as_is(make_table([0.05, 0.9, 0.95], [0.5], ["error_rate"]))
    assert answers(unread, both) == ["PAUSE"]


def test_strange_values_hold_back_continue_alone(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.9], [0.1]))
    # Worse than all that training has seen counts as at least the worst.
    assert answers(policy, {"error_rate": 0.6}) == ["ROLLBACK"]
    timid = calibrate_as_is(make_table([0.05, 0.05, 0.05], [0.1]))
    assert answers(timid, {"error_rate": 0.6}) == ["PAUSE"]
    assert reasons(timid, {"error_rate": 0.6}) == ("out_of_range",)
    # The training split reached 0.5; a margin of 0.2 widens 0..0.5 by 0.1.
    roomy = calibrate_as_is(make_table([0.05, 0.05, 0.05], [0.1]), range_margin=0.2)
    assert answers(roomy, {"error_rate": 0.59}, {"error_rate": 0.61}) == ["CONTINUE", "PAUSE"]


@pytest.mark.parametrize(
    ("metric", "direction", "low_says", "high_says"),
    [
        ("load", "higher", "CONTINUE", "PAUSE"),
        ("load", "lower", "PAUSE", "CONTINUE"),
        ("load", "either", "PAUSE", "PAUSE"),
        # More traffic than ever tells nothing of how the release does.
        ("canary_share", "either", "CONTINUE", "CONTINUE"),
    ],
)
def test_what_is_better_than_all_that_was_seen_is_no_surprise(
    make_table, calibrate_as_is, metric, direction, low_says, high_says
):
    table = make_table([0.05, 0.05], [], [metric])
    encoder = replace(
        table.encoder,
        low=np.array([0.2]),
        directions=directions_of(table.encoder.state, {metric: direction}),
    )
    policy = calibrate_as_is(replace(table, encoder=encoder))
    # Training saw 0.2 to 0.5.
    rows = [{metric: x, "canary_share": x} for x in (0.1, 0.3, 0.9)]
    assert [policy.decide([row]).decision for row in rows] == [low_says, "CONTINUE", high_says]


def test_a_share_of_missing_values_and_a_clock_have_no_range(make_table, calibrate_as_is):
    for state in (["error_rate.missing", "error_rate"], ["error_rate", "steps"]):
        policy = calibrate_as_is(make_table([0.05, 0.05, 0.05], [9.0], state))
        rows = [WELL, SILENT, WELL, SILENT, WELL]
        assert answers(policy, *rows) == ["CONTINUE", "PAUSE"] * 2 + ["CONTINUE"]


def test_few_requests_are_counted_together_until_they_are_enough(policy):
    few = {**ILL, "requests": 7}
    assert reasons(policy, few) == ("few_requests",)
    # 7, 14, 21 are enough; then the count starts anew: 7, 14, 21.
    assert answers(policy, *[few] * 6) == ["PAUSE", "PAUSE", "ROLLBACK"] * 2
    # 19 alone are too few, 20 are not; an unknown number holds nothing back, nor counts.
    rows = [{**WELL, "requests": n} for n in (19, 20, None, 19, None, 19)]
    assert answers(policy, *rows) == [
        "PAUSE", "CONTINUE", "CONTINUE", "PAUSE", "CONTINUE", "PAUSE"
    ]  # fmt: skip
    assert policy.decide([{**ILL, "requests": 20}]).decision == "ROLLBACK"


def test_the_least_number_of_requests_is_the_users(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1]), min_requests=0)
    assert policy.decide([{**ILL, "requests": 0}]).decision == "ROLLBACK"


def test_few_requests_never_hold_back_a_rollback_that_other_metrics_carry(
    make_table, calibrate_as_is
):
    state = ["memory_usage", "error_rate"]
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.3], state))
    leak = {"memory_usage": 0.4, "error_rate": 0.0, "requests": 1}
    assert policy.decide([leak]).decision == "ROLLBACK"
    assert reasons(policy, leak) == ()
    # Nor a ROLLBACK for certain, or at the end of a watch.
    certain = make_table([0.05, 0.95, 0.05], [0.3], state, waiting=400)
    assert calibrate_as_is(certain).decide([leak]).reasons == ("certain_risk",)
    table = make_table([0.05, 0.6, 0.05], [0.3], state, waiting=400)
    watched = calibrate_as_is(table, watch_limit=3)
    assert answers(watched, leak, leak, leak) == ["PAUSE", "PAUSE", "ROLLBACK"]
    assert reasons(watched, leak) == ("few_requests", "watching")


def test_the_errors_of_few_requests_never_end_in_a_rollback(policy):
    few = {**ILL, "requests": 1}
    assert answers(policy, *[few] * 6) == ["PAUSE"] * 6
    assert reasons(policy, *[few] * 3) == ("few_requests", "watch_ended", "held_for_a_person")
    assert reasons(policy, few, last=True) == (
        "few_requests", "last_observation", "watch_ended", "held_for_a_person"
    )  # fmt: skip


@given(st.lists(st.none() | st.integers(0, 30), min_size=1, max_size=12), st.integers(0, 40))
def test_requests_are_counted_as_the_definition_says(requests, least):
    short, counted = 0.0, []
    for newest in requests:
        together, short = count_requests(short, np.nan if newest is None else newest, least)
        # Those since the latest look that was unknown, or that made enough of them.
        counted = [] if newest is None else [*counted, newest]
        assert np.isnan(together) if newest is None else together == sum(counted)
        if sum(counted) >= least:
            counted = []


@pytest.mark.parametrize("observation", [WELL, ILL])
def test_doubt_holds_back_either_answer(observation, make_table, calibrate_as_is):
    table = make_table([0.2, 0.7, 0.05], [0.1])
    # Both are wrong with a probability of at least 0.2: 0.2, and 1 - 0.7.
    doubting = calibrate_as_is(table, max_doubt=0.15)
    assert answers(doubting, observation) == ["PAUSE"]
    assert reasons(doubting, observation) == ("doubt",)
    assert calibrate_as_is(table, max_doubt=0.35).decide([observation]).decision != "PAUSE"


def test_above_break_even_the_answer_is_to_look_again(patient):
    policy = patient()
    # The risk is 0.7, and CONTINUE is worth 75 against 55: more traffic all the same is not.
    said = policy.decide(rates(0.35))
    assert (said.decision, said.reasons) == ("PAUSE", ("watching",))
    assert said.q_values["CONTINUE"] > said.q_values["ROLLBACK"]
    assert answers(policy, *rates(0.0, 0.15, 0.25, 0.0)) == [
        "CONTINUE", "PAUSE", "PAUSE", "CONTINUE"
    ]  # fmt: skip


def test_a_watch_ends_in_rollback_where_that_pays_more_than_a_persons_time(patient):
    policy = patient()
    assert answers(policy, *rates(0.25, 0.25, 0.25, 0.25)) == ["PAUSE"] * 2 + ["ROLLBACK"] * 2
    assert reasons(policy, *rates(0.25, 0.25, 0.25)) == ("watching", "watch_ended")
    # At a risk of 0.26 a ROLLBACK pays -11, a person -10.
    assert answers(policy, *rates(*[0.15] * 6)) == ["PAUSE"] * 6
    assert reasons(policy, *rates(*[0.15] * 3)) == ("watching", "watch_ended", "held_for_a_person")
    cheap = replace(policy, rewards=Rewards(held=-12))
    assert answers(cheap, *rates(*[0.15] * 3))[-1] == "ROLLBACK"
    # It counts what the risk is when the watch ends.
    assert answers(policy, *rates(0.25, 0.25, 0.15, 0.25)) == ["PAUSE"] * 3 + ["ROLLBACK"]


def test_how_long_a_watch_lasts_is_the_users(patient):
    assert answers(patient(watch_limit=1), *rates(0.25)) == ["ROLLBACK"]
    said = answers(patient(watch_limit=5), *rates(*[0.25] * 5))
    assert said == ["PAUSE"] * 4 + ["ROLLBACK"]


def test_pauses_are_counted_together_whatever_their_reason(patient):
    policy = patient()
    # Twice silent, and then above break-even: the third PAUSE running.
    assert answers(policy, *rates(None, None, 0.25)) == ["PAUSE", "PAUSE", "ROLLBACK"]
    # Below break-even nothing is decided at number 3, and at 5 a person must.
    assert answers(policy, *rates(*[None] * 4)) == ["PAUSE"] * 4
    assert answers(policy, *rates(*[None] * 4, 0.25))[-1] == "ROLLBACK"
    # An answer in between starts the count anew.
    assert answers(policy, *rates(0.25, 0.25, 0.0, 0.25, 0.25))[-1] == "PAUSE"


def test_from_a_certain_risk_on_it_is_rollback(make_table, calibrate_as_is):
    table = make_table([0.05, 0.89, 0.91, 0.05], [0.1, 0.2], waiting=400)
    policy = calibrate_as_is(table)
    assert answers(policy, *rates(0.15)) == ["PAUSE"]
    certain = policy.decide(rates(0.3))
    assert certain.q_values["CONTINUE"] > certain.q_values["ROLLBACK"]
    assert (certain.decision, certain.reasons) == ("ROLLBACK", ("certain_risk",))
    assert calibrate_as_is(table, certain_risk=0.88).decide(rates(0.15)).decision == "ROLLBACK"
    assert calibrate_as_is(table, certain_risk=1).decide(rates(0.3)).reasons == ("watching",)
    # Where the Q-values prefer it anyhow, certainty adds nothing.
    sure = calibrate_as_is(make_table([0.05, 0.95, 0.05], [0.1]))
    assert reasons(sure, *rates(0.3)) == ()


def test_from_the_fifth_pause_running_a_person_must_decide(policy):
    assert answers(policy, *[SILENT] * 6) == ["PAUSE"] * 6
    assert reasons(policy, *[SILENT] * 4) == ("telemetry_missing",)
    held = ("telemetry_missing", "paused_too_long", "held_for_a_person")
    assert reasons(policy, *[SILENT] * 5) == reasons(policy, *[SILENT] * 6) == held
    # It is no latch: what is seen later is answered by itself.
    assert answers(policy, *[SILENT] * 6, WELL, *[SILENT] * 5)[-6:] == ["CONTINUE"] + ["PAUSE"] * 5
    assert answers(policy, *[SILENT] * 6, ILL)[-1] == "ROLLBACK"
    # An answer in between starts the count anew.
    assert reasons(policy, *[SILENT] * 4, WELL, *[SILENT] * 4) == ("telemetry_missing",)


def test_the_fallback_and_its_limit_are_the_users(make_table, calibrate_as_is):
    table = make_table([0.05, 0.05, 0.05], [0.1])
    strange = {"error_rate": 0.6}
    promoting = calibrate_as_is(table, pause_limit=2, pause_fallback="CONTINUE")
    assert answers(promoting, strange, strange, strange) == ["PAUSE", "CONTINUE", "CONTINUE"]
    assert reasons(promoting, strange, strange) == ("out_of_range", "paused_too_long")
    stopping = calibrate_as_is(table, pause_limit=2, pause_fallback="ROLLBACK")
    assert answers(stopping, SILENT, SILENT, SILENT) == ["PAUSE", "ROLLBACK", "ROLLBACK"]
    assert reasons(stopping, SILENT, SILENT) == ("telemetry_missing", "paused_too_long")


def test_the_fallback_continue_promotes_nothing_unseen(make_table, calibrate_as_is):
    policy = calibrate_as_is(make_table([0.05, 0.9, 0.05], [0.1]), pause_fallback="CONTINUE")
    assert answers(policy, WELL, *[SILENT] * 6) == ["CONTINUE"] + ["PAUSE"] * 6
    assert reasons(policy, *[SILENT] * 5)[-1] == "held_for_a_person"
    assert answers(policy, WELL, SILENT, last=True) == ["CONTINUE", "PAUSE"]
    # What is seen well, though of few requests, goes on.
    few = {**WELL, "requests": 1}
    assert answers(policy, *[few] * 5) == ["PAUSE"] * 4 + ["CONTINUE"]
    # The last look is silent: what was seen before it is no ground.
    assert answers(policy, *[few] * 4, {**SILENT, "requests": 1})[-1] == "PAUSE"


def test_the_fallback_continue_promotes_nothing_above_break_even(patient):
    policy = patient(pause_fallback="CONTINUE")
    assert answers(policy, *rates(*[0.15] * 7)) == ["PAUSE"] * 7
    assert reasons(policy, *rates(0.15), last=True) == (
        "last_observation", "watching", "watch_ended", "held_for_a_person"
    )  # fmt: skip


def test_at_the_last_observation_a_pause_ends(policy, patient):
    held = policy.decide([WELL, SILENT], last=True)
    assert held.decision == "PAUSE"
    assert held.reasons == ("telemetry_missing", "last_observation", "held_for_a_person")
    planned = {**SILENT, "planned_steps": 2}
    assert reasons(policy, planned, planned) == held.reasons
    assert reasons(policy, planned) == ("telemetry_missing",)
    assert policy.decide([WELL], last=True).decision == "CONTINUE"
    # A watch ends there too, though it is the first PAUSE.
    assert answers(patient(), *rates(0.25), last=True) == ["ROLLBACK"]
    assert reasons(patient(), *rates(0.15), last=True)[-1] == "held_for_a_person"


def test_where_the_tool_asks_again_a_pause_goes_on_at_the_last_look(policy, patient):
    again = {"last": True, "asks_again": True}
    assert policy.decide([SILENT], **again).reasons == ("telemetry_missing",)
    planned = {**SILENT, "planned_steps": 1}
    assert policy.decide([planned], asks_again=True).reasons == ("telemetry_missing",)
    assert reasons(patient(), *rates(0.25), **again) == ("watching",)
    # The limits hold there as anywhere.
    assert answers(patient(), *rates(0.25, 0.25, 0.25), **again)[-1] == "ROLLBACK"
    assert reasons(policy, *[SILENT] * 5, **again)[-1] == "held_for_a_person"


def test_empty_observations_pause_but_strange_names_are_refused(policy):
    assert answers(policy, {}, {}) == ["PAUSE", "PAUSE"]
    assert policy.decide([{"requests": 500, "canary_share": 0.1}]).decision == "PAUSE"
    with pytest.raises(DeployError, match="no observation names a metric"):
        policy.decide([{"eror_rate": 0.5}])


def test_without_calibration_the_risk_is_what_q_rollback_implies(make_table):
    policy = make_table([0.05, 0.4, 0.05], [0.2], waiting=200)
    well = policy.decide([WELL])
    assert (well.decision, well.calibrated) == ("CONTINUE", False)
    assert well.risk == pytest.approx(0.05, abs=1e-3)
    # The rules of PAUSE are the defaults.
    assert answers(policy, *rates(*[0.3] * 30)) == ["PAUSE"] * 29 + ["ROLLBACK"]
    assert reasons(policy, {**WELL, "requests": 19}) == ("few_requests",)


def bounded(table: DeploymentPolicy, rollback_from: float, **rules) -> DeploymentPolicy:
    pauses = PauseRules(**{"watch_limit": 3, **rules})
    calibration = Calibration(0.0, 1.0, pauses, 0.05, rollback_from)
    return replace(table, calibration=calibration)


def test_a_bound_lets_through_only_the_riskiest_rollbacks(make_table):
    policy = bounded(make_table([0.05, 0.5, 0.95, 0.05], [0.1, 0.2]), 0.7)
    held = policy.decide(rates(0.15))
    assert (held.decision, held.reasons) == ("PAUSE", ("false_alarm_bound",))
    assert held.confidence == pytest.approx(0.5, abs=1e-3)
    assert policy.decide(rates(0.3)).decision == "ROLLBACK"


def test_what_the_bound_holds_back_a_person_decides(make_table):
    table = make_table([0.05, 0.5, 0.95, 0.05], [0.1, 0.2])
    for fallback in ("PAUSE", "CONTINUE"):
        policy = bounded(table, 0.7, pause_fallback=fallback)
        assert answers(policy, *rates(*[0.15] * 6)) == ["PAUSE"] * 6
        assert reasons(policy, *rates(*[0.15] * 3))[-1] == "held_for_a_person"
        assert reasons(policy, *rates(0.15), last=True)[-1] == "held_for_a_person"


def test_the_bound_holds_for_certain_risk_and_for_the_end_of_a_watch(make_table, patient):
    certain = make_table([0.05, 0.95, 0.05], [0.1], waiting=400)
    assert reasons(bounded(certain, 0.9), *rates(0.3)) == ("certain_risk",)
    assert reasons(bounded(certain, 0.99), *rates(0.3)) == ("false_alarm_bound",)
    watch = replace(patient(), calibration=None)
    assert answers(bounded(watch, 0.3), *rates(*[0.25] * 3))[-1] == "ROLLBACK"
    assert answers(bounded(watch, 0.5), *rates(*[0.25] * 6)) == ["PAUSE"] * 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"min_requests": -1}, "min_requests: -1 is not a number of 0 or more"),
        ({"range_margin": float("nan")}, "range_margin: nan is not a number"),
        ({"max_doubt": 1}, "max_doubt: 1 is not between 0 and 1"),
        ({"certain_risk": 0}, "certain_risk: 0 is not above 0 and at most 1"),
        ({"certain_risk": "high"}, "certain_risk: 'high' is not above 0 and at most 1"),
        ({"watch_limit": 0}, "watch_limit: 0 is not a whole number above 0"),
        ({"pause_limit": 2.5}, "pause_limit: 2.5 is not a whole number above 0"),
        ({"pause_fallback": "STOP"}, "'STOP' is not one of CONTINUE, ROLLBACK, PAUSE"),
    ],
)
def test_impossible_rules_are_refused(setting, message):
    with pytest.raises(DeployError, match=message):
        PauseRules(**setting)
