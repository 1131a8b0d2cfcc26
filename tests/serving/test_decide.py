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
"""What a caller is answered, and what is remembered of it."""

import math
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.serving.app import create_app
from oumi_deploy.serving.exploration import check_epsilon, choose, draw_for
from oumi_deploy.serving.settings import ServiceSettings

JSON = {"content-type": "application/json"}
FIELDS = {
    *("service", "environment", "version", "rollout", "id", "at", "decision", "confidence", "risk"),
    *("q_values", "reasons", "message", "policy_version", "observations", "explored", "shadow"),
    *("would_be", "logged", "explanation", "suspects", "guardrails"),
}


def logged(client, **wanted) -> list[dict]:
    page = client.get("/v1/decisions", params=wanted).json()
    return page["decisions"]


def numbers_of(value) -> list[float]:
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers_of(v)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_the_answer_is_the_policys(serve, ask, policy, rows):
    client = serve()
    for rates in ([0.1], [0.1, 0.5], [None], [None, None], [0.1, None]):
        said = ask(client, *rates, rollout=str(rates))
        alone = policy.decide(rows(*rates))
        assert (said["decision"], said["risk"]) == (alone.decision, alone.risk)
        assert said["confidence"] == alone.confidence
        assert said["q_values"] == alone.q_values
        assert tuple(said["reasons"]) == alone.reasons
        assert said["observations"] == len(rates)


def test_every_field_is_there_every_time_and_every_number_is_finite(serve, ask):
    client = serve()
    for rates in ([0.1], [0.5], [None, None]):
        said = ask(client, *rates, explain=True, rollout=str(rates))
        assert set(said) == FIELDS
        assert all(math.isfinite(n) for n in numbers_of(said))
        assert said["explanation"]["sentence"]
        assert said["decision"] in said["message"]


def test_a_rollout_is_read_on_where_it_was_left(serve, ask, rows):
    client = serve(interval=3600)
    seen = rows(0.1, 0.1, 0.1)
    for n in (1, 2, 3):
        body = {"service": "shop", "observations": seen[:n]}
        assert client.post("/v1/decide", json=body).json()["observations"] == n
    first, second, third = logged(client)[::-1]
    assert [len(d["observations"]) for d in (first, second, third)] == [1, 1, 1]
    assert (third["base"], third["kept"]) == (second["id"], 2)
    # A value that came late changes what was seen: what stands is kept, the rest is read again.
    changed = [seen[0], {**seen[1], "error_rate": 0.5}, seen[2]]
    said = client.post("/v1/decide", json={"service": "shop", "observations": changed}).json()
    newest = logged(client)[0]
    assert (newest["id"], newest["kept"], newest["observations"]) == (said["id"], 1, changed[1:])


def test_a_retry_is_one_decision(serve, rows):
    client = serve()
    body = {"service": "shop", "observations": rows(0.1, 0.2)}
    first, again = (client.post("/v1/decide", json=body).json() for _ in range(2))
    assert first == again
    assert len(logged(client)) == 1


def test_rollouts_are_told_apart_by_all_that_names_them(serve, rows):
    client = serve()
    names = ("service", "environment", "version", "rollout")
    observed = rows(0.1)
    for name in names:
        client.post("/v1/decide", json={"service": "a", name: "b", "observations": observed})
    assert len({d["id"] for d in logged(client)}) == 4
    (only,) = logged(client, version="b")
    assert (only["version"], only["service"]) == ("b", "a")


