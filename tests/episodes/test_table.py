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
"""Reading and writing the three kinds of episode file."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oumi_deploy.episodes.schema as schema
from oumi_deploy.episodes.packed import episodes_of_frame, read_episodes
from oumi_deploy.episodes.table import (
    SUFFIXES,
    columns_of_frame,
    read_columns,
    read_frame,
    write_frame,
)
from oumi_deploy.episodes.validate import find_problems
from oumi_deploy.errors import DeployError

FORMAT = Path(schema.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
shares = st.none() | st.floats(0, 1)
finite = st.none() | st.floats(allow_nan=False, allow_infinity=False)
# A leading letter keeps free text from being a column of numbers.
notes = st.none() | texts.map(lambda word: "x" + word)


@st.composite
def tables(draw) -> pd.DataFrame:
    n = draw(st.integers(1, 6))

    def column(cells, dtype):
        return pd.Series(draw(st.lists(cells, min_size=n, max_size=n)), dtype=dtype)

    return pd.DataFrame(
        {
            "episode_id": column(texts, object),
            "step": pd.Series(range(n), dtype="int64"),
            "group": column(st.none() | texts, object),
            # The first is text, so that the column is.
            "note": pd.Series(["x", *draw(st.lists(notes, min_size=n - 1, max_size=n - 1))]),
            "error_rate": column(shares, float),
            "queue": column(finite, float),
            "control_queue": column(finite, float),
            "requests": column(st.integers(0, 2**53), "int64"),
        }
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(frame=tables())
def test_a_table_survives_each_kind_of_file_unchanged(tmp_path, suffix, frame):
    path = tmp_path / f"table{suffix}"
    write_frame(frame, path, overwrite=True)
    back = read_frame(path)
    assert set(back) == set(frame)
    for name in ("episode_id", "group", "note"):
        assert back[name].where(back[name].notna(), None).tolist() == frame[name].tolist(), name
    for name in ("step", "error_rate", "queue", "control_queue", "requests"):
        expected = frame[name].to_numpy(float)
        np.testing.assert_array_equal(back[name].to_numpy(float), expected, strict=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_line_ends_quotes_and_separators_in_names_survive(tmp_path, make_frame, suffix):
    names = ["a\rb", "a\nb", "a\r\nb", 'say "hi"', "a,b", " a ", "a\tb", "\u2028", "\x00a", "NULL"]
    frame = make_frame({"episode_id": names, "requests": list(range(len(names)))})
    write_frame(frame, tmp_path / f"t{suffix}")
    assert read_frame(tmp_path / f"t{suffix}")["episode_id"].tolist() == names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_episodes_are_the_same_whichever_file_they_come_from(tmp_path, make_frame, suffix):
    frame = make_frame(
        {"label": "bad", "error_rate": [0.1, None], "timestamp": [60.0, 120.0], "action": "PAUSE"},
        {"label": None, "error_rate": [0.3], "timestamp": [0.0], "action": "ROLLBACK"},
    )
    write_frame(frame, tmp_path / f"table{suffix}")
    episodes = read_episodes(tmp_path / f"table{suffix}")
    assert episodes.ids.tolist() == ["e0", "e1"]
    assert episodes.labels.tolist() == [schema.BAD, schema.UNKNOWN]
    assert episodes.rolled_back.tolist() == [False, True]
    np.testing.assert_array_equal(episodes.column("error_rate"), [0.1, np.nan, 0.3])
    assert episodes.fingerprint() == episodes_of_frame(frame).fingerprint()


def test_missing_is_written_in_many_ways(tmp_path):
    csv = tmp_path / "t.csv"
    csv.write_text('episode_id,step,error_rate,label,group\na,0,,,\na,1,NaN,"",""\na,2,0,,\n')
    json_lines = tmp_path / "t.jsonl"
    json_lines.write_text(
        '{"episode_id": "a", "step": 0, "error_rate": null, "label": null}\n\n'
        '{"episode_id": "a", "step": 1, "error_rate": NaN, "label": NaN}\n'
        '{"episode_id": "a", "step": 2, "error_rate": 0, "group": null}\n'
    )
    parquet = tmp_path / "t.parquet"
    nans = pa.array([np.nan] * 3, pa.float64())
    rates = pa.array([None, np.nan, 0.0])
    table = {"episode_id": ["a"] * 3, "step": [0, 1, 2], "error_rate": rates, "label": nans}
    pq.write_table(pa.table(table), parquet)
    for path in (csv, json_lines, parquet):
        episodes = read_episodes(path)
        np.testing.assert_array_equal(episodes.column("error_rate"), [np.nan, np.nan, 0.0])
        assert episodes.labels.tolist() == [schema.UNKNOWN]
        assert episodes.groups.tolist() == [None]


def test_a_time_means_the_same_as_seconds_as_iso_text_and_as_a_parquet_timestamp(tmp_path):
    # 2023-09-22T15:39:00Z is 19622 days (1695340800 s), 15 h 39 min (56340 s) after 1970.
    seconds = 1695340800 + 56340
    head = "episode_id,step,timestamp\n"
    for word in (
        str(seconds),
        "2023-09-22T15:39:00Z",
        "2023-09-22 15:39:00",
        "2023-09-22T17:39:00+02:00",
    ):
        (tmp_path / "t.csv").write_text(f"{head}a,0,{word}\n")
        assert read_episodes(tmp_path / "t.csv").column("timestamp").tolist() == [seconds], word
    for unit in ("s", "ms", "us", "ns"):
        moments = pd.Series(pd.to_datetime(["2023-09-22T15:39:00.5"])).astype(f"datetime64[{unit}]")
        frame = pd.DataFrame({"episode_id": ["a"], "step": [0], "timestamp": moments})
        write_frame(frame, tmp_path / "t.parquet", overwrite=True)
        half = 0 if unit == "s" else 0.5
        assert read_episodes(tmp_path / "t.parquet").column("timestamp").tolist() == [
            seconds + half
        ]


def test_names_that_are_large_numbers_stay_apart(tmp_path):
    # As floats both would be 12345678901234567168.
    names = [12345678901234567890, 12345678901234567891]
    lines = [json.dumps({"episode_id": name, "step": 0, "version": 2}) for name in names]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    episodes = read_episodes(tmp_path / "t.jsonl")
    assert episodes.ids.tolist() == ["12345678901234567890", "12345678901234567891"]
    assert episodes.texts["version"].tolist() == ["2", "2"]


def test_a_free_column_is_a_metric_only_if_every_value_is_a_number(tmp_path):
    (tmp_path / "t.csv").write_text("episode_id,step,a,b,c\nx,0,1,1,\nx,1,2.5,two,\nx,2,,,\n")
    columns = read_columns(tmp_path / "t.csv")
    assert sorted(columns.numbers) == ["a", "c", "step"]
    assert sorted(columns.texts) == ["b", "episode_id"]
    np.testing.assert_array_equal(columns.numbers["a"], [1.0, 2.5, np.nan])
    assert columns.texts["b"].to_pylist() == ["1", "two", None]


def _broken_csv(path: Path) -> None:
    path.write_text("episode_id,step,error_rate\na,0,0.1\na,1\n")


def _broken_json_lines(path: Path) -> None:
    path.write_text('{"episode_id": "a", "step": 0}\n{"episode_id": "a", "st\n')


def _array_json_lines(path: Path) -> None:
    path.write_text('{"episode_id": "a", "step": 0}\n["a", 1]\n')


def _truncated_parquet(path: Path) -> None:
    pq.write_table(pa.table({"episode_id": ["a"], "step": [0]}), path)
    path.write_bytes(path.read_bytes()[:-9])


def _latin_csv(path: Path) -> None:
    path.write_bytes("episode_id,step\nM\xfcnchen,0\n".encode("latin-1"))


def _latin_json_lines(path: Path) -> None:
    path.write_bytes('{"episode_id": "M\xfcnchen", "step": 0}\n'.encode("latin-1"))


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("t.csv", _broken_csv, "cannot be read as csv: .*Row #3: Expected 3 columns, got 2"),
        ("t.csv", _latin_csv, "cannot be read as csv: .*UTF8"),
        ("t.csv", lambda path: path.write_text(""), "Empty CSV file"),
        ("t.csv", lambda path: path.mkdir(), "no such file"),
        ("t.csv", lambda path: None, "no such file"),
        ("t.jsonl", _broken_json_lines, "line 2: not JSON"),
        ("t.jsonl", _array_json_lines, r'line 2: an observation is an object, not \["a", 1\]'),
        ("t.jsonl", _latin_json_lines, "cannot be read as jsonl: .*utf-8"),
        ("t.parquet", _truncated_parquet, "cannot be read as parquet"),
        ("t.parquet", _broken_csv, "cannot be read as parquet"),
        ("t.xlsx", _broken_csv, "must end in .parquet, .csv or .jsonl"),
    ],
)
def test_a_file_that_is_broken_is_refused_in_one_line_with_its_name(tmp_path, name, write, says):
    write(tmp_path / name)
    with pytest.raises(DeployError, match=says) as refused:
        read_episodes(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("column", ["load", "episode_id", "error_rate"])
@pytest.mark.parametrize("cell", [[1, 2], b"\xff"])
def test_a_column_of_lists_or_bytes_is_refused_by_name(tmp_path, column, cell):
    table = {"episode_id": ["a"], "step": [0], column: [cell]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(DeployError, match=f"column {column}: expected numbers or text"):
        read_episodes(tmp_path / "t.parquet")


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("episode_id,step,step\na,0,1\n")
    with pytest.raises(DeployError, match="column step: two columns have this name"):
        read_episodes(tmp_path / "t.csv")
    with pytest.raises(DeployError, match=r"[Dd]uplicate column"):
        columns_of_frame(
            pd.DataFrame([["a", 0, 1]], columns=pd.Index(["episode_id", "step", "step"]))
        )


def test_reading_a_frame_leaves_judging_steps_to_the_validator(tmp_path):
    (tmp_path / "t.csv").write_text("episode_id,step\na,1.5\n")
    assert read_frame(tmp_path / "t.csv")["step"].tolist() == [1.5]
    (tmp_path / "t.csv").write_text("episode_id,step,cpu_usage\na,1,x\n")
    with pytest.raises(DeployError, match="row 1, column cpu_usage: 'x' is not a number"):
        read_frame(tmp_path / "t.csv")


class _Failing(pd.DataFrame):
    def to_csv(self, draft, **_):  # pyright: ignore
        Path(draft).write_text("episode_id,st")
        raise KeyboardInterrupt


def test_a_write_that_is_interrupted_leaves_nothing_and_spoils_nothing(tmp_path, make_frame):
    path = tmp_path / "t.csv"
    with pytest.raises(KeyboardInterrupt):
        write_frame(_Failing(make_frame({})), path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_frame(_Failing(make_frame({})), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert path.read_text() == "old"


def test_a_file_is_replaced_only_when_asked(tmp_path, make_frame):
    path = tmp_path / "new folder" / "t.jsonl"
    write_frame(make_frame({"load": [1.0]}), path)
    with pytest.raises(DeployError, match=r"t\.jsonl exists already"):
        write_frame(make_frame({"load": [2.0]}), path)
    assert read_frame(path)["load"].tolist() == [1.0]
    write_frame(make_frame({"load": [2.0]}), path, overwrite=True)
    assert read_frame(path)["load"].tolist() == [2.0]
    with pytest.raises(DeployError, match=r"must end in \.parquet, \.csv or \.jsonl"):
        write_frame(make_frame({}), tmp_path / "t.xlsx")
    assert not (tmp_path / "t.xlsx").exists()


def test_format_md_names_every_column_and_its_version():
    documented = set(re.findall(r"`([^`]+)`", FORMAT.split("## Columns")[1].split("## Rules")[0]))
    meant = {*schema.NUMBER_COLUMNS, *schema.TEXT_COLUMNS, "action", "control_<metric>"}
    assert meant <= documented
    assert {*schema.LABELS, *schema.PHASES, *schema.LOGGED_ACTIONS} <= documented
    assert f"# The episode format, version {schema.FORMAT_VERSION}" in FORMAT
    assert all(f"`{suffix}`" in FORMAT for suffix in SUFFIXES)


@pytest.mark.parametrize("name", sorted({*schema.NUMBER_COLUMNS} - {"step", "timestamp"}))
def test_format_md_gives_the_range_that_the_validator_holds_to(name):
    row = next(line for line in FORMAT.splitlines() if line.startswith("|") and f"`{name}`" in line)
    assert schema.number_column(name).accepts().removeprefix("in ") in row


def test_the_example_in_format_md_is_a_valid_file():
    example = re.findall(r"```csv\n(.*?)```", FORMAT, re.DOTALL)[0]
    frame = pd.read_csv(io.StringIO(example))
    assert len(example.splitlines()) == 5
    assert find_problems(columns_of_frame(frame)) == []
    assert episodes_of_frame(frame).baseline_lengths.tolist() == [1, 0]
