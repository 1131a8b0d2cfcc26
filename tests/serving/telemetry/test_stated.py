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

"""What a caller states of its rollout: how long it is planned to be, and its share of traffic."""

import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.encoder import StateEncoder
from oumi_deploy.problem.state import parse_state
from oumi_deploy.serving.telemetry.prometheus import connect

FINE, DUBIOUS = 0.01, 0.2
"""An error rate to go on with, and one to watch while there is another look to come."""


@pytest.fixture
def planner(error_policy):
    """Knows its plan: watches a dubious release, and rolls it back at the last look.

    It was trained on shares of 0.05 to 0.5.
    """
    state = parse_state(["error_rate", "planned_share", "canary_share"])
    low, high = np.array([0.0, 0.0, 0.05]), np.array([1.0, 1.0, 0.5])
    go, wait, back = [40.0, -40.0], [30.0, 10.0], [0.0, 10.0]
    # By planned share: not the last look, the last, unknown; by canary share: known or not.
    dubious = [wait, wait, back, back, wait, wait]
    table = np.array([*[go] * 6, *dubious, *[[-150.0, 80.0]] * 6, *[[20.0, -30.0]] * 6])
    edges = [np.array([0.1, 0.4]), np.array([0.999]), np.empty(0)]
    return replace(
        error_policy,
        encoder=StateEncoder(state, np.zeros(3), np.ones(3), low, high, directions_of(state, {})),
        q_function=TableQ(edges, table, np.ones_like(table)),
        calibration=Calibration(0.0, 1.0),
    )


@pytest.fixture
def planned(serve, planner, policy_file):
    planner.save(policy_file)
    return serve(interval=3600)


def send(client, seen, **stated):
    response = client.post("/v1/decide", json={"service": "shop", "observations": seen, **stated})
    assert response.status_code == 200, response.text
    return response.json()


def inputs(client, said):
    return client.get(f"/v1/decisions/{said['id']}/inputs").json()


def test_at_the_last_look_the_policy_knows_that_nothing_follows(planned, planner, rows):
    seen = rows(DUBIOUS, DUBIOUS)
    assert send(planned, seen)["decision"] == "PAUSE"
    last = send(planned, seen, last=True)
    told = [seen[0], {**seen[1], "planned_steps": 2}]
    assert last["decision"] == planner.decide(told).decision == "ROLLBACK"
    assert last["q_values"] == planner.decide(told).q_values
    assert last["reasons"] == [], "it is no watch that ended"
    assert inputs(planned, last) == told, "a decision rests on what is logged, and on nothing else"
    assert send(planned, rows(FINE), last=True, rollout="2")["decision"] == "CONTINUE"


def test_the_command_line_answers_at_the_last_look_as_the_service_does(
    planned, policy_file, rows, monkeypatch, capsys
):
    for rates in ([DUBIOUS], [DUBIOUS, DUBIOUS], [FINE]):
        seen = [{"phase": "baseline", "error_rate": FINE}, *rows(*rates)]
        said = send(planned, seen, last=True, rollout=str(rates))
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(seen)))
        assert main(["decide", "--policy", str(policy_file), "--last"]) == 0
        alone = json.loads(capsys.readouterr().out)
        assert (alone["decision"], alone["q_values"]) == (said["decision"], said["q_values"])


