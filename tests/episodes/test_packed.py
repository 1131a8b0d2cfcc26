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
"""Packed episodes: gathering, choosing, joining, fingerprints."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import Episodes, concatenate, episodes_of_frame
from oumi_deploy.episodes.schema import BAD, GOOD, UNKNOWN
from oumi_deploy.errors import DeployError


@pytest.fixture
def three(make_episodes) -> Episodes:
    """Rows: e0 baseline, canary, canary; e1 canary; e2 baseline, baseline, canary."""
    return make_episodes(
        {
            "phase": ["baseline", "canary", "canary"],
            "load": [1.0, 2.0, 3.0],
            "label": "bad",
            "group": "g",
            "service": ["first", "second", "third"],
            "action": ["CONTINUE", "CONTINUE", "ROLLBACK"],
        },
        {"phase": None, "load": [4.0], "label": "good", "group": None, "service": "one"},
        {
            "phase": ["baseline", "baseline", "canary"],
            "load": [5.0, 6.0, None],
            "label": None,
            "group": "g",
            "service": None,
        },
    )


def test_packing_keeps_rows_labels_groups_and_phases(three):
    assert len(three) == 3
    assert three.n_rows == 7
    assert three.offsets.tolist() == [0, 3, 4, 7]
    assert three.lengths.tolist() == [3, 1, 3]
    assert three.baseline_lengths.tolist() == [1, 0, 2]
    assert three.canary_lengths.tolist() == [2, 1, 1]
    assert three.canary_offsets.tolist() == [0, 2, 3, 4]
    assert three.canary_rows.tolist() == [1, 2, 3, 6]
    assert three.labels.tolist() == [BAD, GOOD, UNKNOWN]
    assert three.rolled_back.tolist() == [True, False, False]
    assert three.groups.tolist() == ["g", None, "g"]
    assert three.texts["service"].tolist() == ["first", "one", None]
    np.testing.assert_array_equal(three.column("load"), [1, 2, 3, 4, 5, 6, np.nan])
    np.testing.assert_array_equal(three.column("no such"), np.full(7, np.nan))


def test_only_rollback_in_the_last_row_marks_a_logged_rollback(make_episodes):
    episodes = make_episodes({"action": ["PAUSE", "CONTINUE"]}, {"action": [None, "PAUSE"]})
    assert episodes.rolled_back.tolist() == [False, False]


def test_an_episode_without_a_group_is_a_group_of_its_own(three, make_episodes):
    codes = three.group_codes()
    assert codes[0] == codes[2] != codes[1]
    assert sorted(set(codes)) == [0, 1]
    assert sorted(make_episodes({}, {}, {}).group_codes()) == [0, 1, 2]


@given(st.permutations([0, 0, 0, 1, 1, 2, 2, 2, 2]))
def test_interleaved_rows_are_gathered_in_the_order_of_the_file(order):
    steps, seen = [], [0, 0, 0]
    for episode in order:
        steps.append(seen[episode])
        seen[episode] += 1
    load = [10.0 * episode + step for episode, step in zip(order, steps, strict=True)]
    names = [f"e{episode}" for episode in order]
    episodes = episodes_of_frame(pd.DataFrame({"episode_id": names, "step": steps, "load": load}))
    first_seen = list(dict.fromkeys(order))
    assert episodes.ids.tolist() == [f"e{episode}" for episode in first_seen]
    expected = [10.0 * e + step for e in first_seen for step in range(seen[e])]
    assert episodes.column("load").tolist() == expected
    assert episodes.column("step").tolist() == [s for e in first_seen for s in range(seen[e])]


def test_the_order_of_the_file_counts_and_not_that_of_pandas_categories(make_frame):
    frame = make_frame({"load": [0.0, 1.0]}, {"load": [2.0, 3.0]}).iloc[[0, 2, 1, 3]]
    names = pd.Categorical(frame["episode_id"], categories=["e1", "e0"])
    episodes = episodes_of_frame(frame.assign(episode_id=names))
    assert episodes.ids.tolist() == ["e0", "e1"]
    assert episodes.column("load").tolist() == [0.0, 1.0, 2.0, 3.0]


def test_select_takes_episodes_whole_in_the_order_asked_for(three):
    chosen = three.select(np.array([2, 0]))
    assert chosen.ids.tolist() == ["e2", "e0"]
    assert chosen.offsets.tolist() == [0, 3, 6]
    assert chosen.baseline_lengths.tolist() == [2, 1]
    assert chosen.labels.tolist() == [UNKNOWN, BAD]
    assert chosen.rolled_back.tolist() == [False, True]
    assert chosen.texts["service"].tolist() == [None, "first"]
    np.testing.assert_array_equal(chosen.column("load"), [5, 6, np.nan, 1, 2, 3])
    assert three.select(three.labels != UNKNOWN).ids.tolist() == ["e0", "e1"]
    assert three.select(np.array([1, 1])).column("load").tolist() == [4.0, 4.0]
    nobody = three.select(np.zeros(3, dtype=bool))
    assert (len(nobody), nobody.n_rows) == (0, 0)


def test_joining_fills_what_one_part_lacks_with_missing(make_episodes):
    one = make_episodes({"load": [1.0, 2.0], "service": "a", "phase": ["baseline", "canary"]})
    other = make_episodes({"queue": [3.0], "label": "bad", "group": "g", "action": "ROLLBACK"})
    both = concatenate([one, other])
    assert both.offsets.tolist() == [0, 2, 3]
    assert both.baseline_lengths.tolist() == [1, 0]
    assert both.labels.tolist() == [UNKNOWN, BAD]
    assert both.groups.tolist() == [None, "g"]
    assert both.rolled_back.tolist() == [False, True]
    assert both.texts["service"].tolist() == ["a", None]
    np.testing.assert_array_equal(both.column("load"), [1, 2, np.nan])
    np.testing.assert_array_equal(both.column("queue"), [np.nan, np.nan, 3])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_joining_what_was_selected_one_by_one_is_selecting_at_once(which):
    episodes = episodes_of_frame(
        pd.DataFrame(
            {
                "episode_id": ["a", "a", "b", "c", "c"],
                "step": [0, 1, 0, 0, 1],
                "load": [0.0, 1.0, 2.0, 3.0, np.nan],
                "phase": ["baseline", "canary", "canary", "canary", "canary"],
                "label": ["bad", "bad", "good", None, None],
            }
        )
    )
    at_once = episodes.select(np.array(which))
    joined = concatenate(episodes.select(np.array([one])) for one in which)
    assert joined.fingerprint() == at_once.fingerprint()
    assert joined.ids.tolist() == at_once.ids.tolist()
    np.testing.assert_array_equal(joined.canary_rows, at_once.canary_rows)


def test_the_fingerprint_changes_with_everything_that_can_be_learnt_from(make_episodes):
    base = {"load": [1.0, 2.0], "label": "bad", "group": "g", "action": [None, "CONTINUE"]}
    first = make_episodes(base).fingerprint()
    changes = (
        {"load": [1.0, 2.0 + 1e-15]},
        {"load": [1.0, None]},
        {"label": "good"},
        {"label": None},
        {"group": "h"},
        {"action": [None, "ROLLBACK"]},
        {"phase": ["baseline", "canary"]},
        {"step": [0, 2]},
        {"queue": [0.0, 0.0]},
    )
    prints = [make_episodes({**base, **change}).fingerprint() for change in changes]
    prints += [make_episodes(base, base).fingerprint(), make_episodes({**base}, {}).fingerprint()]
    assert len({first, *prints}) == 1 + len(prints)


def test_the_fingerprint_does_not_change_with_names_and_empty_columns(make_episodes):
    base = {"load": [1.0, 2.0], "label": "bad"}
    first = make_episodes(base).fingerprint()
    same = {"episode_id": "other", "service": "s", "note": "n", "queue": [None, None], **base}
    assert make_episodes(same).fingerprint() == first
    reordered = {"label": "bad", "load": [1.0, 2.0]}
    assert make_episodes(reordered).fingerprint() == first


def test_training_needs_both_classes(make_episodes):
    good, bad, unknown = {"label": "good"}, {"label": "bad"}, {"label": None}
    make_episodes(good, bad).require_both_classes()
    with pytest.raises(DeployError, match="has 2 good and 0 bad"):
        make_episodes(good, good, unknown).require_both_classes()
    with pytest.raises(DeployError, match="has 0 good and 1 bad"):
        make_episodes(bad, unknown).require_both_classes()
