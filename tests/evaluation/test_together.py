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

"""Groups replayed by the clock, their rollouts side by side."""

import numpy as np
import pandas as pd
import pytest

from oumi_deploy.episodes.packed import episodes_of_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.evaluation.together import describe_naming, kept_share, look_together
from oumi_deploy.policy.answers import ANSWERS, Answers
from oumi_deploy.problem.rewards import Rewards

N = 6
C, P, R = (ANSWERS.index(word) for word in ("CONTINUE", "PAUSE", "ROLLBACK"))


def release(service, label, errors, control, group="one", begins=0):
    """One release of N canary minutes, after a healthy minute before it."""
    return pd.DataFrame(
        {
            "episode_id": f"{group}-{service}",
            "group": group,
            "service": service,
            "label": label,
            "step": np.arange(N + 1),
            "timestamp": 60 * (begins + np.arange(N + 1)),
            "phase": ["baseline"] + ["canary"] * N,
            "error_rate": [0.0, *errors],
            "control_error_rate": [np.nan, *control],
        }
    )


CULPRIT = release("catalogue", "bad", [0.5] * N, [0.0] * N)
DRAGGED = release("checkout", "good", [0.0, *[0.6] * (N - 1)], [0.0, *[0.6] * (N - 1)])


def episodes_of(*releases):
    return episodes_of_frame(pd.concat(releases, ignore_index=True))


def answers_of(*rollouts):
    """Answers as they would be; at risk 0.9 where ROLLBACK is wanted, and 0.1 elsewhere."""
    decision = np.array([word for said in rollouts for word in said])
    risk = np.where(decision == R, 0.9, 0.1)
    never = decision < 0
    return Answers(decision, risk, 0 * decision, fell_back=never, held=never)


def told(together, episodes, i):
    starts = episodes.canary_offsets
    return together.answers.decision[starts[i] : starts[i + 1]].tolist()


def test_the_neighbour_waits_and_the_culprit_goes():
    episodes = episodes_of(CULPRIT, DRAGGED)
    answers = answers_of([C, R, R, R, R, R], [C, R, R, R, C, C])
    together = look_together(episodes, answers)
    assert told(together, episodes, 0) == [C, R, R, R, R, R]
    assert told(together, episodes, 1) == [C, P, P, P, C, C]
    assert together.named == together.named_at_end == [[0, 1]]
    alone, both = (
        score(episodes, a.actions, Rewards(), answers=a) for a in (answers, together.answers)
    )
    assert kept_share(alone, both, episodes)["value"] == 0.0
    assert describe_naming(together.named, episodes)["named_first"]["value"] == 1.0


def test_it_waits_as_long_as_it_may_and_not_at_the_last_observation():
    episodes = episodes_of(CULPRIT, DRAGGED)
    answers = answers_of([R] * N, [C, *[R] * (N - 1)])
    assert told(look_together(episodes, answers, hold_limit=2), episodes, 1) == [C, P, P, R, R, R]
    assert told(look_together(episodes, answers), episodes, 1) == [C, P, P, P, P, R]


def test_releases_of_another_group_are_not_looked_at():
    apart = episodes_of(CULPRIT, DRAGGED.assign(group="two", episode_id="two-checkout"))
    answers = answers_of([R] * N, [C, *[R] * (N - 1)])
    together = look_together(apart, answers)
    assert not together.held.any()
    assert together.named == [[0], [1]]


def test_a_release_that_comes_later_is_not_waited_for():
    late = release("catalogue", "bad", [0.5] * N, [0.0] * N, begins=3)
    episodes = episodes_of(late, DRAGGED)
    answers = answers_of([R] * N, [C, *[R] * (N - 1)])
    assert not look_together(episodes, answers).held.any()


def test_where_nothing_is_to_go_back_the_answers_stay_and_the_end_names():
    episodes = episodes_of(CULPRIT, DRAGGED)
    answers = answers_of([P, C, C, C, C, C], [C] * N)
    together = look_together(episodes, answers)
    assert together.answers.decision.tolist() == answers.decision.tolist()
    assert together.named == together.named_at_end


def test_groups_without_a_bad_release_do_not_count_as_named():
    good = release("cart", "good", [0.0] * N, [0.0] * N, group="two")
    episodes = episodes_of(CULPRIT, DRAGGED, good)
    figures = describe_naming([[1, 0], [2]], episodes)
    assert (figures["named_first"]["value"], figures["named_in_three"]["value"]) == (0.0, 1.0)


def test_without_times_there_is_no_order_of_events():
    episodes = episodes_of(CULPRIT.drop(columns="timestamp"), DRAGGED.drop(columns="timestamp"))
    with pytest.raises(DeployError, match="timestamp"):
        look_together(episodes, answers_of([C] * N, [C] * N))