@pytest.mark.parametrize("text", ["[]", "{}", "[1]", '"no"', '[{"phase": "baseline"}]'])
def test_the_command_line_refuses_in_one_line_what_has_no_last_look(
    policy_file, monkeypatch, capsys, text
):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["decide", "--policy", str(policy_file), "--last"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "observation" in line


def test_a_plan_is_known_from_the_first_look_on(planned, planner, rows):
    seen = [{"phase": "baseline", "error_rate": FINE}, *rows(DUBIOUS, DUBIOUS, DUBIOUS)]
    told = [seen[0], *({**o, "planned_steps": 3} for o in seen[1:])]
    for n, decision in ((2, "PAUSE"), (3, "PAUSE"), (4, "ROLLBACK")):
        said = send(planned, seen[:n], planned_steps=3)
        assert said["decision"] == planner.decide(told[:n]).decision == decision
        assert inputs(planned, said) == told[:n]
    newest = planned.get("/v1/decisions").json()["decisions"][0]
    assert (newest["kept"], len(newest["observations"])) == (3, 1), "it is read on, not anew"


def test_an_observation_that_tells_its_plan_is_believed(planned, rows):
    first, second = rows(DUBIOUS, DUBIOUS)
    seen = [{**first, "planned_steps": None}, {**second, "planned_steps": 2}]
    said = send(planned, seen, planned_steps=9)
    assert [o["planned_steps"] for o in inputs(planned, said)] == [9, 2]
    assert said["decision"] == "ROLLBACK"


@pytest.mark.parametrize("rates", [[0.1], [0.5], [0.1, None], [None, None]])
def test_a_policy_that_knows_no_plan_answers_as_before(serve, policy, rows, rates):
    client, seen = serve(), rows(*rates)
    alone = policy.decide(seen, last=True)
    for stated in ({"last": True}, {"planned_steps": len(seen)}):
        said = send(client, seen, rollout=str(stated), **stated)
        assert (said["decision"], said["risk"]) == (alone.decision, alone.risk)
        assert said["q_values"] == alone.q_values
        assert tuple(said["reasons"]) == alone.reasons
    assert send(client, seen, planned_steps=99)["decision"] == policy.decide(seen).decision


@pytest.mark.parametrize(
    "stated",
    [
        *({"planned_steps": n} for n in (0, -1, 1.5, True, "many")),
        *({"canary_share": x} for x in (-0.1, 1.1, "half")),
    ],
)
def test_what_cannot_be_so_is_refused_and_named(planned, rows, stated):
    refused = planned.post("/v1/decide", json={"service": "a", "observations": rows(0.1), **stated})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(next(iter(stated)))


@pytest.fixture
def measured(serve, planner, policy_file, tmp_path, fake, monkeypatch):
    """Collects a canary that was given half of the traffic, and had a little more of the requests.

    `measured(0.48, 0.52)` returns a client after as many minutes.
    """
    planner.save(policy_file)
    (tmp_path / "telemetry.toml").write_text(
        'url = "http://prometheus.example"\nbaseline = "0s"\nsettle = "0s"\n[queries]\n'
        + "".join(
            f"{metric} = 'sum({metric}{{{{traffic}}}})'\n"
            for metric in ("error_rate", "canary_share")
        )
        + "".join(
            f"{metric} = false\n"
            for metric in ("requests", "memory_usage", "cpu_usage", "health_score", "n_pods")
        )
    )
    begun = time.time() // 60 * 60 - 3600

    def start(*shares):
        def points(*values):
            return [{"metric": {}, "values": [[begun + 60 * k + 60, str(v)] for k, v in values]}]

        server = fake(
            {
                'error_rate{namespace="prod",pod=~"shop-v2': points(
                    *((k, FINE) for k in range(len(shares)))
                ),
                "canary_share": points(*enumerate(shares)),
            }
        )
        monkeypatch.setattr(
            "oumi_deploy.serving.collected.connect", lambda s: connect(s, server.transport)
        )
        return serve(telemetry=tmp_path / "telemetry.toml")

    def ask(client, minutes, **stated):
        monkeypatch.setattr(
            "oumi_deploy.serving.engine.time.time", lambda: begun + 60 * minutes + 1
        )
        named = {"service": "shop", "environment": "prod", "version": "v2", "started_at": begun}
        response = client.post("/v1/decide", json={**named, **stated})
        assert response.status_code == 200, response.text
        return response.json()

    return start, ask


def shares(client, said):
    return [o["canary_share"] for o in inputs(client, said)]


def test_the_share_that_is_stated_wins_over_the_one_that_requests_show(measured):
    start, ask = measured
    client = start(0.48, 0.52)
    assert shares(client, ask(client, 2)) == [0.48, 0.52]
    assert shares(client, ask(client, 2, canary_share=0.5)) == [0.48, 0.5]


def test_more_requests_than_the_share_of_the_traffic_is_no_reason_to_wait(measured):
    start, ask = measured
    said = ask(start(0.48, 0.52), 2)
    assert (said["decision"], said["reasons"]) == ("CONTINUE", [])


def test_a_share_that_was_stated_stays_with_its_observation(measured):
    start, ask = measured
    client = start(0.09, 0.11, 0.27)
    first = ask(client, 1, canary_share=0.1)
    # The tool raises the share and asks again, before there is another observation.
    assert ask(client, 1, canary_share=0.25)["id"] == first["id"]
    assert shares(client, ask(client, 2, canary_share=0.25)) == [0.1, 0.25]
    newest = ask(client, 3, canary_share=0.25)
    assert shares(client, newest) == [0.1, 0.25, 0.25]
    logged = client.get("/v1/decisions").json()["decisions"][0]
    assert (logged["id"], logged["kept"]) == (newest["id"], 2)


def test_a_share_that_was_stated_outlasts_questions_that_do_not_state_it(measured):
    start, ask = measured
    client = start(0.09, 0.11, 0.27)
    ask(client, 1, canary_share=0.1)
    assert shares(client, ask(client, 2)) == [0.1, 0.11]
    assert shares(client, ask(client, 3, last=True)) == [0.1, 0.11, 0.27]
    assert shares(client, ask(client, 3, canary_share=0.25)) == [0.1, 0.11, 0.25]


def test_a_share_that_was_stated_outlasts_a_restart(measured):
    start, ask = measured
    for minutes, stated in ((1, {"canary_share": 0.1}), (2, {"canary_share": 0.25}), (3, {})):
        said = ask(start(0.09, 0.11, 0.27), minutes, **stated)
    client = start(0.09, 0.11, 0.27)
    assert shares(client, said) == [0.1, 0.25, 0.27]
    again = ask(client, 3)
    assert again["id"] == said["id"], "the same question again is the same decision"
    assert shares(client, ask(client, 3, canary_share=0.5)) == [0.1, 0.25, 0.5]


def test_a_share_that_nobody_stated_may_be_sent_anew(planned, rows):
    seen = [{**row, "canary_share": 0.1} for row in rows(FINE, FINE)]
    send(planned, seen[:1])
    said = send(planned, [{**seen[0], "canary_share": 0.2}, seen[1]], canary_share=0.3)
    assert shares(planned, said) == [0.2, 0.3]


def test_a_share_that_was_stated_outlasts_a_look_that_sees_less(planned, rows):
    seen = rows(FINE, FINE, FINE)
    send(planned, seen[:2], canary_share=0.2)
    send(planned, seen[:1])
    said = send(planned, seen)
    assert [o.get("canary_share") for o in inputs(planned, said)] == [None, 0.2, None]
