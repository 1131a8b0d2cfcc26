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
"""The validator: each kind of bad input gives one line with row, column and reason."""

from typing import Any

import pandas as pd
import pytest

from oumi_deploy.episodes.packed import episodes_of_frame, read_episodes
from oumi_deploy.episodes.schema import NUMBER_COLUMNS
from oumi_deploy.episodes.table import SUFFIXES, columns_of_frame, read_columns, write_frame
from oumi_deploy.episodes.validate import REPORTED, find_problems
from oumi_deploy.errors import DeployError

INF = float("inf")

# The columns of a two-row episode, and what must be said of them.
BAD_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"error_rate": [0.5, 1.5]}, "row 2, column error_rate: 1.5 is not in 0..1"),
    ({"error_rate": [-0.1, 1]}, "row 1, column error_rate: -0.1 is not in 0..1"),
    ({"health_score": [0, 2]}, "row 2, column health_score: 2 is not in 0..1"),
    ({"memory_usage": [0, -1]}, "row 2, column memory_usage: -1 is not 0 or more"),
    ({"canary_share": [0, 1.01]}, "row 2, column canary_share: 1.01 is not in 0..1"),
    ({"planned_steps": [2, 0]}, "row 2, column planned_steps: 0 is not above 0"),
    ({"propensity": [1, 0]}, "row 2, column propensity: 0 is not above 0 and at most 1"),
    ({"propensity": [1, 1.5]}, "row 2, column propensity: 1.5 is not above 0 and at most 1"),
    ({"control_error_rate": [0, 3]}, "row 2, column control_error_rate: 3 is not in 0..1"),
    (
        {"latency": [0.1, INF]},
        "row 2, column latency: inf is not 0 or more; leave it empty if unknown",
    ),
    (
        {"queue": [0.1, -INF]},
        "row 2, column queue: -inf is not any finite number; leave it empty if unknown",
    ),
    (
        {"timestamp": [0, INF]},
        "row 2, column timestamp: inf is not any finite number; leave it empty if unknown",
    ),
    ({"label": ["bad", "Bad"]}, "row 2, column label: 'Bad' is not one of good, bad"),
    ({"phase": "rollout"}, "row 1, column phase: 'rollout' is not one of baseline, canary"),
    ({"action": "WAIT"}, "row 1, column action: 'WAIT' is not one of CONTINUE, ROLLBACK, PAUSE"),
    ({"step": [3, 3]}, "row 2, column step: step 3 of episode e0 stands twice; steps must rise"),
    ({"step": [3, 1]}, "row 2, column step: step 1 of episode e0 follows 3; steps must rise"),
    ({"step": [0, 0.5]}, "row 2, column step: 0.5 is not a whole number"),
    ({"step": [0, None]}, "row 2, column step: the step is missing"),
    ({"step": [0, INF]}, "row 2, column step: inf is not any finite number"),
    ({"episode_id": ["a", None]}, "row 2, column episode_id: the episode's name is missing"),
    ({"timestamp": [60, 59]}, "row 2, column timestamp: time goes back in episode e0"),
    ({"label": ["bad", "good"]}, "row 2, column label: episode e0 has more than one label"),
    ({"label": ["bad", None]}, "row 2, column label: episode e0 has more than one label"),
    ({"group": ["g", "h"]}, "row 2, column group: episode e0 has more than one group"),
    (
        {"phase": ["canary", "baseline"]},
        "row 2, column phase: baseline row after a canary row in episode e0",
    ),
    ({"phase": "baseline"}, "row 1, column phase: episode e0 has no canary row"),
    (
        {"action": ["ROLLBACK", "CONTINUE"]},
        "row 1, column action: episode e0 goes on after its ROLLBACK",
    ),
]

# The columns of a two-row episode, of which one cell is no number where one is needed.
BAD_TYPES: list[tuple[dict[str, Any], str]] = [
    ({name: ["1", "much"]}, f"row 2, column {name}: 'much' is not a number")
    for name in [*NUMBER_COLUMNS, "control_queue"]
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("columns", "says"), BAD_VALUES + BAD_TYPES)
def test_a_bad_value_is_named_by_row_and_column_in_every_kind_of_file(
    tmp_path, make_frame, columns, says, suffix
):
    path = tmp_path / f"t{suffix}"
    write_frame(make_frame({"cpu_usage": [0.1, 0.2], **columns}), path)
    with pytest.raises(DeployError) as refused:
        read_episodes(path)
    assert str(refused.value).startswith(f"{path}: {says}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("columns", "says"), BAD_VALUES + BAD_TYPES)
def test_a_data_frame_is_judged_like_a_file(make_frame, columns, says):
    with pytest.raises(DeployError) as refused:
        episodes_of_frame(make_frame({"cpu_usage": [0.1, 0.2], **columns}), source="mine")
    assert str(refused.value).startswith(f"mine: {says}")


def test_json_values_of_the_wrong_type_are_named(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"episode_id": "a", "step": 0, "timestamp": 0, "error_rate": true}\n')
    with pytest.raises(DeployError, match="row 1, column error_rate: 'true' is not a number"):
        read_episodes(path)
    path.write_text('{"episode_id": "a", "step": 0, "timestamp": "2023-13-01"}\n')
    with pytest.raises(DeployError, match="row 1, column timestamp: '2023-13-01' is not a number"):
        read_episodes(path)


def test_a_data_frame_of_mixed_types_is_refused_by_column(make_frame):
    with pytest.raises(DeployError, match=r"tried to convert to int64.* column cpu_usage"):
        episodes_of_frame(make_frame({"cpu_usage": [1, "much"]}))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["episode_id", "step"])
