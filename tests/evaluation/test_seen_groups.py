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

"""What a policy was trained on is known again, with a group or without one."""

from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation import seen_groups
from oumi_deploy.evaluation.seen_groups import group_digests, of_seen_groups


def named(make_episodes, names: list[tuple[str, str | None]]) -> Episodes:
    return make_episodes(
        *({"episode_id": name, "group": group, "load": 1.0} for name, group in names)
    )


NAMES = st.lists(
    st.tuples(st.integers(0, 40).map("id{}".format), st.none() | st.sampled_from(["a", "b", "c"])),
    min_size=1,
    unique_by=lambda pair: pair[0],
)


@given(NAMES, NAMES)
def test_a_release_is_seen_if_its_group_was_or_it_was_without_one(make_episodes, trained, asked):
    taught = {"group_digests": group_digests(named(make_episodes, trained))}
    groups = {group for _, group in trained if group}
    alone = {name for name, group in trained if not group}
    expected = [group in groups or name in alone for name, group in asked]
    assert of_seen_groups(taught, named(make_episodes, asked)).tolist() == expected


def test_a_file_without_groups_is_known_again_in_parts_and_in_another_order(make_episodes):
    split = named(make_episodes, [(f"id{i}", None) for i in range(10)])
    taught = {"fingerprint": split.fingerprint(), "group_digests": group_digests(split)}
    for part in ([3], [7, 2, 5], range(9, -1, -1)):
        assert of_seen_groups(taught, split.select(np.array(part))).all()
    # Nor does a group that it is given later, or another label, make a release a new one.
    later = replace(split, groups=np.array(["monday"] * 10, dtype=object), labels=split.labels + 1)
    assert of_seen_groups(taught, later).all()


def test_a_file_of_before_lists_named_groups_only(make_episodes):
    releases = named(make_episodes, [("id0", "a"), ("id1", None)])
    old = {"group_digests": group_digests(releases.select(np.array([0])))}
    assert of_seen_groups(old, releases).tolist() == [True, False]
    assert not of_seen_groups({}, releases).any()
    assert not of_seen_groups({"group_digests": None}, releases).any()


def test_more_groups_than_a_file_lists_are_not_listed_in_part(make_episodes, monkeypatch):
    monkeypatch.setattr(seen_groups, "MOST", 3)
    releases = named(make_episodes, [("id0", None), ("id1", "a"), ("id2", "a"), ("id3", "b")])
    assert len(group_digests(releases) or ()) == 3
    more = named(make_episodes, [("id0", None), ("id1", "a"), ("id2", None), ("id3", "b")])
    assert group_digests(more) is None


def test_a_group_that_is_no_text_is_missing(make_episodes):
    releases = replace(
        named(make_episodes, [("id0", None)]), groups=np.array([pd.NA], dtype=object)
    )
    assert of_seen_groups({"group_digests": group_digests(releases)}, releases).all()
