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

"""A team's own limits beside the policy."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.explain import explain
from oumi_deploy.policy.guardrails import Guardrails, read_guardrails
from oumi_deploy.policy.pauses import FALLBACKS, PauseRules

NAN = float("nan")


def guarded(policy, *limits: dict[str, Any], present=(), directions=None, **pauses):
    """The policy with these limits, its risk what its Q-values say."""
    guardrails = read_guardrails({"limits": list(limits), "present": list(present)})
    calibration = Calibration(0.0, 1.0, PauseRules(**pauses), guardrails=guardrails)
    return replace(policy, calibration=calibration)


@pytest.fixture
def trusting(make_table):
    """A policy that finds every release good, over errors and memory."""
    return make_table([0.05, 0.05, 0.05], [0.1], ("error_rate", "memory_usage"))


def answers(policy, *observations, **options):
    rollout, said = policy.begin(), []
    for observation in observations:
        rollout.observe(observation)
        if observation.get("phase") != "baseline":
            said.append(rollout.decide(**options).decision)
    return said


def errors(*values):
    return [{"error_rate": value, "memory_usage": 0.2} for value in values]


ERRORS = {"metric": "error_rate", "above": 0.05, "answer": "ROLLBACK"}


#
# When they fire
#
def test_of_the_policys_answer_and_theirs_the_severer_one_stands(trusting, make_table):
    rollback = guarded(trusting, ERRORS)
    assert answers(rollback, *errors(0.05)) == ["CONTINUE"]
    assert answers(rollback, *errors(0.051)) == ["ROLLBACK"]
    pause = guarded(trusting, {**ERRORS, "answer": "PAUSE"})
    assert answers(pause, *errors(0.01, 0.051, 0.01)) == ["CONTINUE", "PAUSE", "CONTINUE"]
    sure = make_table([0.95, 0.95, 0.95], [0.1], ("error_rate", "memory_usage"))
    assert answers(guarded(sure, {**ERRORS, "answer": "PAUSE"}), *errors(0.06)) == ["ROLLBACK"]
    both = guarded(trusting, {**ERRORS, "above": 0.02, "answer": "PAUSE"}, ERRORS)
    assert answers(both, *errors(0.01, 0.03, 0.06)) == ["CONTINUE", "PAUSE", "ROLLBACK"]


def test_the_answer_names_what_fired(trusting):
    policy = guarded(trusting, {**ERRORS, "for": 2}, {**ERRORS, "answer": "PAUSE"})
    first = policy.decide(errors(0.2))
    assert (first.decision, first.guardrails) == ("PAUSE", ("error_rate above 0.05",))
    assert first.reasons == ("guardrail",)
    second = policy.decide(errors(0.2, 0.1))
    assert second.decision == "ROLLBACK"
    names = ("error_rate above 0.05 for 2 observations", "error_rate above 0.05")
    assert second.guardrails == names
    assert json.loads(json.dumps(second.as_dict()))["guardrails"] == list(names)
    well = policy.decide(errors(0.2, 0.1, 0.01))
    assert (well.reasons, well.guardrails) == ((), ())
    assert names[0] in explain(policy, errors(0.2, 0.1)).sentence


def test_a_value_within_the_limit_starts_the_count_anew(trusting):
    policy = guarded(trusting, {**ERRORS, "for": 3})
    assert "ROLLBACK" not in answers(policy, *errors(0.1, 0.1, 0.05, 0.1, 0.1))
    assert answers(policy, *errors(0.1, 0.1, 0.1))[-1] == "ROLLBACK"


def test_a_missing_value_neither_counts_nor_settles_what_had_fired(trusting):
    policy = guarded(trusting, {**ERRORS, "for": 2})
    assert answers(policy, *errors(0.1, None, None)) == ["CONTINUE"] * 3
    assert answers(policy, *errors(0.1, None, 0.1)) == ["CONTINUE", "CONTINUE", "ROLLBACK"]
    # It had fired, and nobody has seen since that it got better.
    held = policy.decide(errors(0.1, 0.1, None))
    assert held.decision == "PAUSE"
    assert held.guardrails == ("error_rate above 0.05 for 2 observations, not reported since",)
    assert answers(policy, *errors(0.1, 0.1, None, 0.01))[-1] == "CONTINUE"


def beside(value, control=None, **more):
    return {"error_rate": value, "control_error_rate": control, "memory_usage": 0.2, **more}


@pytest.mark.parametrize(
    ("limit", "fires", "does_not"),
    [
        ({"above": 0.02}, beside(0.13, 0.1), beside(0.11, 0.1)),
        ({"above": 1.5, "by": "ratio"}, beside(0.4, 0.2), beside(0.25, 0.2)),
        # A ratio to nothing is none.
        ({"above": 1.5, "by": "ratio"}, beside(0.4, 0.2), beside(0.4, 0.0)),
        ({"above": 0.02}, beside(0.13, 0.1), beside(0.3, None)),
    ],
)
def test_a_limit_can_be_held_against_the_old_version(trusting, limit, fires, does_not):
    rail = {"metric": "error_rate", "compared_with": "control", "answer": "ROLLBACK", **limit}
    policy = guarded(trusting, rail)
    assert answers(policy, fires) == ["ROLLBACK"]
    assert policy.decide([does_not]).guardrails == ()


def test_a_limit_can_be_held_against_the_episodes_own_baseline(trusting):
    before = [{**beside(x), "phase": "baseline"} for x in (0.1, 0.3, None)]
    rail = {"metric": "error_rate", "compared_with": "baseline", "answer": "ROLLBACK"}
    difference = guarded(trusting, {**rail, "above": 0.15})
    assert answers(difference, *before, *errors(0.3, 0.4)) == ["CONTINUE", "ROLLBACK"]
    ratio = guarded(trusting, {**rail, "above": 1.5, "by": "ratio"})
    assert answers(ratio, *before, *errors(0.29, 0.31)) == ["CONTINUE", "ROLLBACK"]
    # Without a baseline there is nothing to hold it against.
    assert difference.decide(errors(0.4)).guardrails == ()


def test_a_limit_may_be_on_what_the_policy_does_not_know(trusting):
    policy = guarded(trusting, {"metric": "queue", "above": 100, "answer": "PAUSE"})
    assert answers(policy, *errors(0.01)) == ["CONTINUE"]
    row = {**errors(0.01)[0], "queue": 101}
    assert answers(policy, row, {**row, "queue": 100}) == ["PAUSE", "CONTINUE"]
    with pytest.raises(DeployError, match="observation 1: queue: 'long' is not a number"):
        policy.decide([{**row, "queue": "long"}])
    # Its name is none that is misspelt: nothing of the state was reported.
    assert policy.decide([{"queue": 5}]).reasons == ("telemetry_missing",)


def test_what_must_be_present_holds_a_rollout_where_it_is_not(trusting):
    policy = guarded(trusting, present=[{"metric": "latency", "for": 2}])
    row = errors(0.01)[0]
    there = {**row, "latency": 0.2}
    assert answers(policy, row, row, there, row) == ["CONTINUE", "PAUSE", "CONTINUE", "CONTINUE"]
    assert policy.decide([row, row]).guardrails == ("latency missing for 2 observations",)


def test_what_the_old_version_reports_must_be_present_beside_it_alone(trusting):
    beside = {"metric": "latency", "compared_with": "control", "for": 2}
    policy = guarded(trusting, present=[beside])
    row = errors(0.01)[0]
    lost, both_lost = {**row, "control_latency": 0.2}, {**row, "latency": None}
    there = {**lost, "latency": 0.2}
    assert answers(policy, *[both_lost] * 4) == ["CONTINUE"] * 4
    # What neither version reports neither counts nor breaks the count.
    asked = [lost, both_lost, lost, lost, there, lost]
    assert answers(policy, *asked) == [*["CONTINUE"] * 2, "PAUSE", "PAUSE", *["CONTINUE"] * 2]
    said = policy.decide([lost, lost])
    assert said.guardrails == ("latency missing beside control for 2 observations",)
    assert read_guardrails(policy.guardrails.as_dict()) == policy.guardrails


def test_a_limit_on_errors_waits_for_enough_requests(trusting):
    policy = guarded(
        trusting, ERRORS, {"metric": "memory_usage", "above": 0.9, "answer": "ROLLBACK"}
    )
    few = {**errors(0.5)[0], "requests": 12}
    first, second = policy.decide([few]), policy.decide([few, few])
    assert (first.decision, first.reasons) == ("PAUSE", ("few_requests", "guardrail"))
    assert second.decision == "ROLLBACK"
    # Memory is not taken over requests.
    assert policy.decide([{**few, "memory_usage": 0.95}]).decision == "ROLLBACK"


@pytest.mark.parametrize("fallback", FALLBACKS)
def test_no_fallback_promotes_against_a_guardrail(trusting, fallback):
    policy = guarded(trusting, {**ERRORS, "answer": "PAUSE"}, pause_fallback=fallback)
    assert "CONTINUE" not in answers(policy, *errors(*[0.06] * 8))
    assert policy.decide(errors(0.06), last=True).decision != "CONTINUE"


def test_no_doubt_or_bound_holds_back_a_guardrails_rollback(trusting):
    policy = guarded(trusting, ERRORS, max_doubt=0.2)
    assert policy.calibration is not None
    bound = replace(policy.calibration, alpha=0.05, rollback_from=1.5)
    assert answers(replace(policy, calibration=bound), *errors(0.06)) == ["ROLLBACK"]


#
# What an explanation says of them
#
def test_an_explanation_names_the_value_that_would_settle_it(trusting):
    row = {**errors(0.01)[0], "queue": 130.0, "control_queue": 80.0}
    cases = [
        ({"above": 100}, "would CONTINUE if queue were at most 100"),
        ({"above": 20, "compared_with": "control"}, "would CONTINUE if queue were at most 100"),
        (
            {"above": 1.25, "compared_with": "control", "by": "ratio"},
            "would CONTINUE if queue were at most 100",
        ),
        ({"below": 140}, "would CONTINUE if queue were at least 140"),
    ]
    for limit, said in cases:
        policy = guarded(trusting, {"metric": "queue", "answer": "PAUSE", **limit})
        found = explain(policy, [row])
        assert found.decision == "PAUSE"
        assert said in found.sentence
    policy = guarded(trusting, present=[{"metric": "latency"}])
    assert "would CONTINUE if latency were reported" in explain(policy, [row]).sentence
    # One of two is not enough.
    rails = [{"metric": name, "above": 100, "answer": "PAUSE"} for name in ("queue", "threads")]
    found = explain(guarded(trusting, *rails), [{**row, "threads": 101}])
    assert "would CONTINUE" not in found.sentence
    assert "queue above 100 and threads above 100" in found.sentence


def test_an_explanation_changes_what_policy_and_guardrail_read_together(trusting):
    found = explain(guarded(trusting, ERRORS), errors(0.2))
    assert found.change is not None
    assert (found.change.decision, found.change.threshold) == ("CONTINUE", pytest.approx(0.05))


#
# All at once, one by one, and in order
#
METRICS = ("error_rate", "memory_usage", "health_score", "queue")


def without_answer(rail: dict[str, Any]) -> str:
    return str({**rail, "answer": None})


@st.composite
def rails(draw, side_of_queue: str) -> dict[str, Any]:
    metric, compared = draw(st.sampled_from(METRICS)), {}
    side = {"queue": side_of_queue, "health_score": "below"}.get(metric, "above")
    if draw(st.booleans()):
        compared["compared_with"] = draw(st.sampled_from(["control", "baseline"]))
        compared["by"] = draw(st.sampled_from(["difference", "ratio"]))
    value = draw(st.sampled_from([0.1, 0.3, 0.5, 0.9]))
    answer = draw(st.sampled_from(["PAUSE", "ROLLBACK"]))
    return {"metric": metric, side: value, **compared, "for": draw(runs), "answer": answer}


runs = st.integers(1, 3)
presences = st.fixed_dictionaries(
    {"metric": st.sampled_from(METRICS), "for": runs},
    optional={"compared_with": st.just("control")},
)


def read_together(presence: dict[str, Any]) -> tuple[Any, ...]:
    return presence["metric"], presence["for"], "compared_with" in presence


@st.composite
def sets_of_rails(draw) -> Guardrails:
    side = draw(st.sampled_from(["above", "below"]))
    limits = draw(st.lists(rails(side), max_size=4, unique_by=without_answer))
    present = draw(st.lists(presences, max_size=2, unique_by=read_together))
    found = {"limits": limits, "present": present}
    return read_guardrails(found) if limits or present else Guardrails()


shares = st.none() | st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.7, 1.0]) | st.floats(0, 1)
rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(METRICS, shares),
        **{f"control_{metric}": shares for metric in METRICS},
        "requests": st.none() | st.integers(0, 40),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(rows, max_size=3), st.lists(rows, min_size=1, max_size=6), sets_of_rails(), st.data()
)
def test_an_explanation_starts_from_what_was_decided(make_table, baseline, canary, rails, data):
    state = ("error_rate", "memory_usage.control", "health_score")
    policy = make_table([0.05, 0.6, 0.3], [0.3], state)
    calibration = Calibration(0.0, 1.0, PauseRules(), guardrails=rails)
    rollout = replace(policy, calibration=calibration).begin()
    rollout.observe_all([{**row, "phase": "baseline"} for row in baseline])
    for row in canary:
        rollout.observe(row)
        newest = rollout.newest
        assert newest is not None
        again = newest.past.take_in(rollout.policy, newest.reading)
        for one, other in zip(again.preferred, newest.weighed.preferred, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)
        assert again.pauses_running[0] == newest.weighed.pauses_running[0]


SEVERITY = {"CONTINUE": 0, "PAUSE": 1, "ROLLBACK": 2}
WORSE = {"error_rate": 1, "memory_usage": 1, "health_score": -1}


@settings(max_examples=120, deadline=None)
@given(
    st.lists(rows, max_size=2),
    st.lists(rows, min_size=1, max_size=5),
    sets_of_rails(),
    st.sampled_from(sorted(WORSE)),
    st.floats(0, 1),
    st.sampled_from(FALLBACKS),
    st.booleans(),
)
def test_a_worse_newest_value_never_makes_the_answer_milder(
    make_table, baseline, canary, rails, metric, worse, fallback, last
):
    if canary[-1][metric] is None:
        return
    policy = make_table([0.05, 0.6, 0.3], [0.3], ("error_rate", "memory_usage", "health_score"))
    rules = PauseRules(pause_fallback=fallback)
    policy = replace(policy, calibration=Calibration(0.0, 1.0, rules, guardrails=rails))
    before = [{**row, "phase": "baseline"} for row in baseline]
    value = canary[-1][metric]
    value = max(value, worse) if WORSE[metric] > 0 else min(value, worse)
    bad = [*canary[:-1], {**canary[-1], metric: value}]
    as_is, made_worse = (policy.decide([*before, *rows], last=last) for rows in (canary, bad))
    assert SEVERITY[made_worse.decision] >= SEVERITY[as_is.decision]


#
# Files
#
@given(sets_of_rails())
def test_what_a_policy_file_keeps_is_what_was_read(make_table, rails):
    policy = make_table([0.05, 0.6, 0.3], [0.3])
    policy = replace(policy, calibration=Calibration(0.0, 1.0, guardrails=rails))
    again = DeploymentPolicy.from_dict(json.loads(json.dumps(policy.as_dict())))
    assert again.guardrails == rails
    assert again.guardrails.names == rails.names


def limit(**changes):
    plain = {"metric": "error_rate", "above": 0.05, "answer": "PAUSE", **changes}
    return {"limits": [{name: value for name, value in plain.items() if value is not None}]}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (None, "guardrails: expected limits and present, got None"),
        ({}, "guardrails: expected limits and present"),
        ({"limit": []}, "guardrails: unknown limit: did you mean limits"),
        ({"limits": []}, "guardrails: there are none"),
        ({"limits": None}, "guardrails: limits: expected a list, got None"),
        ({"limits": {"metric": "x"}}, "guardrails: limits: expected a list"),
        ({"limits": ["x"]}, "limits, entry 1: expected names and values, got 'x'"),
        (limit(metric=""), "limits, entry 1: metric: '' is not the name of a metric"),
        (limit(metric="label"), "metric: label is no metric"),
        (limit(metric="control_step"), "metric: control_step is no metric"),
        (limit(metric="error_rate.max"), "error_rate.max is a feature .*name the metric itself"),
        (limit(treshold=1), "entry 1: unknown treshold"),
        (limit(above=None), "name one of above and below, with the limit"),
        (limit(below=0.1), "name one of above and below, with the limit"),
        (limit(answer=None), "answer: not set"),
        (limit(answer="CONTINUE"), "answer: 'CONTINUE' is not one of PAUSE, ROLLBACK"),
        (limit(above="1e-3"), "above: '1e-3' is not a finite number; in YAML write 0.001"),
        (limit(above=True), "above: True is not a finite number"),
        (limit(above=NAN), "above: nan is not a finite number"),
        (limit(above=10**400), "above: 1.* is not a finite number"),
        (limit(above=5), r"error_rate above 5: never fires, .* lie in 0\.\.1; set another"),
        (limit(above=1.0), "error_rate above 1: never fires"),
        (limit(above=-0.1), "error_rate above -0.1: fires on every value"),
        (limit(metric="health_score", above=None, below=0), "health_score below 0: never fires"),
        (limit(above=1.5, compared_with="control"), r"never fires, .*differences lie in -1\.\.1"),
        (limit(above=-1, compared_with="control", by="ratio"), "fires on every value"),
        (limit(compared_with="controls"), "compared_with: 'controls' is not control or baseline"),
        (limit(by="ratio"), "by: a ratio takes compared_with"),
        (limit(compared_with="control", by="percent"), "by: 'percent' is not difference or ratio"),
        (
            limit(metric="control_error_rate", compared_with="control"),
            "control_error_rate is the old version's own",
        ),
        (limit(**{"for": 0}), "for: 0 is not a whole number above 0"),
        (limit(**{"for": 2.0}), "for: 2.0 is not a whole number above 0"),
        (limit(**{"for": True}), "for: True is not a whole number above 0"),
        ({"present": [{"for": 2}]}, "present, entry 1: metric: not set"),
        ({"present": [{"metric": "latency", "above": 2}]}, "entry 1: unknown above"),
        ({"present": "latency"}, "guardrails: present: expected a list"),
        (
            {"present": [{"metric": "latency", "compared_with": "baseline"}]},
            "present, entry 1: compared_with: what must be present is compared with control alone",
        ),
        ({"present": [{"metric": "a"}] * 2}, "guardrails: a missing: stands twice"),
        ({"limits": [*limit()["limits"], *limit(answer="ROLLBACK")["limits"]]}, "stands twice"),
        (
            {
                "limits": [
                    {"metric": "queue", "above": 5, "answer": "PAUSE"},
                    {"metric": "queue", "below": 9, "for": 3, "answer": "ROLLBACK"},
                ]
            },
            "queue above 5 and queue below 9 for 3 observations contradict each other",
        ),
    ],
)
def test_what_no_guardrail_can_be_is_refused(plain, message):
    with pytest.raises(DeployError, match=message):
        read_guardrails(plain)


def test_limits_that_leave_a_range_or_a_value_are_none_that_contradict():
    for low, high in ((5, 9), (7, 7)):
        between = [
            {"metric": "n_pods", "above": high, "answer": "PAUSE"},
            {"metric": "n_pods", "below": low, "answer": "PAUSE"},
        ]
        assert len(read_guardrails({"limits": between}).rails) == 2


def test_a_limit_on_the_better_side_is_refused(make_table):
    plain = limit(above=None, below=0.2)
    wrong = read_guardrails(plain)
    with pytest.raises(
        DeployError, match=r"error_rate below 0\.2: higher values .* is to be above"
    ):
        wrong.check_directions({})
    # A team's own direction stands before the one that the name suggests.
    wrong.check_directions({"error_rate": "lower"})
    policy = make_table([0.05, 0.6, 0.3], [0.3])
    file = replace(policy, calibration=Calibration(0.0, 1.0)).as_dict()
    file["calibration"]["guardrails"] = plain
    with pytest.raises(DeployError, match=r"error_rate below 0\.2: higher values"):
        DeploymentPolicy.from_dict(file)


def test_a_broken_policy_file_says_where(make_table, tmp_path):
    policy = make_table([0.05, 0.6, 0.3], [0.3])
    plain = replace(policy, calibration=Calibration(0.0, 1.0)).as_dict()
    plain["calibration"]["guardrails"] = limit(above=5)
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(DeployError, match=r"policy.json: guardrails: limits, entry 1: .* never"):
        DeploymentPolicy.load(path)
    plain["calibration"]["guardrails"] = limit()
    plain["format_version"] = 1
    with pytest.raises(DeployError, match="guardrails: a policy file of version 1 has none"):
        DeploymentPolicy.from_dict(plain)


def test_without_guardrails_nothing_is_written_or_answered(make_table):
    policy = replace(make_table([0.05, 0.6, 0.3], [0.3]), calibration=Calibration(0.0, 1.0))
    assert policy.calibration is not None
    assert "guardrails" not in policy.calibration.as_dict()
    assert policy.decide([{"error_rate": 0.1}]).guardrails == ()
