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

"""A team's own limits, as the service names them to who asks, in the log and on the dashboard."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.guardrails import read_guardrails

LIMITS = [
    {"metric": "queue", "above": 100, "for": 2, "answer": "ROLLBACK"},
    {"metric": "queue", "above": 50, "answer": "PAUSE"},
]
NAMES = ["queue above 100 for 2 observations", "queue above 50"]


def save(policy, path, *limits, present=()):
    guardrails = read_guardrails({"limits": limits, "present": present})
    replace(policy, calibration=Calibration(0.0, 1.0, guardrails=guardrails)).save(path)


@pytest.fixture
def client(serve, policy, policy_file):
    save(policy, policy_file, *LIMITS)
    return serve()


def asked(client, rows, *queue: float, **more):
    observations = [
        row | {"queue": x} for row, x in zip(rows(*[0.1] * len(queue)), queue, strict=True)
    ]
    body = {"service": "shop", "observations": observations, "version": str(queue), **more}
    response = client.post("/v1/decide", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_names_the_guardrails_that_fired(client, rows):
    well = asked(client, rows, 5.0)
    assert (well["decision"], well["guardrails"]) == ("CONTINUE", [])
    held = asked(client, rows, 5.0, 120.0)
    assert (held["decision"], held["reasons"]) == ("PAUSE", ["guardrail"])
    assert held["guardrails"] == NAMES[1:]
    assert f"the guardrail {NAMES[1]} fired" in held["message"]
    back = asked(client, rows, 110.0, 120.0, explain=True)
    assert (back["decision"], back["guardrails"]) == ("ROLLBACK", NAMES)
    assert f"the guardrails {NAMES[0]} and {NAMES[1]} fired" in back["message"]
    assert NAMES[0] in back["explanation"]["sentence"]


def test_nothing_delays_a_rollback_that_a_guardrail_asks_for(serve, policy, policy_file, rows):
    save(policy, policy_file, *LIMITS)
    client = serve(explore=0.999, seed=1)
    said = asked(client, rows, 110.0, 120.0)
    assert (said["decision"], said["explored"]) == ("ROLLBACK", False)
    (logged,) = client.get("/v1/decisions").json()["decisions"]
    assert logged["propensity"] == 1, "nothing was drawn"


def test_the_log_and_the_dashboard_name_them_later(client, rows):
    answer = asked(client, rows, 5.0, 120.0)
    (logged,) = client.get("/v1/decisions", params={"service": "shop"}).json()["decisions"]
    assert logged["guardrails"] == NAMES[1:]
    (shown,) = client.get("/v1/rollouts").json()["rollouts"]
    assert shown["latest"]["id"] == answer["id"]
    assert f"the guardrail {NAMES[1]} fired" in shown["latest"]["why"]


def test_a_log_of_before_reads_as_one_without_guardrails(client, rows, tmp_path):
    asked(client, rows, 5.0, 120.0)
    with sa.create_engine(f"sqlite:///{tmp_path / 'log.db'}").begin() as connection:
        connection.execute(sa.text("UPDATE decisions SET guardrails = NULL"))
    (shown,) = client.get("/v1/rollouts").json()["rollouts"]
    assert "a guardrail fired" in shown["latest"]["why"]


def test_a_guardrail_on_what_is_not_collected_is_told_at_the_start(
    serve, policy, policy_file, tmp_path, caplog
):
    telemetry = tmp_path / "telemetry.toml"
    telemetry.write_text('url = "http://127.0.0.1:9"\n[queries]\nlag = "max(lag{{pods}})"\n')
    beside = {"compared_with": "control", "answer": "PAUSE"}
    limits = [
        {"metric": "lag", "above": 5, **beside},
        {"metric": "latency", "above": 5, **beside},
        {"metric": "n_pods", "below": 2, **beside},
    ]
    save(policy, policy_file, *limits, present=[{"metric": "error_rate"}, {"metric": "queue"}])
    serve(telemetry=telemetry)
    said = [r.getMessage() for r in caplog.records if "not collected" in r.getMessage()]
    assert [line.partition(": ")[2].partition(", which")[0] for line in said] == [
        "the guardrail latency above control + 5 reads latency and control_latency",
        "the guardrail n_pods below control + 2 reads control_n_pods",
        "the guardrail queue missing reads queue",
    ]
    caplog.clear()
    serve(telemetry=None)
    assert "not collected" not in caplog.text
