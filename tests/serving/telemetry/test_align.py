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

"""Points and the steps they belong to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.serving.telemetry.align import Steps, align, steps_until

values = st.none() | st.floats(allow_nan=False, allow_infinity=False)
starts = st.integers(10**15, 2 * 10**15).map(lambda us: us / 1e6)


@given(start=starts, length=st.integers(1, 7200), cells=st.lists(values, max_size=30))
def test_points_at_the_ends_of_their_steps_come_back_as_they_were(start, length, cells):
    steps = Steps(start, length, len(cells))
    # Prometheus counts in milliseconds, whatever it was asked.
    points = [(round(end, 3), v) for end, v in zip(steps.ends(), cells, strict=True)]
    assert align(points, steps) == cells


@given(start=starts, length=st.integers(2, 600), count=st.integers(1, 20), data=st.data())
def test_a_value_shows_in_the_step_it_was_measured_in_or_not_at_all(start, length, count, data):
    offsets = st.integers(-2 * length * 1000, (count + 2) * length * 1000)
    chosen = sorted(data.draw(st.lists(offsets, unique=True, max_size=20)))
    # Each value is its own time, so that it tells where it came from.
    points = [(start + ms / 1000, float(ms)) for ms in chosen]
    for k, value in enumerate(align(points, Steps(start, length, count))):
        inside = [ms for ms in chosen if 2 <= ms - k * length * 1000 <= length * 1000 - 2]
        if value is not None:
            assert -2 <= value - k * length * 1000 <= length * 1000 + 2
        if inside:
            assert value is not None
            assert value >= max(inside)


def test_a_step_without_a_point_does_not_take_its_neighbours():
    assert align([(1060.0, 1.0), (1180.0, 3.0)], Steps(1000, 60, 4)) == [1.0, None, 3.0, None]


def test_what_is_not_a_number_hides_an_older_value_of_its_step():
    assert align([(1030.0, 1.0), (1060.0, None)], Steps(1000, 60, 1)) == [None]


@pytest.mark.parametrize(
    ("until", "count"), [(1059.9, 0), (1060, 1), (1119.99, 1), (1120, 2), (900, 0)]
)
def test_a_step_counts_once_it_is_over(until, count):
    assert steps_until(1000, 60, until).count == count
