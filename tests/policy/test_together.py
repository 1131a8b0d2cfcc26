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

"""Which release of a window is the likeliest cause, and which of the others wait."""

from dataclasses import replace
from math import isnan, nan

from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.policy.candidates import Candidate, onset_of, rise
from oumi_deploy.policy.together import HOLD_LIMIT, judge_window

# A catalogue broken by its release, and a checkout that calls it: old version and new one alike.
CULPRIT = Candidate("catalogue", "catalogue", 0.0, 60.0, 0.95, 0.45, 0.0, "ROLLBACK")
DRAGGED = Candidate("checkout", "checkout", 0.0, 120.0, 0.9, 0.6, 0.55, "ROLLBACK")
WELL = Candidate("cart", "cart", 0.0, None, 0.02, 0.0, 0.0, "CONTINUE")


def first(window, **more):
    return judge_window(window, **more).ranking[0].name


def test_a_release_whose_old_version_fails_as_well_waits_for_the_one_that_fails_alone():
    verdict = judge_window([DRAGGED, WELL, CULPRIT])
    assert [suspect.name for suspect in verdict.ranking] == ["catalogue", "checkout", "cart"]
    assert verdict.held == {"checkout": "catalogue"}
    said = {suspect.name: suspect.sentence for suspect in verdict.ranking}
    assert "old version does well" in said["catalogue"]
    assert "old version fails as well" in said["checkout"]


def test_the_one_whose_old_version_fails_as_well_is_not_first_even_at_the_higher_risk():
    assert first([replace(DRAGGED, risk=0.95), replace(CULPRIT, risk=0.7)]) == "catalogue"


def test_one_that_fails_alone_is_likelier_than_any_whose_old_version_fails_too():
    # Of two requests one failed at the old version: half, and yet no fault of the new one's.
    loud = replace(DRAGGED, risk=0.99, errors=1.0, control_errors=0.3)
    silent = replace(CULPRIT, risk=0.55, errors=nan)
    verdict = judge_window([loud, silent])
    assert verdict.ranking[0].name == "catalogue"
    assert verdict.held == {"checkout": "catalogue"}
    assert "old version fails too, but less" in verdict.ranking[1].sentence
    # Not where that one began after the trouble, or looks well.
    for innocent in (replace(silent, started=180.0), replace(silent, onset=None)):
        assert first([loud, innocent]) == "checkout"


def test_releases_of_one_service_do_not_wait_for_each_other():
    first_try = replace(CULPRIT, service="checkout", gone_back=True)
    assert judge_window([first_try, DRAGGED]).held == {}
    assert judge_window([first_try, DRAGGED, CULPRIT]).held == {"checkout": "catalogue"}


def test_two_that_fail_beside_old_versions_that_do_well_both_go_back():
    other = replace(CULPRIT, name="ads", service="ads", risk=0.8)
    assert judge_window([CULPRIT, other]).held == {}
    silent = replace(other, errors=nan)
    assert judge_window([CULPRIT, silent]).held == {}
    # Nobody calls it any more, neither version: that is no fault of its own.
    assert judge_window([CULPRIT, replace(silent, control_errors=nan)]).held == {"ads": "catalogue"}


def test_a_release_that_began_after_the_trouble_is_not_its_cause():
    late = replace(CULPRIT, started=180.0, onset=240.0)
    assert judge_window([DRAGGED, late]).held == {}
    assert judge_window([DRAGGED, replace(late, started=120.0)]).held == {"checkout": "catalogue"}


def test_who_calls_a_release_that_failed_before_is_less_likely_the_cause():
    caller = Candidate("checkout", "checkout", 0.0, 120.0, 0.9, nan, nan, "ROLLBACK")
    callee = replace(caller, name="catalogue", service="catalogue", risk=0.8, onset=60.0)
    assert first([caller, callee]) == "checkout"
    calls = {"checkout": ["catalogue"]}
    assert first([caller, callee], calls=calls) == "catalogue"
    verdict = judge_window([caller, callee], calls)
    assert verdict.held == {"checkout": "catalogue"}
    assert "it calls catalogue" in verdict.ranking[1].sentence
    assert first([caller, replace(callee, onset=180.0)], calls=calls) == "checkout"


def test_what_fails_without_errors_waits_for_nobody():
    leak = replace(DRAGGED, errors=0.0, control_errors=0.0)
    assert judge_window([CULPRIT, leak]).held == {}
    assert judge_window([CULPRIT, replace(leak, control_errors=nan)]).held == {}
    assert judge_window([CULPRIT, replace(leak, control_errors=0.5)]).held


def test_waiting_ends():
    assert judge_window([CULPRIT, replace(DRAGGED, holds=9)]).held
    assert not judge_window([CULPRIT, replace(DRAGGED, holds=10)]).held
    assert not judge_window([CULPRIT, DRAGGED], hold_limit=0).held
    assert not judge_window([CULPRIT, replace(DRAGGED, is_last=True)]).held
    assert not judge_window([CULPRIT, replace(DRAGGED, gone_back=True)]).held


