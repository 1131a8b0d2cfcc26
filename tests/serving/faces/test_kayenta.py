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
"""Kayenta's remote judge: what it sends, and what Spinnaker makes of the answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.serving.faces.kayenta_request import JudgeRequest, Thresholds
from oumi_deploy.serving.faces.kayenta_result import score_of
from oumi_deploy.serving.faces.kayenta_rows import observations_of
from oumi_deploy.serving.schema import Answer

START = 1795371120000
MINUTE = 60_000
THRESHOLDS = {"pass": 75, "marginal": 50}


def scope(start: int = START, step: int = MINUTE) -> dict:
    return {"startTimeIso": "2026-11-22T18:12:00Z", "startTimeMillis": start, "stepMillis": step}


def pair(name: str, experiment: list, control: list, control_start: int = START) -> dict:
    return {
        "name": name,
        "id": f"id of {name}",
        "tags": {},
        "values": {"control": control, "experiment": experiment},
        "scopes": {"control": scope(control_start), "experiment": scope()},
        "attributes": {"control": {"query": "..."}, "experiment": {"query": "..."}},
    }


def request(*pairs: dict, **config) -> dict:
    given = {"name": "shop config", "applications": ["shop"], "judge": {"name": "RemoteJudge-v1.0"}}
    return {
        "canaryConfig": {**given, **config},
        "scoreThresholds": THRESHOLDS,
        "metricSetPairList": list(pairs),
    }


def rows_of(*pairs: dict, **config) -> list[dict]:
    return observations_of(JudgeRequest.model_validate_json(json.dumps(request(*pairs, **config))))


def judge(client, *pairs: dict, **config) -> dict:
    response = client.post("/judge", json=request(*pairs, **config))
    assert response.status_code == 200, response.text
    return response.json()


def metric(name: str, groups=("errors",), **analysis) -> dict:
    return {"name": name, "groups": list(groups), "analysisConfigurations": analysis}


class Spinnaker:
    """What Spinnaker's canary stage does: it reads the score and not its class."""

    @staticmethod
    def stops(score: float) -> bool:
        return score <= THRESHOLDS["marginal"]

    @staticmethod
    def passes_in_the_end(score: float) -> bool:
        return score >= THRESHOLDS["pass"]


@pytest.mark.parametrize(
    ("experiment", "requests", "classification"),
    [
        ([0.01] * 3, [500] * 3, "Pass"),
        ([0.01] * 3, [3] * 3, "Marginal"),
        ([0.01, 0.6, 0.7], [500] * 3, "Fail"),
    ],
)
def test_the_class_and_what_spinnaker_makes_of_the_score(
    serve, experiment, requests, classification
):
    said = judge(
        serve(), pair("error_rate", experiment, [0.01] * 3), pair("requests", requests, [500] * 3)
    )
    assert said["score"]["classification"] == classification
    score = said["score"]["score"]
    assert Spinnaker.stops(score) == (classification == "Fail")
    assert Spinnaker.passes_in_the_end(score) == (classification == "Pass")


@given(
    risk=st.floats(0, 1),
    marginal=st.floats(0.5, 98),
    width=st.floats(0.5, 50),
    decision=st.sampled_from(["CONTINUE", "PAUSE", "ROLLBACK"]),
)
def test_every_score_lies_in_the_band_of_its_answer(risk, marginal, width, decision):
    best = min(100.0, marginal + width)
    thresholds = Thresholds.model_validate({"pass": best, "marginal": marginal})
    answer = Answer.model_construct(decision=decision, risk=risk)
    score = score_of(answer, thresholds)
    assert 0 <= score <= 100
    assert (score <= marginal) == (decision == "ROLLBACK")
    assert (score >= best) == (decision == "CONTINUE")


def test_the_answer_has_the_shape_that_kayenta_reads(serve):
    said = judge(
        serve(),
        pair("error_rate", [0.01, 0.6], [0.01, 0.02]),
        pair("p99", [], [0.2, "NaN"]),
        metrics=[
            metric("error_rate", canary={"critical": True, "direction": "increase"}),
            metric("p99", ("errors", "speed")),
        ],
    )
    assert said.keys() == {"judgeName", "results", "groupScores", "score"}
    assert said["score"].keys() == {"score", "classification", "classificationReason"}
    failed, unseen = said["results"]
    assert failed.keys() == {
        *("name", "id", "tags", "classification", "classificationReason", "groups", "critical"),
        *("experimentMetadata", "controlMetadata", "resultMetadata", "muted"),
    }
    assert (failed["name"], failed["id"]) == ("error_rate", "id of error_rate")
    assert (failed["classification"], failed["critical"]) == ("High", True)
    assert failed["experimentMetadata"]["stats"]["max"] == 0.6
    assert unseen["classification"] == "Nodata"
    scores = {group["name"]: group["score"] for group in said["groupScores"]}
    assert scores == {"errors": 0.0, "speed": 0.0}