def test_decisions_are_paged_and_filtered(serve, ask):
    client = serve()
    for n in range(7):
        ask(client, 0.5 if n == 3 else 0.1, rollout=str(n))
    assert [d["rollout"] for d in logged(client, decision="ROLLBACK")] == ["3"]
    seen, cursor = [], None
    while True:
        wanted = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/decisions", params=wanted).json()
        seen += [d["rollout"] for d in page["decisions"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [str(n) for n in range(6, -1, -1)]


def test_a_newest_observation_that_is_too_old_is_missing_telemetry(serve, rows):
    client = serve(interval=60.0)

    def said(age: float) -> dict:
        body = {"service": f"aged {age}", "observations": rows(0.1, 0.1, age=age)}
        return client.post("/v1/decide", json=body).json()

    assert said(100)["decision"] == "CONTINUE"
    late = said(130)
    assert (late["decision"], late["reasons"]) == ("PAUSE", ["telemetry_missing"])
    assert late["confidence"] == max(late["risk"], 1 - late["risk"])
    assert "the newest observation is too old" in late["message"]


def test_doubt_says_which_decision_would_be_wrong_too_often(serve, policy, policy_file, ask):
    doubtful = Calibration(0.0, 1.0, pauses=PauseRules(max_doubt=1e-6))
    replace(policy, calibration=doubtful).save(policy_file)
    client = serve()
    good, bad = (ask(client, rate, rollout=str(rate)) for rate in (0.1, 0.9))
    assert good["reasons"] == bad["reasons"] == ["doubt"]
    assert "rather wait, but the risk is above" in good["message"]
    assert "rather roll back, but the risk is below" in bad["message"]


def test_missing_telemetry_is_told_as_what_it_is(serve, ask, rows):
    client = serve(interval=60.0)
    assert "no metric has a value in the newest" in ask(client, 0.1, None)["message"]
    # Asked with nothing new, and again for the last time: when it was observed stays as it was.
    stuck = {"service": "stuck", "observations": rows(0.1, age=130)}
    for last in (False, True):
        said = client.post("/v1/decide", json={**stuck, "last": last}).json()
        assert "telemetry_missing" in said["reasons"]
        assert "no metric has a value" not in said["message"]


@pytest.mark.parametrize("last", [False, True])
def test_a_pipeline_that_is_late_rolls_nothing_back(serve, rows, last):
    client = serve(interval=60.0)
    for rates in ([0.1], [0.1, None, None, None, None]):
        body = {"service": str(rates), "observations": rows(*rates, age=86_400), "last": last}
        said = client.post("/v1/decide", json=body).json()
        assert said["decision"] == "PAUSE", rates
        assert "held_for_a_person" in said["reasons"]
    # What the policy rolls back on stands, however late it is seen.
    body = {"service": "bad", "observations": rows(0.1, 0.5, age=86_400)}
    assert client.post("/v1/decide", json=body).json()["decision"] == "ROLLBACK"


def test_without_an_observation_there_is_one_without_a_value(serve):
    client = serve()
    for observed in ([], [{"phase": "baseline", "error_rate": 0.01}]):
        body = {"service": "new", "observations": observed}
        said = client.post("/v1/decide", json=body).json()
        assert (said["decision"], said["observations"]) == ("PAUSE", 1)


def test_shadow_mode_answers_the_default_and_logs_the_decision(serve, ask):
    client = serve(shadow=True)
    said = ask(client, 0.5)
    assert (said["decision"], said["would_be"], said["shadow"]) == ("CONTINUE", "ROLLBACK", True)
    # A condition on the confidence must not let the worst releases through.
    assert said["confidence"] == 1 - said["risk"] < 0.5
    assert ask(client, 0.6, default="PAUSE")["decision"] == "PAUSE"
    newest, first = logged(client)
    assert (first["decision"], first["answered"]) == ("ROLLBACK", "CONTINUE")
    assert (newest["answered"], newest["shadow"]) == ("PAUSE", True)


def test_exploration_turns_a_rollback_into_a_pause_with_its_probability():
    drawn = [choose("ROLLBACK", 0.25, draw_for(f"{i:x}", 0)) for i in range(4000)]
    share = sum(c.explored for c in drawn) / 4000
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    for choice in drawn:
        assert (choice.decision, choice.propensity) == (
            ("PAUSE", 0.25) if choice.explored else ("ROLLBACK", 0.75)
        )
    for kept in ("CONTINUE", "PAUSE"):
        assert {choose(kept, 0.9, draw_for(str(i), 0)).decision for i in range(50)} == {kept}


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_an_epsilon_that_is_no_probability_is_refused(epsilon):
    with pytest.raises(DeployError, match="--explore"):
        check_epsilon(epsilon)


def test_explored_pauses_are_logged_and_do_not_count_towards_the_limit(serve, rows):
    client = serve(explore=0.999, seed=1, interval=3600)
    seen = rows(*[0.5] * 8)
    answers = []
    for n in range(1, 9):
        body = {"service": "shop", "observations": seen[:n]}
        answers.append(client.post("/v1/decide", json=body).json())
    assert {a["decision"] for a in answers} == {"PAUSE"}
    assert all(a["explored"] and a["reasons"] == ["explored"] for a in answers)
    assert {d["propensity"] for d in logged(client)} == {0.999}
    assert {d["preferred"] for d in logged(client)} == {"ROLLBACK"}


def test_a_retry_does_not_draw_again(serve, rows):
    client = serve(explore=0.5, seed=3)
    body = {"service": "shop", "observations": rows(0.5)}
    assert len({client.post("/v1/decide", json=body).json()["decision"] for _ in range(20)}) == 1


def test_nothing_is_explored_in_shadow_mode(policy_file):
    with pytest.raises(DeployError, match="shadow mode"):
        ServiceSettings(policy=policy_file, shadow=True, explore=0.1)


def test_an_uncalibrated_policy_is_refused(policy, tmp_path):
    path = tmp_path / "bare.json"
    replace(policy, calibration=None).save(path)
    log = f"sqlite:///{tmp_path / 'log.db'}"
    with pytest.raises(DeployError, match="not calibrated"):
        create_app(ServiceSettings(policy=path, log=log))


def test_a_new_policy_is_taken_up_and_a_bad_one_is_not(serve, ask, policy, policy_file):
    client = serve()
    before = ask(client, 0.1)["policy_version"]
    policy_file.write_text(policy_file.read_text()[:-100])
    said = client.post("/v1/policy/reload").json()
    assert (said["changed"], said["version"]) == (False, before)
    assert "truncated or not JSON" in said["refused"]
    assert ask(client, 0.1)["policy_version"] == before
    hasty = replace(policy.q_function, edges=[np.array([0.05])])
    replace(policy, q_function=hasty).save(policy_file)
    said = client.post("/v1/policy/reload").json()
    assert (said["changed"], said["refused"]) == (True, None)
    after = ask(client, 0.1)
    assert after["policy_version"] == said["version"] != before
    assert after["decision"] == "ROLLBACK"
    assert DeploymentPolicy.load(policy_file).decide([{"error_rate": 0.1}]).decision == "ROLLBACK"


def test_a_policy_file_that_breaks_the_parser_is_refused_and_mended_without_a_call(
    serve, ask, policy, policy_file, monkeypatch
):
    monkeypatch.setattr("oumi_deploy.serving.app.LOOK_AGAIN", 0.05)
    client = serve()
    before = ask(client, 0.1)["policy_version"]

    def state() -> dict:
        return client.get("/v1/state").json()["policy"]

    for broken in ("[" * 200_000, "", "null", '{"format": 7}'):
        policy_file.write_text(broken)
        assert until(lambda: state()["refused"] is not None), broken[:10]
        assert state()["version"] == before
        policy.save(policy_file)
        assert until(lambda: state()["refused"] is None)
    replace(policy, discount=0.5).save(policy_file)
    assert until(lambda: state()["version"] != before)


def until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_rollout_whose_log_was_cleared_is_logged_anew(serve, rows, tmp_path):
    client = serve(interval=3600)
    seen = rows(0.1, 0.1, 0.2)
    client.post("/v1/decide", json={"service": "shop", "observations": seen[:2]})
    with sqlite3.connect(tmp_path / "log.db") as other:
        other.execute("DELETE FROM decisions")
        other.execute("DELETE FROM rollouts")
    other.close()
    said = client.post("/v1/decide", json={"service": "shop", "observations": seen}).json()
    assert (said["decision"], said["logged"]) == ("CONTINUE", True)
    whole = client.get(f"/v1/decisions/{said['id']}/inputs").json()
    assert [o["error_rate"] for o in whole] == [0.1, 0.1, 0.2]


def test_an_outcome_counts_once_until_another_is_said(serve):
    client = serve()
    told = {"service": "shop", "version": "v2", "label": "bad", "source": "review", "by": "ann"}
    first, again = (client.post("/v1/outcomes", json=told).json() for _ in range(2))
    assert (first["new"], again["new"]) == (True, False)
    assert first["id"] == again["id"]
    assert client.post("/v1/outcomes", json={**told, "label": "good"}).json()["new"]
    assert client.post("/v1/outcomes", json=told).json()["new"]
    labels = [o["label"] for o in client.get("/v1/outcomes?service=shop&version=v2").json()]
    assert labels == ["bad", "good", "bad"]


def test_one_incident_of_two_services_is_two_outcomes(serve):
    client = serve()
    told = {"label": "bad", "source": "incident", "id": "INC-1"}
    for service in ("cart", "checkout"):
        assert client.post("/v1/outcomes", json={**told, "service": service}).json()["new"]
        assert not client.post("/v1/outcomes", json={**told, "service": service}).json()["new"]


def test_an_outcome_finds_the_newest_try_and_says_whether_it_found_one(serve, ask):
    client = serve()
    for number in ("1", "2"):
        ask(client, 0.1, version="v2", rollout=number)
    told = {"service": "shop", "version": "v2", "label": "bad", "source": "review"}
    assert client.post("/v1/outcomes", json=told).json()["matched"]
    found = client.get("/v1/outcomes?service=shop&version=v2&rollout=2").json()
    assert [o["label"] for o in found] == ["bad"]
    assert not client.post("/v1/outcomes", json={**told, "version": "v3"}).json()["matched"]


def test_a_misspelt_filter_is_refused(serve):
    refused = serve().get("/v1/decisions", params={"servce": "x"})
    assert refused.status_code == 422
    assert "servce" in refused.json()["error"]
    assert serve().get("/v1/nothing").json() == {"error": "Not Found"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "Invalid JSON"),
        ('{"service": "a", "observations": [{"error_rate": NaN}]}', "finite number"),
        ('{"service": "a", "observations": [{"error_rate": "high"}]}', "not a number"),
        ('{"service": "a", "observations": [{"error_rate": 3}]}', "3 is not in 0..1"),
        ('{"service": "a", "observations": [{"error_rate": true}]}', "observations.0.error_rate"),
        ('{"service": "a", "observations": [[1]]}', "observations.0"),
        ('{"service": "a", "obervations": []}', "obervations: Extra inputs"),
        ('{"observations": []}', "service: Field required"),
        ('{"service": "a\\u0000b", "observations": []}', "service"),
        ('{"service": "a"}', "--telemetry"),
        (
            '{"service": "a", "observations": [{"erorr_rate": 0.1}]}',
            "no observation names a metric",
        ),
        ('{"service": "a", "observations": [{"x": ' + "[" * 5000 + "]" * 5000 + "}]}", "ecursion"),
    ],
)
def test_bad_input_is_refused_in_one_line(serve, body, says):
    client = serve()
    response = client.post("/v1/decide", content=body, headers=JSON)
    assert response.status_code == 422
    error = response.json()["error"]
    assert says in error
    assert "\n" not in error
    assert logged(client) == []
