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
"""Binning the state for a table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.problem.bins import MOST_CELLS, cells, make_edges, quantile_edges, table_shape

NAN = float("nan")


def test_quantile_edges_fill_the_bins_equally():
    # 0..8 in three bins: the quantiles at 1/3 and 2/3 of the way from 0 to 8.
    features = np.array([[*range(9), NAN]], dtype=float).T
    np.testing.assert_allclose(quantile_edges(features, 3)[0], [8 / 3, 16 / 3])
    counts = np.bincount(cells(quantile_edges(features, 3), features))
    assert counts.tolist() == [3, 3, 3, 1]


def test_a_minimum_that_most_values_have_gets_a_bin_and_the_rest_share_the_others():
    # Six zeros, then 1..4: three bins are {0}, and halves of 1..4 from 1 and from 2.5 on.
    features = np.array([[0, 0, 0, 0, 0, 0, 1, 2, 3, 4]], dtype=float).T
    edges = quantile_edges(features, 3)
    assert edges[0].tolist() == [1.0, 2.5]
    assert np.bincount(cells(edges, features)).tolist() == [6, 2, 2]


@pytest.mark.parametrize("column", [[NAN, NAN], [3.0, 3.0], []])
def test_a_feature_that_tells_nothing_apart_has_one_bin(column):
    features = np.array([column]).reshape(-1, 1)
    assert quantile_edges(features, 5)[0].tolist() == []
    assert table_shape(quantile_edges(features, 5)) == (2,)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(0.0) | st.just(NAN), min_size=1, max_size=40),
    st.integers(1, 8),
)
def test_edges_rise_and_every_value_has_a_bin(values, n_bins):
    features = np.array([values]).T
    (inner,) = quantile_edges(features, n_bins)
    assert len(inner) <= n_bins - 1
    assert (np.diff(inner) > 0).all()
    (size,) = table_shape([inner])
    where = cells([inner], features)
    assert ((where == size - 1) == np.isnan(values)).all()
    for value, cell in zip(values, where, strict=True):
        if not np.isnan(value):
            # A value on an edge belongs to the bin above it.
            assert cell == sum(edge <= value for edge in inner)


def test_cells_number_the_bins_of_all_features_with_missing_last():
    edges = [np.array([0.5]), np.array([10.0, 20.0])]
    assert table_shape(edges) == (3, 4)
    features = np.array([[0.4, 5], [0.5, 10], [0.6, 25], [NAN, 15], [0.1, NAN], [NAN, NAN]])
    # Cell = 4 * bin of the first + bin of the second.
    expected = [0, 4 * 1 + 1, 4 * 1 + 2, 4 * 2 + 1, 3, 4 * 2 + 3]
    assert cells(edges, features).tolist() == expected


def test_fixed_edges_replace_the_quantiles_of_their_feature():
    features = np.array([[0.0, 1, 2, 3], [0, 1, 2, 3]]).T
    edges = make_edges(["a", "b"], features, 2, {"b": [0.25, 0.75]})
    assert edges[0].tolist() == [1.5]
    assert edges[1].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "inner", [[], [1.0, 1.0], [2.0, 1.0], [0.0, NAN], [NAN], [float("inf")], "abc", 3, [[1.0, 2.0]]]
)
def test_edges_that_do_not_rise_are_refused_by_feature(inner):
    with pytest.raises(DeployError, match=r"edges\.a: give a list of finite numbers that rise"):
        make_edges(["a"], np.zeros((1, 1)), 2, {"a": inner})


def test_edges_for_no_feature_and_tables_nobody_could_fill_are_refused():
    with pytest.raises(DeployError, match="edges: the state has no feature c; it has a, b"):
        make_edges(["a", "b"], np.zeros((1, 2)), 2, {"c": [1.0]})
    names = list("abcdef")
    fixed = {name: [float(i) for i in range(9)] for name in names}
    # 9 edges are 10 bins and one for missing: 11^6 = 1,771,561 cells.
    assert MOST_CELLS < 11**6
    with pytest.raises(DeployError, match="would have 1,771,561 cells, more than 1,000,000"):
        make_edges(names, np.zeros((1, 6)), 2, fixed)