def test_no_metric_is_to_blame_where_the_canary_passes(serve):
    said = judge(serve(), pair("error_rate", [0.01] * 3, [0.3] * 3), metrics=[metric("error_rate")])
    assert said["results"][0]["classification"] == "Pass"
    assert said["groupScores"][0]["score"] == 100


def test_a_canary_without_data_is_held_and_not_passed(serve):
    # Kayenta 700 and 330: what nobody measured must not look well.
    said = judge(serve(), pair("error_rate", ["NaN"] * 3, [0.01] * 3))
    assert said["score"]["classification"] == "Marginal"
    assert said["results"][0]["classification"] == "Nodata"
    assert judge(serve(), pair("error_rate", [], []))["score"]["classification"] == "Marginal"


def test_where_one_judgement_is_all_there_is_a_person_must_decide(serve):
    judged = {}
    for last in (False, True):
        settings = {"judge": {"judgeConfigurations": {"last": last}}}
        said = judge(serve(), pair("error_rate", ["NaN"] * 2, [0.01] * 2), **settings)
        judged[last] = said["score"]
    assert {score["classification"] for score in judged.values()} == {"Marginal"}
    assert "PAUSE 2 of 5" in judged[False]["classificationReason"]
    assert "a person must decide" in judged[True]["classificationReason"]


def test_a_canary_that_stopped_reporting_is_not_judged_by_what_it_was(serve):
    said = judge(serve(), pair("error_rate", [0.01] * 3, [0.01] * 6))
    assert said["score"]["classification"] == "Marginal"


def test_a_baseline_of_zeros_hides_nothing(serve):
    # Kayenta 799: a mean ratio over zeros is no number.
    said = judge(serve(), pair("error_rate", [0.6] * 5, [0.0] * 5))
    assert said["score"]["classification"] == "Fail"
    assert "ratio" not in said["results"][0]["resultMetadata"]


def test_series_become_rows():
    rows = rows_of(
        pair("error_rate", [0.1, "NaN", 0.3], [0.01, 0.02]),
        pair("latency", [0.2], [0.1, 0.1, "Infinity"]),
    )
    assert rows == [
        {
            **{"timestamp": START / 1000, "phase": "canary"},
            **{"error_rate": 0.1, "control_error_rate": 0.01},
            **{"latency": 0.2, "control_latency": 0.1},
        },
        {
            **{"timestamp": START / 1000 + 60, "phase": "canary"},
            **{"error_rate": None, "control_error_rate": 0.02},
            **{"latency": None, "control_latency": 0.1},
        },
        {
            **{"timestamp": START / 1000 + 120, "phase": "canary"},
            **{"error_rate": 0.3, "latency": None, "control_latency": None},
        },
    ]


def test_a_canary_without_data_beside_a_control_is_missing_in_every_row():
    rows = rows_of(pair("error_rate", [], [0.01, 0.02]))
    assert [(row["error_rate"], row["control_error_rate"]) for row in rows] == [
        (None, 0.01),
        (None, 0.02),
    ]


def test_a_control_of_before_is_the_baseline():
    rows = rows_of(pair("error_rate", [0.3], [0.1, 0.2], control_start=START - 2 * MINUTE - 400))
    assert [(row["phase"], row["error_rate"]) for row in rows] == [
        ("baseline", 0.1),
        ("baseline", 0.2),
        ("canary", 0.3),
    ]
    assert rows[0]["timestamp"] == START / 1000 - 120


@given(
    st.lists(st.floats(0, 1) | st.just("NaN"), max_size=30),
    st.lists(st.floats(0, 1) | st.just("NaN"), max_size=30),
    st.integers(-40, 40),
)
def test_every_value_is_in_one_row_and_the_rows_are_in_order(experiment, control, shift):
    rows = rows_of(pair("error_rate", experiment, control, control_start=START + shift * MINUTE))
    phases = [row["phase"] for row in rows]
    assert phases == sorted(phases), "baseline rows come first"
    times = [row["timestamp"] for row in rows]
    assert times == sorted(set(times))
    assert "canary" in phases
    canary = [row["error_rate"] for row in rows if row["phase"] == "canary" and "error_rate" in row]
    assert canary[: len(experiment)] == [None if v == "NaN" else v for v in experiment]
    assert set(canary[len(experiment) :]) <= {None}, "the old version alone reports"
    others = [
        row[column]
        for row in rows
        for column in ("error_rate", "control_error_rate")
        if column in row and (column != "error_rate" or row["phase"] == "baseline")
    ]
    assert others == [None if v == "NaN" else v for v in control]


