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

"""Rows that Oumi mixes keep what the episodes were."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.episodes.rows import from_rows, to_rows
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.errors import DeployError


@given(st.integers(1, 30), st.integers(0, 99), st.randoms())
def test_episodes_come_back_as_they_were(count, seed, random):
    episodes = generate_sample(count, seed)
    chosen = random.sample(range(count), random.randint(1, count))
    back = from_rows(to_rows(episodes).take(chosen))
    # Of everything a policy could learn from, and of no more.
    assert back.fingerprint() == episodes.select(np.array(chosen)).fingerprint()
    assert back.numbers.keys() == episodes.numbers.keys()


def test_chosen_metrics_are_kept_with_their_control_and_nothing_else():
    rows = to_rows(generate_sample(5, 1), ["error_rate", "queue"])
    lists = {field.name for field in rows.schema if pa.types.is_list(field.type)}
    assert lists == {
        *("timestamp", "canary_share", "planned_steps"),
        *("error_rate", "control_error_rate", "queue", "control_queue"),
    }
    # Files with other columns make the same rows, and what is not there is not made up.
    assert rows.schema == to_rows(generate_sample(5, 2), ["error_rate", "queue"]).schema
    assert "queue" not in from_rows(rows).numbers


def test_rows_of_files_with_other_columns_are_missing_what_theirs_lack(make_episodes):
    one = make_episodes({"load": [1.0, 2.0]})
    other = make_episodes({"queue": [3.0], "load": None, "note": "text"})
    both = from_rows(pa.concat_tables([to_rows(one), to_rows(other)], promote_options="default"))
    np.testing.assert_array_equal(both.column("load"), [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(both.column("queue"), [np.nan, np.nan, 3.0])


def test_a_column_with_the_name_of_a_field_is_refused_by_name(make_episodes):
    with pytest.raises(DeployError, match=r"^column length: .* rename it$"):
        to_rows(make_episodes({"load": 1.0, "length": 2.0}))