def test_a_missing_required_column_is_named_beside_those_there(tmp_path, make_frame, name, suffix):
    path = tmp_path / f"t{suffix}"
    write_frame(make_frame({"load": [1, 2]}).drop(columns=name), path)
    there = "load, step" if name == "episode_id" else "episode_id, load"
    says = f"required column {name} is missing; the table has {there}$"
    with pytest.raises(DeployError, match=says):
        read_episodes(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_rows_is_refused(tmp_path, make_frame, suffix):
    path = tmp_path / f"t{suffix}"
    write_frame(make_frame({"load": [1, 2]}).iloc[:0], path)
    with pytest.raises(DeployError, match=r"the table has no rows$"):
        read_episodes(path)


def test_time_that_goes_back_across_a_missing_one_is_named(make_frame):
    table = columns_of_frame(make_frame({"timestamp": [600, None, 0]}))
    assert [str(p) for p in find_problems(table)] == [
        f"row 3, column timestamp: time goes back in episode {table.texts['episode_id'][0]}"
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_column_of_true_and_false_is_a_metric_in_every_kind_of_file(tmp_path, make_frame, suffix):
    path = tmp_path / f"truths{suffix}"
    write_frame(make_frame({"paged": [True, False, True]}), path)
    assert read_columns(path).numbers["paged"].tolist() == [1.0, 0.0, 1.0]


def test_a_column_without_a_name_is_refused(tmp_path):
    path = tmp_path / "nameless.csv"
    path.write_text("episode_id,step,\na,0,1\n")
    assert [str(p) for p in find_problems(read_columns(path))] == [
        "a column has no name; name it or leave it out"
    ]


def test_good_tables_pass(make_frame):
    for columns in (
        {},
        {"step": [-4, 7, 1_000_000]},
        {"error_rate": [0, 1], "memory_usage": [0, 9], "canary_share": [0.0, 1.0]},
        {"timestamp": [5, 5, None, 6]},
        {"phase": ["baseline", "baseline", "canary", None]},
        {"action": ["CONTINUE", "PAUSE", None, "ROLLBACK"], "propensity": 1.0},
        {"queue": [-1e300, 1e300, None]},
        {"label": "good", "group": "g", "service": ["two", "names"]},
    ):
        assert find_problems(columns_of_frame(make_frame(columns))) == [], columns


def test_every_problem_is_listed_up_to_a_bound_for_each_kind(make_frame):
    frame = make_frame({"error_rate": [2.0] * (REPORTED + 5), "latency": [-1.0, *[0.0] * 24]})
    problems = find_problems(columns_of_frame(frame))
    assert len([p for p in problems if p.column == "error_rate"]) == REPORTED
    assert [str(p) for p in problems if p.column == "latency"] == [
        "row 1, column latency: -1 is not 0 or more"
    ]
    # 21 problems: the first is told, 20 are left.
    with pytest.raises(DeployError, match=r"\(and 20 more; `oumi-deploy check` lists them\)$"):
        episodes_of_frame(frame)


def test_rules_hold_inside_an_episode_and_not_between_episodes(make_frame):
    first = {"label": "bad", "group": "g", "timestamp": [500.0], "step": [9], "action": "ROLLBACK"}
    second = {"label": "good", "group": "h", "timestamp": [10.0], "step": [0], "action": None}
    frame = make_frame(first, second)
    assert find_problems(columns_of_frame(frame)) == []
    assert find_problems(columns_of_frame(frame.assign(episode_id="e"))) != []


def test_a_problem_in_interleaved_episodes_names_the_row_of_the_file(make_frame):
    frame = make_frame({"step": [0, 1, 1]}, {"step": [0, 1, 2]})
    # In the file: e0 0, e1 0, e0 1, e1 1, e0 1 (wrong, the fifth row), e1 2.
    mixed = pd.concat([frame.iloc[[at, at + 3]] for at in range(3)], ignore_index=True)
    problems = find_problems(columns_of_frame(mixed))
    assert [str(p) for p in problems] == [
        "row 5, column step: step 1 of episode e0 stands twice; steps must rise"
    ]


def test_a_csv_row_is_counted_without_the_header(tmp_path):
    (tmp_path / "t.csv").write_text("episode_id,step,error_rate\na,0,0.1\na,1,7\n")
    problems = find_problems(read_columns(tmp_path / "t.csv"))
    assert [(p.row, p.column) for p in problems] == [(1, "error_rate")]
    assert str(problems[0]).startswith("row 2,")