def test_a_metric_goes_by_the_policys_name_for_it(serve):
    said = judge(
        serve(),
        pair("5xx share", [0.01, 0.6], [0.01, 0.01]),
        metrics=[metric("5xx share", oumi_deploy={"metric": "error_rate"})],
    )
    assert said["score"]["classification"] == "Fail"
    assert said["results"][0]["classification"] == "High"


def test_a_muted_metric_moves_nothing(serve):
    said = judge(
        serve(),
        pair("error_rate", [0.01, 0.01], [0.01, 0.01]),
        pair("errors of a job", [9.0, 9.0], [0.0, 0.0]),
        metrics=[
            metric("error_rate"),
            metric("errors of a job", canary={"muted": True}, oumi_deploy={"metric": "error_rate"}),
        ],
    )
    assert said["score"]["classification"] == "Pass"
    assert said["results"][1]["muted"]


def test_the_config_and_the_start_name_the_rollout(serve):
    client = serve()
    told = {"judgeConfigurations": {"environment": "production", "version": "v7"}}
    for length in (1, 2, 3):
        judge(client, pair("error_rate", [0.01] * length, [0.01] * length), judge=told)
    decisions = client.get("/v1/decisions").json()["decisions"]
    names = {(d["service"], d["environment"], d["version"], d["rollout"]) for d in decisions}
    assert names == {("shop", "production", "v7", "2026-11-22T18:12:00+00:00")}
    assert len(decisions) == 3, "a growing window is one rollout, judged again"
    assert {d["asked_by"] for d in decisions} == {"kayenta"}


def test_a_window_of_yesterday_is_judged_as_it_was(serve):
    # It is over: that nothing was reported since is no missing telemetry.
    said = judge(serve(), pair("error_rate", [0.01] * 3, [0.01] * 3))
    assert said["score"]["classification"] == "Pass"


def test_shadow_mode_answers_the_configs_default(serve):
    client = serve(shadow=True)
    bad = pair("error_rate", [0.6] * 3, [0.01] * 3)
    assert judge(client, bad)["score"]["classification"] == "Pass"
    told = {"judgeConfigurations": {"default": "PAUSE"}}
    other = pair("error_rate", [0.7] * 3, [0.01] * 3)
    assert judge(client, other, judge=told)["score"]["classification"] == "Marginal"


GOOD = pair("error_rate", [0.1], [0.1])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (request(pair("error_rate", [4.5], [0.1])), "divide by 100"),
        (request(pair("error_rate", [0.1], [4.5])), "divide by 100"),
        (request(pair("error_rate", [-0.1], [0.1])), "error_rate"),
        (request(pair("timestamp", [1], [1])), "analysisConfigurations.oumi_deploy.metric"),
        (request(GOOD, GOOD), "two series of error_rate"),
        (request(pair("queue", [1], [1])), "names a metric of the policy's state (error_rate)"),
        (request(), "metricSetPairList"),
        (request(GOOD, applications=[], name=""), "applications"),
        (request(GOOD, judge={"judgeConfigurations": {"enviroment": "x"}}), "enviroment"),
        ({**request(GOOD), "scoreThresholds": {"pass": 75, "marginal": 75}}, "PAUSE"),
        ({**request(GOOD), "scoreThresholds": {"pass": 75}}, "marginal"),
        (request({**GOOD, "scopes": {}}), "scopes"),
        (request({**GOOD, "scopes": {"experiment": scope(step=0)}}), "stepMillis"),
        (
            request(
                *(
                    pair(f"m{i}", [1] * 900, []) | {"scopes": {"experiment": scope(START + i)}}
                    for i in range(3)
                )
            ),
            "2,700 times",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line_that_names_it(serve, body, named):
    response = serve().post("/judge", json=body)
    assert response.status_code == 422
    said = response.json()["error"]
    assert named in said
    assert "\n" not in said


def test_the_recipes_config_is_judged(serve, recipe):
    config = recipe("kayenta/canary-config.json")
    pairs = [pair(m["name"], [0.1] * 3, [0.1] * 3) for m in config["metrics"]]
    said = judge(serve(), *pairs, **config)
    assert {group["name"] for group in said["groupScores"]} == {
        *config["classifier"]["groupWeights"]
    }
    rows = rows_of(*pairs, **config)
    assert {"error_rate", "requests", "memory_usage"} <= rows[0].keys()


def test_the_recipes_sidecar_listens_where_kayenta_asks(recipe):
    url = recipe("kayenta/kayenta.yml")["kayenta"]["remoteJudge"]["endpoint"]["baseUrl"]
    (sidecar,) = recipe("kayenta/sidecar.yaml")["spec"]["template"]["spec"]["containers"]
    assert url == "http://127.0.0.1:8377"
    assert not any(arg.startswith(("--host", "--port")) for arg in sidecar["args"])
