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
"""The page while something is wrong: it says what, and recovers by itself."""

import sqlite3

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import expect

pytestmark = pytest.mark.real

ASK, OTHER = "asking-0123456789abcdef", "other-0123456789abcdef"
NEXT = 5001
"""Milliseconds until the page has asked again."""


def card(page, service: str):
    return page.locator("li[data-key]").filter(has=page.get_by_role("link", name=service))


def test_what_cannot_be_loaded_is_said_and_comes_later(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse("about:blank")
    page.route("**/v1/**", lambda route: route.abort())
    page.goto(service.url)
    expect(page.locator("#trouble")).to_contain_text("the service does not answer")
    expect(page.locator("#past-empty")).to_have_text("Nothing could be loaded yet.")
    page.unroute_all()
    page.clock.fast_forward(NEXT)
    expect(card(page, "shop v1")).to_be_visible()


def test_a_restart_of_the_service_is_survived(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    expect(card(page, "shop v1")).to_be_visible()
    service.stop()
    page.clock.fast_forward(NEXT)
    expect(page.get_by_role("alert").first).to_contain_text("the service does not answer")
    expect(page.locator("#live")).to_contain_text("Not live since")
    expect(card(page, "shop v1")).to_be_visible()
    service.start()
    service.ask("shop", 0.1, version="v2")
    page.clock.fast_forward(NEXT)
    expect(card(page, "shop v2")).to_be_visible()
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_log_that_goes_away_is_named_and_comes_back(run, browse, postgresql):
    service = run(log=postgresql.fresh())
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    expect(card(page, "shop v1")).to_be_visible()
    postgresql.stop()
    try:
        page.clock.fast_forward(NEXT)
        expect(page.locator("#trouble")).to_contain_text("the decision log is not available")
        expect(page.locator("#live")).to_contain_text("Not live since")
        expect(card(page, "shop v1")).to_be_visible()
        said = service.ask("shop", 0.1, 0.2, version="v1")
        assert (said["decision"], said["logged"]) == ("PAUSE", False)
        page.clock.fast_forward(NEXT)
        expect(page.locator("#notices")).to_contain_text("every question is answered PAUSE")
        card(page, "shop v1").get_by_role("link").click()
        expect(page.locator("#rollout")).to_contain_text("Nothing could be loaded yet")
    finally:
        postgresql.start()
    page.clock.fast_forward(NEXT)
    expect(page.locator("#rollout h1")).to_have_text("shop v1")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#trouble")).to_be_hidden()


def test_what_cannot_be_written_is_said_and_can_be_sent_again(run, browse, tmp_path):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    card(page, "shop v1").get_by_role("link").click()
    page.get_by_label("bad", exact=True).check()
    page.get_by_label("What you saw").fill("it leaks")
    holder = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    page.get_by_role("button", name="Enter outcome").click()
    told = page.locator("form.outcome .problem")
    expect(told).to_contain_text("the decision log is not available", timeout=10_000)
    holder.close()
    expect(page.get_by_label("What you saw")).to_have_value("it leaks")
    page.clock.fast_forward(NEXT)
    page.get_by_role("button", name="Enter outcome").click()
    expect(page.locator(".outcomes li")).to_contain_text(["turned out bad"])


def test_a_token_that_is_revoked_is_asked_for_and_what_was_typed_stays(run, browse, tmp_path):
    service = run(f"ask {ASK}\n")
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    page.locator("#token").fill(ASK)
    page.keyboard.press("Enter")
    card(page, "shop v1").get_by_role("link").click()
    page.get_by_label("What you saw").fill("half a sent")
    service.stop()
    (tmp_path / "tokens").write_text(f"ask,report {OTHER}\n")
    service.start()
    page.clock.fast_forward(NEXT)
    expect(page.locator("#token-problem")).to_contain_text("not any more")
    expect(page.locator("#live")).to_have_text("Waiting for a token")
    expect(page.locator("#token")).to_be_focused()
    expect(page.locator("#main")).to_be_hidden()
    page.keyboard.type(OTHER)
    page.keyboard.press("Enter")
    expect(page.get_by_label("What you saw")).to_have_value("half a sent")
    page.get_by_label("good", exact=True).check()
    page.get_by_role("button", name="Enter outcome").click()
    expect(page.locator(".outcomes li")).to_contain_text(["half a sent"])


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("**/v1/policy", "the policy"),
        ("**/v1/rollouts?*", "the releases"),
        ("**/v1/summary*", "what was stopped"),
    ],
)
def test_a_part_that_cannot_be_drawn_is_named_and_the_others_go_on(run, browse, path, what):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    # A card is there before the first look is over, and the next is only waited for after it.
    expect(page.locator("#live")).to_have_text("Live")
    page.route(path, lambda route: route.fulfill(json={"rollouts": [None], "acted": None}))
    page.clock.fast_forward(NEXT)
    expect(page.locator("#live")).to_have_text("Live in part", timeout=15_000)
    expect(page.locator("#trouble")).to_contain_text(f"cannot show {what}")
    service.ask("shop", 0.1, version="v2")
    page.clock.fast_forward(NEXT)
    if what != "the releases":
        expect(card(page, "shop v2")).to_be_visible()
    # A look that was under way may have been answered by the route; the next comes by itself.
    page.unroute_all()
    page.clock.fast_forward(NEXT)
    expect(card(page, "shop v2")).to_be_visible(timeout=15_000)
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_rollout_that_cannot_be_drawn_is_said(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    key = card(page, "shop v1").get_attribute("data-key")
    page.route(
        f"**/v1/rollouts/{key}", lambda route: route.fulfill(json={"rollout": {"latest": {}}})
    )
    card(page, "shop v1").get_by_role("link").click()
    expect(page.locator("#trouble")).to_contain_text("cannot show the rollout")
    page.unroute_all()
    page.clock.fast_forward(NEXT)
    expect(page.locator("#rollout h1")).to_have_text("shop v1")
    expect(page.locator(".decisions li")).to_have_count(1)
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_rollout_that_nobody_knows_is_said_to_be_unknown(run, browse):
    service = run()
    page = browse(f"{service.url}/#/rollouts/{'0' * 32}")
    expect(page.locator("#rollout")).to_contain_text("no decision on it is logged")
    expect(page.locator("#live")).to_have_text("Live")
    back = page.get_by_role("link", name="All releases")
    back.focus()
    with page.expect_response("**/v1/rollouts/*"):
        page.clock.fast_forward(NEXT)
    page.wait_for_function("document.getElementById('live').textContent === 'Live'")
    page.wait_for_timeout(300)
    expect(back).to_be_focused()
    back.press("Enter")
    expect(page.locator("#going_on-empty")).to_contain_text("POST /v1/decide")
