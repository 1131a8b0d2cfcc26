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

"""The risk-coverage curve: ordered by doubt, worked by hand, and blind to the order of the file."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.evaluation.scoring import score
from oumi_deploy.evaluation.selective import SHARES, risk_coverage
from oumi_deploy.policy.answers import Answers
from oumi_deploy.problem.rewards import Rewards


def curve_of(make_episodes, releases, seed=0):
    """The curve of releases of one observation, each (risk, is bad, is held, group)."""
    risk, bad, held, groups = (np.array(x) for x in zip(*releases, strict=True))
    episodes = make_episodes(
        *(
            {"step": [0], "label": "bad" if is_bad else "good", "group": str(group)}
            for is_bad, group in zip(bad, groups, strict=True)
        )
    )
    decision = np.where(held, 2, (risk > 0.25).astype(int))
    none = np.zeros(len(risk), dtype=np.int64)
    answers = Answers(decision, risk, none, none > 0, held.astype(bool))
    scores = score(episodes, answers.actions, Rewards(), answers=answers)
    return risk_coverage(scores, episodes, risk, Rewards(), seed)


def errors_of(curve):
    return {round(point["share"], 2): point["error"] for point in curve["curve"]}


def test_worked_by_hand(make_episodes):
    # Doubt: 0.02, 0.1, 0.2 and, of a ROLLBACK at 0.6, 0.4; the last two are decided wrongly.
    curve = curve_of(
        make_episodes,
        [
            (0.6, False, False, 0),
            (0.02, False, False, 1),
            (0.9, True, False, 2),
            (0.2, True, True, 3),
        ],
    )
    errors = errors_of(curve)
    assert errors[0.25] == errors[0.5] == 0
    assert errors[0.75] == pytest.approx(1 / 3)
    assert errors[1.0] == pytest.approx(2 / 4)
    # The one that was held would have gone on, wrongly; of the three decided one is wrong.
    assert curve["own"] == {"share": 0.75, "error": pytest.approx(1 / 3)}


def test_of_equal_doubt_none_comes_first(make_episodes):
    good, bad = (0.1, False, False), (0.1, True, False)
    for releases in ([good, bad, good, good], [good, good, good, bad]):
        curve = curve_of(make_episodes, [(*r, i) for i, r in enumerate(releases)])
        assert list(errors_of(curve).values()) == pytest.approx([0.25] * len(SHARES))


RELEASES = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), st.booleans(), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=30)
@given(RELEASES, st.randoms(use_true_random=False))
def test_the_curve_ends_at_the_error_of_all_and_does_not_know_the_order(
    make_episodes, releases, random
):
    curve = curve_of(make_episodes, releases)
    wrong = [(risk > 0.25) != bad for risk, bad, _, _ in releases]
    assert errors_of(curve)[1.0] == pytest.approx(np.mean(wrong))
    shuffled = list(releases)
    random.shuffle(shuffled)
    other = errors_of(curve_of(make_episodes, shuffled))
    assert list(other.values()) == pytest.approx(list(errors_of(curve).values()))
    decided = [not held for _, _, held, _ in releases]
    assert curve["own"]["share"] == pytest.approx(np.mean(decided))
    assert (curve["own"]["error"] is None) == (not any(decided))
    for point in curve["curve"]:
        assert 0 <= point["error"] <= 1
        assert (point["low"] is None) == (len({group for *_, group in releases}) == 1)


def test_where_doubt_knows_where_it_errs_the_curve_rises(make_episodes):
    random = np.random.default_rng(4)
    risk = random.random(600)
    honest = [(r, random.random() < r, False, i) for i, r in enumerate(risk)]
    errors = list(errors_of(curve_of(make_episodes, honest)).values())
    assert errors[4] < 0.2 < errors[-1]
    assert all(later > earlier - 0.03 for earlier, later in pairwise(errors[3:]))
