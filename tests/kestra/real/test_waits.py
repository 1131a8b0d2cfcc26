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
"""The recipe's own waits, in real time: they began beside the first of the other tests."""

from itertools import pairwise

import pytest

pytestmark = pytest.mark.real


def gaps(gate):
    return [later - earlier for earlier, later in pairwise(gate.script.asked_at)]


def test_a_gate_asks_a_service_that_is_away_five_times_in_one_to_three_minutes(kestra, patient):
    ended = kestra.end_of(patient["away"].execution, seconds=240)
    assert ["decide", "FAILED"] in ended["tasks"]
    waited = gaps(patient["away"])
    assert len(waited) == 4
    assert all(later > 1.5 * earlier for earlier, later in pairwise(waited)), waited
    assert 60 <= sum(waited) <= 180


def test_a_gate_that_is_held_asks_again_after_a_minute(kestra, patient):
    ended = kestra.end_of(patient["held"].execution, seconds=240)
    assert ended["state"] == "SUCCESS"
    after_an_error, after_a_pause = gaps(patient["held"])
    assert after_an_error >= 5
    assert 60 <= after_a_pause < 90