def test_one_that_has_gone_back_is_still_waited_for():
    assert judge_window([DRAGGED, replace(CULPRIT, gone_back=True)]).held


def test_who_reads_a_suspect_learns_how_long_it_waits_and_who_has_gone_back():
    def said(holds):
        window = [replace(CULPRIT, gone_back=True), replace(DRAGGED, holds=holds)]
        return [suspect.sentence for suspect in judge_window(window).ranking]

    assert said(2)[0].endswith("; it was told to go back")
    assert said(2)[1].endswith("; it waits, observation 3 of at most 10")
    assert said(10)[1].endswith("; it has waited for 10 observations, and may no longer")


def test_one_alone_failed_first():
    def said(*onsets):
        window = [
            replace(CULPRIT, name=n, service=f"s{n}", onset=onset) for n, onset in enumerate(onsets)
        ]
        ranking = judge_window(window, {"s1": ["s0"]}).ranking
        return [s.sentence for s in sorted(ranking, key=lambda suspect: str(suspect.name))]

    first, caller, later = said(300.0, 302.0, 420.0)
    assert first.endswith("; it failed first")
    assert caller.endswith(
        "it calls s0, which failed before; it failed within a minute of the first"
    )
    assert later.endswith("; it failed 2 min after the first")
    together = said(300.0, 300.0)
    assert all(sentence.endswith("; it was among the first to fail") for sentence in together)
    assert "which failed at the same time" in together[1]


def test_two_that_look_worse_than_each_other_in_turns_wait_no_longer_than_any():
    # Asked about one after the other, as both recover: each time the other looks worse.
    window = {name: replace(DRAGGED, name=name, service=name) for name in ("cart", "checkout")}
    told = []
    for i in range(2 * HOLD_LIMIT + 3):
        name = ("cart", "checkout")[i % 2]
        holds = told.count((name, "waits"))
        window[name] = replace(window[name], risk=0.95 - 0.01 * i, holds=holds)
        held = judge_window(list(window.values())).held
        told.append((name, "waits" if name in held else "goes"))
    assert told[2 : 2 * HOLD_LIMIT].count(("cart", "waits")) == HOLD_LIMIT - 1
    assert told[-1] == ("cart", "goes")


def test_of_two_that_may_each_have_dragged_the_other_down_one_goes_at_its_next_look():
    one, other = replace(DRAGGED, risk=0.9), replace(DRAGGED, name="b", service="cart", risk=0.8)
    assert judge_window([one, other]).held == {"b": "checkout"}
    turned = replace(one, risk=0.7, holds=1)
    assert "b" not in judge_window([turned, replace(other, holds=1)]).held


def test_an_error_rate_rises_above_its_baseline_and_never_falls_below_it():
    assert rise([0.3], 0.1) == 0.3 - 0.1
    assert rise([0.0], 0.1) == 0.0
    assert rise([0.3, nan], nan) == 0.3
    assert isnan(rise([0.3, nan, nan, nan], 0.0))
    assert isnan(rise([], 0.0))


def test_the_onset_is_that_of_the_trouble_that_lasts():
    assert onset_of(None, 60.0, 0.2, "PAUSE") is None
    assert onset_of(None, 60.0, 0.2, "ROLLBACK") == 60.0
    assert onset_of(60.0, 120.0, 0.7, "PAUSE") == 60.0
    assert onset_of(60.0, 120.0, 0.1, "CONTINUE") is None


share = st.floats(0.0, 1.0)
reported = st.one_of(st.just(nan), share)


@st.composite
def windows(draw, decisions=("CONTINUE", "PAUSE", "ROLLBACK")):
    def one(i):
        at, risk, word = draw(st.integers(0, 20)), draw(share), draw(st.sampled_from(decisions))
        return Candidate(
            name=i,
            service=draw(st.sampled_from("abc")),
            started=float(draw(st.integers(0, 20))),
            onset=onset_of(None, float(at), risk, word),
            risk=risk,
            errors=draw(reported),
            control_errors=draw(reported),
            decision=word,
            is_last=draw(st.booleans()),
            gone_back=draw(st.booleans()),
            holds=draw(st.integers(0, 12)),
        )

    return [one(i) for i in range(draw(st.integers(1, 6)))]


CALLS = {"a": ["b", "c"], "b": ["c", "a"]}


@given(windows())
def test_never_do_all_wait_and_each_waits_for_a_likelier_one(window):
    verdict = judge_window(window, CALLS)
    order = [suspect.name for suspect in verdict.ranking]
    assert len(order) == len(window)
    assert set(order) == {c.name for c in window}
    wants = {c.name for c in window if c.decision == "ROLLBACK"}
    assert verdict.held.keys() <= wants
    assert order[0] not in verdict.held
    for name, cause in verdict.held.items():
        assert order.index(cause) < order.index(name)


@given(windows(decisions=("CONTINUE", "PAUSE")))
def test_where_nothing_is_to_go_back_nothing_waits(window):
    assert judge_window(window, CALLS).held == {}


@given(windows())
def test_alone_in_its_window_a_release_is_judged_by_itself(window):
    assert judge_window(window[:1], CALLS).held == {}
