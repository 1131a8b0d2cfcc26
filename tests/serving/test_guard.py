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
"""Who may do what, how much, and how often."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.app import create_app
from oumi_deploy.serving.auth import Right, Tokens, read_tokens
from oumi_deploy.serving.guard import Rate
from oumi_deploy.serving.settings import Limits, ServiceSettings, check_address

ASK, REPORT, ADMIN = "ask-" + "a" * 16, "report-" + "b" * 16, "admin-" + "c" * 16
JSON = {"content-type": "application/json"}
OUTCOME = {"service": "shop", "label": "good", "source": "pipeline"}


@pytest.fixture
def tokens(tmp_path) -> Tokens:
    path = tmp_path / "tokens"
    path.write_text(f"# who may do what\n\nask {ASK}\nreport {REPORT}\nask,administer {ADMIN}\n")
    return read_tokens(path, {})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_each_token_carries_its_rights_and_no_others(serve, tokens, rows):
    client = serve(tokens=tokens)
    asked = {"service": "shop", "observations": rows(0.1)}
    requests = {
        Right.ASK: lambda h: client.post("/v1/decide", json=asked, headers=h),
        Right.REPORT: lambda h: client.post("/v1/outcomes", json=OUTCOME, headers=h),
        Right.ADMINISTER: lambda h: client.post("/v1/policy/reload", headers=h),
    }
    granted = {ASK: Right.ASK, REPORT: Right.REPORT, ADMIN: Right.ASK | Right.ADMINISTER}
    for token, rights in granted.items():
        for right, send in requests.items():
            expected = 200 if right in rights else 403
            assert send(bearer(token)).status_code == expected, (token, right)
    for path in ("/v1/decisions", "/metrics"):
        assert client.get(path, headers=bearer(ASK)).status_code == 200
        assert client.get(path, headers=bearer(REPORT)).status_code == 403
    for send in requests.values():
        for wrong in ({}, bearer(""), bearer(ASK[:-1]), {"Authorization": ASK}, bearer("x" * 20)):
            refused = send(wrong)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "token" in refused.json()["error"]


def test_a_url_can_carry_the_token(serve, tokens):
    client = serve(tokens=tokens)
    basic = base64.b64encode(f"any:{ASK}".encode()).decode()
    assert client.get("/v1/decisions", headers={"Authorization": f"Basic {basic}"}).is_success
    for broken in ("Basic", "Basic %%%", "Basic " + base64.b64encode(b"\xff:\xff").decode()):
        assert client.get("/v1/decisions", headers={"Authorization": broken}).status_code == 401


def test_anybody_may_look_whether_it_lives(serve, tokens):
    client = serve(tokens=tokens)
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["ready"] is True
    assert client.get("/openapi.json").is_success


def test_tokens_come_from_the_environment_too(tmp_path):
    tokens = read_tokens(None, {"OUMI_DEPLOY_TOKEN_REPORT": REPORT, "HOME": "/"})
    assert tokens.rights(f"Bearer {REPORT}")[0] == Right.REPORT
    assert not read_tokens(None, {})
    with pytest.raises(DeployError, match="OUMI_DEPLOY_TOKEN_ASK: the token has fewer than 16"):
        read_tokens(None, {"OUMI_DEPLOY_TOKEN_ASK": "short"})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ask", "line 1: expected rights"),
        ("asks " + ASK, "line 1: expected rights"),
        ("none " + ASK, "line 1: expected rights"),
        ("ask short", "line 1: the token has fewer than 16"),
        ("# ask " + ASK, "holds no token"),
        ("\n \n", "holds no token"),
        ("ask two words-of-a-token", "line 1: expected rights"),
    ],
)
def test_a_malformed_token_file_is_refused_without_showing_a_token(tmp_path, line, says):
    path = tmp_path / "tokens"
    path.write_text(line)
    with pytest.raises(DeployError, match=says) as caught:
        read_tokens(path, {})
    assert ASK not in str(caught.value)
    with pytest.raises(DeployError, match="cannot read tokens"):
        read_tokens(tmp_path / "none", {})


def test_only_this_machine_is_served_without_tokens(tokens):
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_address(host, Tokens())
    for host in ("0.0.0.0", "192.168.1.1", "::", "shop.example"):
        with pytest.raises(DeployError, match="set tokens"):
            check_address(host, Tokens())
        check_address(host, tokens)


def test_a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not(serve):
    client = serve(limits=Limits(body_bytes=1000))
    told = client.post("/v1/decide", content=b"x" * 1001, headers=JSON)
    untold = client.post("/v1/decide", content=(b"x" * 100 for _ in range(11)), headers=JSON)
    for refused in (told, untold):
        assert refused.status_code == 413
        assert "larger than 1,000 bytes" in refused.json()["error"]


def test_too_many_requests_are_refused_and_the_next_second_is_free(serve, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("oumi_deploy.serving.guard.time.monotonic", lambda: clock[0])
    client = serve(limits=Limits(requests_per_second=3))
    statuses = [client.get("/v1/decisions").status_code for _ in range(8)]
    assert statuses == [200] * 6 + [429] * 2
    clock[0] += 1.0
    assert [client.get("/v1/decisions").status_code for _ in range(4)] == [200] * 3 + [429]
    assert client.get("/health").is_success


def test_no_header_gets_a_caller_more_than_its_rate(serve, tokens):
    for given_tokens in (Tokens(), tokens):
        client = serve(tokens=given_tokens, limits=Limits(requests_per_second=3))
        pairs = [base64.b64encode(f"u{n}:{ASK}".encode()).decode() for n in range(20)]
        statuses = [
            client.get(
                "/v1/decisions",
                headers={"Authorization": f"Basic {pair}", "X-Forwarded-For": f"10.0.0.{n}"},
            ).status_code
            for n, pair in enumerate(pairs)
        ]
        assert statuses.count(200) <= 8
        assert statuses[-1] == 429


def test_guessing_at_tokens_is_slowed_down(serve, tokens):
    client = serve(tokens=tokens, limits=Limits(requests_per_second=3))
    statuses = [client.get("/v1/state", headers=bearer("x" * 16 + str(n))) for n in range(20)]
    assert statuses[-1].status_code == 429


def test_what_is_not_said_to_be_json_is_refused(serve):
    client = serve()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        refused = client.post("/v1/outcomes", content=b"{}", headers={"content-type": kind})
        assert refused.status_code == 415


@pytest.fixture
def call(policy_file, tmp_path):
    """Sends one request to a service with a single place: `call(receive)` is its first answer."""
    log = f"sqlite:///{tmp_path / 'log.db'}"
    limits = Limits(concurrent_requests=1)
    app = create_app(ServiceSettings(policy=policy_file, log=log, limits=limits))

    async def send_to_app(receive) -> int | None:
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/policy/reload", "query_string": b""}
        about = {"headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1)}
        await app({**scope, **about}, receive, send)
        return sent[0]["status"] if sent else None

    return send_to_app


def test_who_sends_slowly_takes_nobodys_place(call, monkeypatch):
    monkeypatch.setattr("oumi_deploy.serving.guard.BODY_SECONDS", 0.5)

    async def slow():
        await asyncio.sleep(5)

    async def quick():
        return {"type": "http.request", "body": b""}

    async def both():
        waiting = [asyncio.create_task(call(slow)) for _ in range(3)]
        await asyncio.sleep(0.1)
        return await call(quick), await asyncio.gather(*waiting)

    assert asyncio.run(both()) == (200, [408] * 3)


def test_who_goes_away_in_mid_sentence_leaves_nothing_behind(call):
    async def gone():
        return {"type": "http.disconnect"}

    assert asyncio.run(call(gone)) is None


@pytest.mark.parametrize("limit", [{"body_bytes": -1}, {"concurrent_requests": 0}])
def test_limits_that_let_nobody_in_are_refused(limit):
    with pytest.raises(DeployError, match="1 or more"):
        Limits(**limit)
    with pytest.raises(DeployError, match="--max-rate"):
        Limits(requests_per_second=float("nan"))


@given(st.lists(st.floats(0, 2), max_size=60), st.integers(1, 5))
def test_no_caller_gets_more_than_its_rate(gaps, per_second):
    rate, now, allowed = Rate(per_second), 0.0, 0
    for gap in gaps:
        now += gap
        allowed += rate.allows("one", now)
    assert allowed <= 2 * per_second + per_second * now + 1e-6
    assert rate.allows("another", now)
