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
"""Flagger's webhooks: what each means by 200, and that no other thing ever says it."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oumi_deploy.serving.auth import read_tokens
from oumi_deploy.serving.guard import right_for
from oumi_deploy.serving.log.entries import LogUnavailable
from oumi_deploy.serving.log.writer import DecisionLog
from oumi_deploy.serving.telemetry.queries import ReleaseName, queries_of_new, queries_of_old
from oumi_deploy.serving.telemetry.settings_file import read_telemetry

ROOT = Path(__file__).parents[3]

PASSES = {
    "pre-rollout": {"CONTINUE", "PAUSE"},
    "rollout": {"CONTINUE", "PAUSE"},
    "confirm-traffic-increase": {"CONTINUE"},
    "confirm-promotion": {"CONTINUE"},
    "rollback": {"ROLLBACK"},
}
WORDS = ("CONTINUE", "PAUSE", "ROLLBACK")
CALL = {"name": "podinfo", "namespace": "test", "phase": "Progressing", "checksum": "85d557f47b"}
NAME = {"service": "podinfo", "environment": "test", "version": "", "rollout": "85d557f47b"}


def call(client, hook, **body):
    return client.post(f"/v1/flagger/{hook}", json={**CALL, **body})


def outcomes(client) -> list[dict]:
    return client.get("/v1/outcomes", params=NAME).json()


@pytest.mark.parametrize("decision", WORDS)
@pytest.mark.parametrize("hook", PASSES)
def test_each_hook_succeeds_with_its_own_answers_alone(serve, see, hook, decision):
    see(decision)
    response = call(serve(), hook)
    # Flagger takes 200 to 202 for success, and retries 429 and 5xx without showing their text.
    assert response.status_code == (200 if decision in PASSES[hook] else 409)
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text.startswith(decision)


def test_the_checksum_names_the_rollout(serve, telemetry):
    client = serve()
    call(client, "rollback", metadata={"version": "6.0.1"})
    name = {**NAME, "version": "6.0.1"}
    (logged,) = client.get("/v1/decisions", params=name).json()["decisions"]
    assert logged["asked_by"] == "flagger"


def test_where_it_confirms_the_promotion_flagger_asks_until_that_succeeds(serve, see):
    see("PAUSE")
    client = serve()
    for hook in ("confirm-traffic-increase", "confirm-promotion"):
        call(client, hook)
    promotes, raises = client.get("/v1/decisions").json()["decisions"]
    assert (raises["last"], raises["asks_again"]) == (False, False)
    assert (promotes["last"], promotes["asks_again"]) == (True, True)
    assert promotes["reasons"] == ["few_requests"], "it waits, and is not held for a person"


def test_fields_that_newer_versions_send_do_not_stop_a_rollout(serve, telemetry):
    told = {"type": "rollout", "canaryWeight": 20, "metadata": {"type": "cmd", "cmd": "hey"}}
    assert call(serve(), "rollout", **told).status_code == 200


class TestRollback:
    """200 on the rollback hook rolls back at once: nothing but a logged ROLLBACK says it."""

    @pytest.fixture
    def client(self, serve, telemetry):
        return serve()

    def test_not_in_shadow_mode(self, serve, see):
        see("ROLLBACK")
        response = call(serve(shadow=True), "rollback")
        assert response.status_code == 409
        assert response.text.startswith("ROLLBACK"), "it says what it would have done"

    def test_unless_the_caller_says_so_itself(self, serve, see):
        see("CONTINUE")
        client = serve(shadow=True)
        assert call(client, "rollback", metadata={"default": "ROLLBACK"}).status_code == 200
        # What one hook is told to answer is not what another one answers.
        assert call(client, "rollback").status_code == 409
        assert call(client, "rollout").status_code == 200

    def test_not_with_a_decision_that_is_not_in_the_log(self, serve, see, monkeypatch):
        async def away(self, entry):
            raise LogUnavailable("the database is away")

        monkeypatch.setattr(DecisionLog, "record", away)
        see("ROLLBACK")
        assert call(serve(), "rollback").status_code == 409
        shadow = serve(shadow=True)
        assert call(shadow, "rollback", metadata={"default": "ROLLBACK"}).status_code == 409

    def test_not_when_a_rollback_is_explored_away(self, serve, see):
        see("ROLLBACK")
        client = serve(explore=0.999999, seed=1)
        assert call(client, "rollback").status_code == 409
        assert call(client, "rollout").status_code == 200, "and no check fails for it"

    def test_not_when_nothing_can_be_seen(self, serve, telemetry):
        telemetry.is_away = True
        response = call(serve(), "rollback")
        assert response.status_code == 409
        assert "cannot be collected" in response.text

    def test_not_without_telemetry(self, serve):
        assert call(serve(), "rollback").status_code == 422

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    @given(
        body=st.recursive(
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([*CALL, "metadata", "version", "default", "timestamp"])
                    | st.text(),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=12,
        )
    )
    def test_not_for_any_body_while_the_release_is_well(self, client, body):
        response = client.post("/v1/flagger/rollback", json=body)
        assert 400 <= response.status_code < 500
        assert response.status_code != 429


class TestConfirmRollout:
    """A rollout begins once there can be decisions on it."""

    def test_it_waits_for_no_observation(self, serve, see):
        see("PAUSE")
        assert call(serve(), "confirm-rollout", phase="Waiting").status_code == 200

    def test_without_telemetry_it_says_what_is_missing(self, serve):
        response = call(serve(), "confirm-rollout")
        assert response.status_code == 409
        assert "--telemetry" in response.text

    def test_without_a_log_it_says_so(self, serve, telemetry, monkeypatch):
        state = {"writable": False, "spooled": 0, "error": "disk full"}
        monkeypatch.setattr(DecisionLog, "state", lambda self: state)
        response = call(serve(), "confirm-rollout")
        assert response.status_code == 409
        assert "disk full" in response.text


class TestOutcome:
    """The post-rollout hook labels a release, as far as it shows what the release is."""

    @pytest.mark.parametrize(
        ("last_word", "phase", "label"),
        [
            ("CONTINUE", "Succeeded", "good"),
            ("CONTINUE", "Failed", "bad"),
            ("PAUSE", "Failed", "bad"),
            ("ROLLBACK", "Failed", None),
            (None, "Failed", "bad"),
            ("CONTINUE", "Terminating", None),
        ],
    )
    def test_the_label(self, serve, see, last_word, phase, label):
        client = serve()
        if last_word is not None:
            see(last_word)
            call(client, "rollback")
        assert call(client, "post-rollout", phase=phase).status_code == 200
        (told,) = outcomes(client)
        assert (told["label"], told["source"]) == (label, "flagger")

    def test_what_was_only_said_in_shadow_mode_rolled_nothing_back(self, serve, see):
        see("ROLLBACK")
        client = serve(shadow=True)
        call(client, "rollback")
        call(client, "post-rollout", phase="Failed")
        assert outcomes(client)[0]["label"] == "bad"

    def test_a_retry_counts_once(self, serve, telemetry):
        client = serve()
        for _ in range(3):
            assert call(client, "post-rollout", phase="Succeeded").status_code == 200
        assert len(outcomes(client)) == 1

    def test_an_outcome_that_cannot_be_logged_is_asked_for_again(
        self, serve, telemetry, monkeypatch
    ):
        async def away(self, entry):
            raise LogUnavailable("the database is away")

        monkeypatch.setattr(DecisionLog, "record_outcome", away)
        response = call(serve(), "post-rollout", phase="Succeeded")
        assert response.status_code == 503, "the one refusal that Flagger repeats"

    def test_an_event_is_a_note_without_a_label(self, serve, telemetry):
        client = serve()
        event = {
            "eventMessage": "Halt podinfo.test advancement\nexternal check failed " + "x" * 3000,
            "eventType": "Warning",
            "timestamp": "1795371120250",
        }
        for _ in range(2):
            assert call(client, "event", metadata=event).status_code == 200
        (told,) = outcomes(client)
        assert (told["label"], told["at"]) == (None, 1795371120.25)
        assert told["note"].startswith("Halt podinfo.test advancement")
        call(client, "event", metadata={**event, "timestamp": "1795371121250"})
        assert len(outcomes(client)) == 2


class TestAccess:
    """Flagger can be given a URL and no header: the token stands in the URL."""

    @pytest.fixture
    def client(self, serve, telemetry, tmp_path):
        file = tmp_path / "tokens"
        file.write_text("ask asking-0123456789abcdef\nreport reporting-0123456789abcdef\n")
        return serve(tokens=read_tokens(file, {}))

    @pytest.mark.parametrize("hook", [*PASSES, "confirm-rollout"])
    def test_questions_take_the_right_to_ask(self, client, hook):
        path = f"/v1/flagger/{hook}"
        asked = client.post(path, json=CALL, auth=("ask", "asking-0123456789abcdef"))
        assert asked.status_code in (200, 409)
        reported = client.post(path, json=CALL, auth=("report", "reporting-0123456789abcdef"))
        assert reported.status_code == 403
        assert client.post(path, json=CALL).status_code == 401

    @pytest.mark.parametrize("hook", ["post-rollout", "event"])
    def test_outcomes_take_the_right_to_report(self, client, hook):
        path = f"/v1/flagger/{hook}"
        asked = client.post(path, json=CALL, auth=("ask", "asking-0123456789abcdef"))
        assert asked.status_code == 403
        reported = client.post(path, json=CALL, auth=("report", "reporting-0123456789abcdef"))
        assert reported.status_code == 200


class TestRecipe:
    """What stands in recipes/flagger."""

    def test_the_canary_is_valid(self, recipe, check_manifest):
        check_manifest(recipe("flagger/canary.yaml"), "flagger-crd.yaml")

    def test_every_hook_asks_what_it_is(self, recipe):
        hooks = recipe("flagger/canary.yaml")["spec"]["analysis"]["webhooks"]
        ours = [hook for hook in hooks if "/v1/flagger/" in hook["url"]]
        assert {hook["type"] for hook in ours} >= {"rollback", "post-rollout"}
        for hook in ours:
            url = urlsplit(hook["url"])
            assert url.path == f"/v1/flagger/{hook['type']}"
            right = right_for("POST", url.path)
            assert url.username == str(right.name).lower()

    def test_the_versions_are_told_apart_without_a_version(self):
        settings = read_telemetry(ROOT / "recipes" / "flagger" / "telemetry.toml")
        podinfo = ReleaseName("podinfo", "test", "")
        new, old = queries_of_new(settings, podinfo), queries_of_old(settings, podinfo)
        assert "podinfo-primary-" not in new["error_rate"]
        assert "podinfo-primary-" in old["error_rate"]
