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
"""The state encoder: it looks back only, and is the same in batch and step by step."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import episodes_of_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import NetworkQ
from oumi_deploy.problem.encoder import (
    LIMIT,
    StateEncoder,
    encode_episodes,
    fit_encoder,
    require_lessons,
)
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import CLOCK, HISTORY, parse_state

METRICS = ("error_rate", "queue")
STATE = (*METRICS, *(f"{metric}.{kind}" for metric in METRICS for kind in HISTORY), *CLOCK)
NAN = float("nan")

Row = dict[str, Any]


@st.composite
def releases(draw, least_canary: int = 1) -> list[Row]:
    """Rows of one episode: values may be missing, times may stand still or be missing."""
    n_baseline = draw(st.integers(0, 3))
    n_canary = draw(st.integers(least_canary, 7))
    timed, moment, planned = draw(st.booleans()), 28_000_000.0, draw(st.none() | st.integers(1, 9))
    rows = []
    for step in range(n_baseline + n_canary):
        moment += draw(st.sampled_from([0, 1, 1, 2.5, 30]))
        rate, queue = st.none() | st.floats(0, 1), st.none() | st.floats(-1e3, 1e3)
        rows.append(
            {
                "step": step,
                "phase": "baseline" if step < n_baseline else "canary",
                "timestamp": moment * 60 if timed and draw(st.integers(0, 4)) else None,
                "planned_steps": planned,
                "error_rate": draw(rate),
                "queue": draw(queue),
                "control_error_rate": draw(rate),
                "control_queue": draw(queue),
            }
        )
    return rows


def encoded(*episodes: list[Row], state=STATE) -> np.ndarray:
    rows = [{"episode_id": i, **row} for i, rows in enumerate(episodes) for row in rows]
    frame = pd.DataFrame(rows).astype({"episode_id": str})
    numeric = [name for name in frame if name not in ("episode_id", "phase")]
    frame = frame.astype(dict.fromkeys(numeric, float))
    return encode_episodes(parse_state(state), episodes_of_frame(frame))


def n_baseline(rows: list[Row]) -> int:
    return sum(row["phase"] == "baseline" for row in rows)


@settings(max_examples=100)
@given(releases(least_canary=2), releases(), st.data())
def test_what_comes_later_never_changes_an_encoding(rows, others, data):
    seen = data.draw(st.integers(n_baseline(rows) + 1, len(rows)))
    whole = encoded(rows)[: seen - n_baseline(rows)]
    np.testing.assert_array_equal(encoded(rows[:seen]), whole)
    later = [
        {**row, "step": len(rows) + i, "phase": "canary", "timestamp": None}
        for i, row in enumerate(others)
    ]
    changed = encoded(rows[:seen] + later)[: len(whole)]
    np.testing.assert_array_equal(changed, whole)


def policy_of(encoder: StateEncoder) -> DeploymentPolicy:
    weight = np.random.default_rng(0).normal(size=(2, encoder.n_inputs))
    network = NetworkQ([(weight, np.zeros(2))])
    return DeploymentPolicy(encoder, network, "sequential", Rewards(), 1.0, {}, {})


@settings(max_examples=60)
@given(st.lists(releases(), min_size=1, max_size=4))
def test_batch_and_step_by_step_agree_bit_for_bit(episodes):
    ones, zeros = np.ones(len(STATE)), np.zeros(len(STATE))
    policy = policy_of(StateEncoder(parse_state(STATE), zeros, ones, zeros, ones))
    one_by_one = []
    for rows in episodes:
        rollout = policy.begin()
        for row in rows:
            rollout.observe({name: value for name, value in row.items() if value is not None})
            if row["phase"] == "canary":
                assert rollout.newest is not None
                one_by_one.append(rollout.newest.weighed.features[0])
    batch = encoded(*episodes)
    np.testing.assert_array_equal(batch, np.array(one_by_one), strict=True)
    # Production decides on the whole list at once, and must say what the rollout said.
    answer = policy.decide(episodes[-1]).q_values
    expected = policy.q_values(batch[-1:])[0]
    np.testing.assert_array_equal([answer["CONTINUE"], answer["ROLLBACK"]], expected)


@settings(max_examples=30)
@given(st.lists(releases(), min_size=3, max_size=7))
def test_a_data_set_in_parts_is_encoded_as_in_one(episodes):
    whole = encoded(*episodes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oumi_deploy.problem.encoder._EPISODES_AT_ONCE", 2)
        np.testing.assert_array_equal(encoded(*episodes), whole)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else NAN


def _slope(pairs: list[tuple[float, float]]) -> float:
    t, x = np.array(pairs).reshape(-1, 2).T
    if len(set(t)) < 2:
        return NAN
    return float(((t - t.mean()) * (x - x.mean())).sum() / ((t - t.mean()) ** 2).sum())


def brute_force(rows: list[Row]) -> dict[str, float]:
    """Works out the features of the last row from the definitions in `HISTORY` and `CLOCK`."""
    canary = [row for row in rows if row["phase"] == "canary"]
    last, start = canary[-1], canary[0]["timestamp"]
    minutes = [
        None if start is None or row["timestamp"] is None else (row["timestamp"] - start) / 60
        for row in canary
    ]
    features = {
        "steps": len(canary) - 1,
        "inverse_steps": 1 / len(canary),
        "minutes": NAN if minutes[-1] is None else minutes[-1],
        "planned_share": len(canary) / (last["planned_steps"] or NAN),
    }
    earlier = brute_force(rows[:-1]) if len(canary) > 1 else {}
    for m in METRICS:
        value = NAN if last[m] is None else last[m]
        known = [row[m] for row in canary if row[m] is not None]
        before = [row[m] for row in canary[:-1] if row[m] is not None]
        times = range(len(canary)) if start is None else minutes
        base = _mean([r[m] for r in rows if r["phase"] == "baseline" and r[m] is not None])
        gaps = [
            NAN if None in (r[m], r[f"control_{m}"]) else r[m] - r[f"control_{m}"] for r in canary
        ]
        features |= {
            m: value,
            f"{m}.mean": _mean(known),
            f"{m}.max": max(known, default=NAN),
            f"{m}.slope": _slope(
                [
                    (t, row[m])
                    for t, row in zip(times, canary, strict=True)
                    if t is not None and row[m] is not None
                ]
            ),
            f"{m}.baseline": value - base,
            f"{m}.baseline_mean": _mean(known) - base,
            f"{m}.control": gaps[-1],
            f"{m}.control_mean": _mean([gap for gap in gaps if gap == gap]),
            f"{m}.change": value - _mean(before),
            f"{m}.slope_before": earlier.get(f"{m}.slope", NAN),
            f"{m}.change_before": earlier.get(f"{m}.change", NAN),
            f"{m}.control_change": gaps[-1] - _mean([gap for gap in gaps[:-1] if gap == gap]),
            f"{m}.missing": 1 - len(known) / len(canary),
            f"{m}.unmatched": sum(r[m] is None and r[f"control_{m}"] is not None for r in canary)
            / len(canary),
        }
    return features


@settings(max_examples=100)
@given(releases())
def test_every_feature_is_what_its_definition_says(rows):
    features = dict(zip(STATE, encoded(rows)[-1], strict=True))
    expected = brute_force(rows)
    assert sorted(expected) == sorted(STATE)
    for name, value in expected.items():
        assert features[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), name


def one_feature(make_episodes, name: str, **columns) -> list[float]:
    return encode_episodes(parse_state([name]), make_episodes(columns))[:, 0].tolist()


def test_slopes_worked_by_hand(make_episodes):
    def slopes(**columns):
        return one_feature(make_episodes, "queue.slope", **columns)

    # Per observation without times: 1, 3 rises by 2; with 8 the mean time is 1, the mean value 4,
    # ((-1)(-3) + 0 + (1)(4)) / 2 = 3.5.
    assert slopes(queue=[1.0, 3.0, 8.0]) == pytest.approx([NAN, 2.0, 3.5], nan_ok=True)
    # Per minute with times: 2 in 4 minutes is 0.5; then mean time 3, mean value 4,
    # ((-3)(-3) + (1)(-1) + (2)(4)) / (9 + 1 + 4) = 16/14.
    assert slopes(queue=[1.0, 3.0, 8.0], timestamp=[60.0, 300.0, 360.0]) == pytest.approx(
        [NAN, 0.5, 16 / 14], nan_ok=True
    )
    # The middle value is missing: from 1 to 8 in 5 minutes.
    assert slopes(queue=[1.0, None, 8.0], timestamp=[60.0, 300.0, 360.0]) == pytest.approx(
        [NAN, NAN, 1.4], nan_ok=True
    )
    # The middle time is missing: that observation has no place on the line from 1 to 8.
    assert slopes(queue=[1.0, 3.0, 8.0], timestamp=[60.0, None, 360.0]) == pytest.approx(
        [NAN, NAN, 1.4], nan_ok=True
    )
    # The first time is missing: the episode counts observations, whatever times follow.
    assert slopes(queue=[1.0, 3.0, 8.0], timestamp=[None, 300.0, 360.0]) == pytest.approx(
        [NAN, 2.0, 3.5], nan_ok=True
    )
    # Two observations of one moment have no slope.
    assert np.isnan(slopes(queue=[1.0, 3.0], timestamp=[60.0, 60.0])).all()


def test_baseline_control_and_clocks_worked_by_hand(make_episodes):
    columns = {
        "phase": ["baseline", "baseline", "baseline", "canary", "canary"],
        "queue": [10.0, None, 20.0, 18.0, 30.0],
        "control_queue": [0.0, 0.0, 0.0, 16.0, None],
        "timestamp": [0.0, 60.0, 120.0, 600.0, 690.0],
        "planned_steps": 4,
    }

    def feature(name):
        return one_feature(make_episodes, name, **columns)

    # The baseline is (10 + 20) / 2 = 15.
    assert feature("queue.baseline") == [3.0, 15.0]
    assert feature("queue.baseline_mean") == [3.0, 9.0]  # (18 + 30) / 2 - 15
    assert feature("queue.control") == pytest.approx([2.0, NAN], nan_ok=True)
    assert feature("queue.control_mean") == [2.0, 2.0]
    assert feature("queue.mean") == [18.0, 24.0]
    assert feature("queue.max") == [18.0, 30.0]
    assert encode_episodes(
        parse_state(["queue", "steps", "minutes", "planned_share"]), make_episodes(columns)
    ).tolist() == [[18.0, 0.0, 0.0, 0.25], [30.0, 1.0, 1.5, 0.5]]


def test_without_baseline_control_times_or_plan_these_features_are_missing(make_episodes):
    names = ["queue.baseline", "queue.baseline_mean", "queue.control", "queue.control_mean"]
    state = parse_state([*names, "minutes", "planned_share"])
    features = encode_episodes(state, make_episodes({"queue": [1.0, 2.0]}))
    assert np.isnan(features).all()
    assert features.shape == (2, 6)


def test_missing_values_become_neutral_with_a_mark(make_episodes):
    encoder = StateEncoder(
        parse_state(["error_rate", "queue"]),
        center=np.array([0.1, 5.0]),
        scale=np.array([0.1, 2.0]),
        low=np.zeros(2),
        high=np.ones(2),
    )
    features = np.array([[0.2, 5.0], [NAN, 1e30], [NAN, NAN]])
    inputs = encoder.standardise(features)
    # asinh((0.2 - 0.1) / 0.1) = asinh(1) = ln(1 + sqrt(2)) = 0.881374; 1e30 is held at the limit.
    expected = [[0.881374, 0, 0, 0], [0, LIMIT, 1, 0], [0, 0, 1, 1]]
    np.testing.assert_allclose(inputs, expected, atol=1e-6)
    assert inputs.dtype == np.float32
    assert encoder.n_inputs == 4
    assert one_feature(lambda c: make_episodes(c), "queue.missing", queue=[None, 1, 2, None]) == [
        1.0,
        0.5,
        pytest.approx(1 / 3),
        0.5,
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("label", "fault_type", "telemetry", "service", "group", "episode_id", "version"),
        *("environment", "phase", "action", "propensity", "step", "timestamp", "planned_steps"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".mean"])
def test_what_gives_the_answer_away_is_refused_as_state(name, suffix):
    with pytest.raises(DeployError, match=f"^state: {name} cannot be state: it gives the label"):
        parse_state(["error_rate", name + suffix])


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("error_rate", "expected a list"),
        (None, "expected a list"),
        ([], "the list is empty"),
        ([""], "'' is not the name of a feature"),
        ([3], "3 is not the name of a feature"),
        (["queue", "queue"], "queue stands twice"),
        (["queue.maximum"], "no history is called 'maximum'; there are mean, max, slope"),
        (["steps", "minutes"], "steps, minutes tells the time only; name a metric too"),
    ],
)
def test_a_list_that_is_no_state_is_refused(state, says):
    with pytest.raises(DeployError, match=f"^state: .*{says}"):
        parse_state(state)


def test_text_and_absent_columns_are_refused_as_state(make_episodes):
    episodes = make_episodes({"queue": 1.0, "note": "hello", "label": "good"})
    with pytest.raises(DeployError, match="state: note is text"):
        fit_encoder(["queue", "note.max"], episodes)
    with pytest.raises(DeployError, match="no column load; they have queue, step"):
        fit_encoder(["load"], episodes)
    with pytest.raises(DeployError, match="no column load or lag; they have queue, step"):
        fit_encoder(["load", "requests", "control_queue", "lag.max"], episodes)


def test_a_column_that_the_episodes_lack_is_missing_and_called_so(make_episodes):
    whole = {"queue": [1.0, 2.0], "load": [0.5, 0.6], "control_queue": [1.0, 1.0]}
    state = ["queue", "queue.control", "load", "load.missing"]
    encoder = fit_encoder(state, make_episodes(whole))
    least = make_episodes({"queue": [1.0, 2.0]})
    features = encode_episodes(encoder.state, least)
    np.testing.assert_array_equal(features[:, 0], [1.0, 2.0])
    assert np.isnan(features[:, 1:3]).all()
    assert features[:, 3].tolist() == [1.0, 1.0]
    assert encoder.unreported(features) == ["queue.control", "load"]
    # What was never taught cannot be missed.
    assert fit_encoder(state, least).unreported(features) == []
    assert encoder.unreported(encode_episodes(encoder.state, make_episodes(whole))) == []


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (["queue", "queu_depth"], "no column queu_depth: did you mean queue_depth"),
        (["queue", "control_queu_depth.max"], "no column control_queu_depth: did you mean contr"),
        (["queue.control", "queue.control_mean", "queue.missing"], "no value of queue.control, q"),
    ],
)
def test_a_state_that_cannot_be_meant_is_not_learnt_from(make_episodes, state, says):
    episodes = make_episodes({"queue": [1.0], "queue_depth": 2.0, "control_queue_depth": 2.0})
    with pytest.raises(DeployError, match=f"^state: the episodes have {says}.*(t|T)hey have"):
        require_lessons(fit_encoder(state, episodes), episodes)


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        # Names that the format knows, and what a team need not measure.
        (["queue", "latency", "control_latency"], {"control_latencies": 1.0}),
        # Another column that the state reads too.
        (["queue", "queue_worst"], {}),
        (["queue.baseline", "queue"], {}),
        (["queue.missing"], {}),
    ],
)
def test_what_a_team_does_not_measure_is_no_misspelling(make_episodes, state, columns):
    episodes = make_episodes({"queue": [1.0, 2.0], **columns})
    require_lessons(fit_encoder(state, episodes), episodes)


def test_statistics_worked_by_hand(make_episodes):
    values = [0.0, 1.0, 2.0, 3.0, 4.0]
    baseline = {"phase": ["baseline", *["canary"] * 6], "queue": [99.0, *values, None]}
    encoder = fit_encoder(["queue", "steps"], make_episodes({**baseline, "load": 1.0}))
    assert encoder.low.tolist() == [0.0, 0.0]
    assert encoder.center.tolist() == [2.0, 2.5]
    assert encoder.high.tolist() == [4.0, 5.0]
    # Quartiles 1 and 3 of queue, 1.25 and 3.75 of steps; 1.349 deviations lie between them.
    np.testing.assert_allclose(encoder.scale, [2 / 1.349, 2.5 / 1.349])


def test_a_widened_encoder_has_both_ranges_and_the_scale_it_had(make_episodes):
    encoder = fit_encoder(
        ["queue", "load"], make_episodes({"queue": [1.0, 3.0], "load": [NAN] * 2})
    )
    wider = encoder.widened(np.array([[2.0, NAN], [5.0, 0.5], [NAN, 0.7]]))
    assert wider.low.tolist() == [1.0, 0.5]
    assert wider.high.tolist() == [5.0, 0.7]
    assert (wider.center.tolist(), wider.scale.tolist()) == (
        encoder.center.tolist(),
        encoder.scale.tolist(),
    )
    assert wider.untaught == ()


def test_a_metric_that_hardly_moves_or_never_comes_still_has_a_scale(make_episodes):
    # 1 of 100 values is 1, the others 0: quartiles 0 and 0, deviation sqrt(0.01 * 0.99).
    columns = {"rare": [1.0, *[0.0] * 99], "still": 7.0, "never": [None] * 100}
    encoder = fit_encoder(["rare", "still", "never"], make_episodes(columns))
    np.testing.assert_allclose(encoder.scale, [np.sqrt(0.0099) / 10, 1.0, 1.0])
    assert encoder.center.tolist() == [0.0, 7.0, 0.0]
    assert np.isnan([encoder.low[2], encoder.high[2]]).all()


@settings(max_examples=30)
@given(st.lists(releases(), min_size=1, max_size=3), st.data())
def test_encoders_survive_being_written_as_json(episodes, data):
    rows = [{"episode_id": str(i), **row} for i, rows in enumerate(episodes) for row in rows]
    frame = pd.DataFrame(rows)
    numeric = [name for name in frame if name not in ("episode_id", "phase")]
    encoder = fit_encoder(STATE, episodes_of_frame(frame.astype(dict.fromkeys(numeric, float))))
    back = StateEncoder.from_dict(json.loads(json.dumps(encoder.as_dict(), allow_nan=False)))
    assert back.state == encoder.state
    for name in ("center", "scale", "low", "high"):
        np.testing.assert_array_equal(getattr(back, name), getattr(encoder, name))
    assert (back.scale > 0).all()
    assert np.isfinite(back.standardise(encoded(*episodes))).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": ["label"]}, "label cannot be state"),
        ({"state": ["queue", "load"]}, "differ in length"),
        ({"scale": [0.0]}, "scale above 0"),
        ({"scale": [None]}, "scale above 0"),
        ({"center": [None]}, "center must be finite"),
        ({"center": ["x"]}, "missing or malformed"),
        ({"low": []}, "differ in length"),
        ({"high": 3}, "missing or malformed"),
    ],
)
def test_an_inconsistent_encoder_is_refused(make_episodes, change, says):
    plain = fit_encoder(["queue"], make_episodes({"queue": [1.0, 2.0]})).as_dict()
    with pytest.raises(DeployError, match=says):
        StateEncoder.from_dict({**plain, **change})
    del plain[next(iter(change))]
    with pytest.raises(DeployError, match="missing or malformed"):
        StateEncoder.from_dict(plain)
