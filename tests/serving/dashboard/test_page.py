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
"""The page in a browser, of a service that runs."""

import json
import re
from itertools import product

import httpx
import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import expect

pytestmark = pytest.mark.real

ASK, BOTH = "asking-0123456789abcdef", "reporting-0123456789abcdef"
TOKENS = f"ask {ASK}\nask,report {BOTH}\n"
NEXT = 5001
"""Milliseconds until the page has asked again."""

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>' + "w" * 90


def card(page, service: str):
    return page.locator("li[data-key]").filter(has=page.get_by_role("link", name=service))


def enter(page, label: str, note: str = "") -> None:
    page.get_by_label(label, exact=True).check()
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("What you saw").fill(note)
    page.get_by_role("button", name="Enter outcome").click()


def test_an_empty_log_says_what_to_do(run, browse):
    page = browse(run().url)
    expect(page.locator("#going-empty")).to_contain_text("POST /v1/decide")
    expect(page.locator("#tally")).to_contain_text("No rollout was decided on")
    expect(page.locator("#policy")).to_contain_text("history.jsonl")
    expect(page.locator("#token-form")).to_be_hidden()


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


def test_rollouts_come_and_change_without_reloading(run, browse):
    service = run()
    page = browse(service.url)
    expect(page.locator("#going-empty")).to_be_visible()
    service.ask("shop", 0.1, version="v1", environment="production")
    page.clock.fast_forward(NEXT)
    going = page.locator("#going li")
    expect(going).to_contain_text(["shop v1 · production"])
    expect(going).to_contain_text(["Deploying"])
    expect(going).to_contain_text(["errors"])
    service.ask("shop", 0.1, 0.9, version="v1", environment="production")
    page.clock.fast_forward(NEXT)
    past = page.locator("#past li")
    expect(past).to_contain_text(["Rolled back"])
    expect(past).to_contain_text(["outcome unknown"])
    expect(going).to_have_count(0)
    expect(page.locator("#news")).to_contain_text("shop v1: ROLLBACK")


def test_a_rollout_shows_its_metrics_with_the_moment_of_each_decision(run, browse):
    service = run()
    answer = service.ask("shop", 0.1, None, 0.2, 0.9, version="v1")
    page = browse(service.url)
    page.get_by_role("link", name="shop v1").click()
    expect(page.locator("#rollout h1")).to_have_text("shop v1")
    expect(page.locator("#rollout")).to_contain_text(answer["message"])
    errors = page.get_by_role("img", name="error rate: newest 90%")
    expect(errors.locator(".moment")).to_have_count(4)
    expect(errors.locator(".moment.ROLLBACK")).to_have_count(1)
    expect(errors.locator(".line.first")).to_have_count(1)
    expect(errors.locator(".dot.first")).to_have_count(1)
    decisions = page.locator(".decisions li")
    expect(decisions).to_have_count(4)
    expect(decisions.first).to_contain_text("ROLLBACK")
    page.go_back()
    expect(page.locator("#past li")).to_have_count(1)


def test_hostile_names_are_shown_as_text(run, browse, policy_file):
    service = run()
    policy_file.with_name("history.jsonl").write_text(
        json.dumps({"event": HOSTILE, "reason": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}}) + "\n"
    )
    names = {"version": HOSTILE, "environment": HOSTILE, "rollout": HOSTILE}
    service.ask(HOSTILE, 0.1, **names)
    seen = [{"error_rate": 0.1, "requests": 500, HOSTILE[:100]: 1.0, "text": HOSTILE[:100]}]
    httpx.post(f"{service.url}/v1/decide", json={"service": HOSTILE, "observations": seen, **names})
    told = {"service": HOSTILE, "label": "bad", "source": "other", "by": HOSTILE, "note": HOSTILE}
    httpx.post(f"{service.url}/v1/outcomes", json={**told, **names})
    page = browse(service.url, viewport={"width": 360, "height": 800})
    expect(page.locator("#past")).to_contain_text(HOSTILE)
    expect(page.locator("#policy")).to_contain_text(HOSTILE)
    assert_only_text(page)
    page.get_by_role("link").filter(has_text=HOSTILE[:30]).click()
    expect(page.locator("#rollout h1")).to_contain_text(HOSTILE)
    expect(page.locator(".outcomes")).to_contain_text(HOSTILE)
    expect(page.locator("figcaption").filter(has_text=HOSTILE[:60])).to_have_count(1)
    assert_only_text(page)


def assert_only_text(page) -> None:
    assert page.locator("main img, main script").count() == 0
    assert "oumi_deploy" in page.title()
    assert page.evaluate("document.documentElement.scrollWidth <= 360")


def test_a_person_enters_what_became_of_a_release(run, browse):
    service = run()
    service.ask("shop", 0.9, version="v1")
    page = browse(service.url)
    page.get_by_role("link", name="shop v1").click()
    enter(page, "good", "the errors were the load test's")
    expect(page.locator(".outcomes li")).to_contain_text(["turned out good review, ann"])
    expect(page.locator(".standing")).to_contain_text("turned out good")
    enter(page, "bad")
    expect(page.locator(".outcomes li")).to_have_count(2)
    expect(page.locator(".standing")).to_contain_text("turned out bad")
    enter(page, "good", "the errors were the load test's")
    expect(page.locator(".outcomes li")).to_have_count(3)
    expect(page.locator(".standing")).to_contain_text("turned out good")
    page.get_by_role("link", name="All releases").click()
    expect(page.locator("#tally")).to_contain_text("1 of 1good releases rolled back")
    told = httpx.get(f"{service.url}/v1/outcomes?service=shop&version=v1").json()
    assert {line["source"] for line in told} == {"review"}


def test_what_is_being_typed_outlives_a_refresh(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    page.get_by_role("link", name="shop v1").click()
    page.get_by_label("What you saw").fill("half a sent")
    service.ask("shop", 0.2, version="v1")
    page.clock.fast_forward(NEXT)
    expect(page.locator(".decisions li")).to_have_count(2)
    expect(page.get_by_label("What you saw")).to_have_value("half a sent")
    expect(page.get_by_label("What you saw")).to_be_focused()


def test_with_tokens_the_page_asks_for_one_and_keeps_it_in_its_tab_alone(run, browse):
    service = run(TOKENS)
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    expect(page.get_by_label("This service asks for a token")).to_be_focused()
    expect(page.locator("#main")).to_be_hidden()
    page.keyboard.type("wrong-0123456789abcdef")
    page.keyboard.press("Enter")
    expect(page.locator("#token-problem")).to_contain_text("does not know this token")
    page.locator("#token").fill(BOTH)
    page.keyboard.press("Enter")
    expect(card(page, "shop v1")).to_be_visible()
    page.reload()
    expect(card(page, "shop v1")).to_be_visible()
    kept = page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]")
    assert kept == [[BOTH], 0, ""]
    assert BOTH not in page.url
    card(page, "shop v1").get_by_role("link").click()
    enter(page, "bad")
    expect(page.locator(".outcomes li")).to_have_count(1)
    page.get_by_role("button", name="Forget token").click()
    expect(page.locator("#token-form")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.locator("#main")).to_be_hidden()


def test_a_token_without_the_right_to_report_reads_and_is_told_so(run, browse):
    service = run(TOKENS)
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    page.locator("#token").fill(ASK)
    page.keyboard.press("Enter")
    card(page, "shop v1").get_by_role("link").click()
    enter(page, "bad", "kept for another try")
    expect(page.locator("form.outcome .problem")).to_contain_text("no right to report")
    expect(page.get_by_label("What you saw")).to_have_value("kept for another try")
    headers = {"Authorization": f"Bearer {ASK}"}
    told = httpx.get(f"{service.url}/v1/outcomes?service=shop&version=v1", headers=headers)
    assert told.json() == []


def test_a_restart_of_the_service_is_survived(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    expect(card(page, "shop v1")).to_be_visible()
    service.stop()
    page.clock.fast_forward(NEXT)
    expect(page.get_by_role("alert").first).to_contain_text("the service does not answer")
    expect(page.locator("#live")).to_have_text("Not live")
    expect(card(page, "shop v1")).to_be_visible()
    service.start()
    service.ask("shop", 0.1, version="v2")
    page.clock.fast_forward(NEXT)
    expect(card(page, "shop v2")).to_be_visible()
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#trouble")).to_be_hidden()


def test_the_keyboard_reaches_everything_and_keeps_its_place(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    expect(card(page, "shop v1")).to_be_visible()
    link = card(page, "shop v1").get_by_role("link")
    for _ in range(10):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    service.ask("mail", 0.1, version="v7")
    service.ask("shop", 0.1, 0.9, version="v1")
    page.clock.fast_forward(NEXT)
    expect(card(page, "shop v1")).to_contain_text("Rolled back")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#rollout h1")).to_be_focused()
    page.get_by_label("bad", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Enter outcome").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".outcomes li")).to_have_count(1)
    page.go_back()
    expect(link).to_be_focused()


def test_nothing_runs_over_the_edge_in_light_or_dark(run, browse):
    service = run()
    service.ask("shop", 0.1, 0.2, 0.9, version="v1.2.3-rc.4+build.20261125", environment="eu")
    for width, scheme in product((360, 768, 1280), ("light", "dark")):
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        assert_fits(browse(service.url, **options), width, scheme)


def assert_fits(page, width: int, scheme: str) -> None:
    expect(card(page, "shop")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    card(page, "shop").get_by_role("link").click()
    expect(page.locator("svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", paper))) > 127) == (scheme == "light")


def test_more_of_the_past_can_be_shown_and_one_service_picked(run, browse):
    service = run()
    for n in range(53):
        service.ask(f"service{n % 5}", 0.9, version=f"v{n}")
    page = browse(service.url)
    past = page.locator("#past li")
    expect(past).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(past).to_have_count(53)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    page.get_by_role("combobox", name="Service").fill("service2")
    page.keyboard.press("Enter")
    expect(past).to_have_count(11)


def test_the_page_asks_no_other_host(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse("about:blank")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    expect(card(page, "shop v1")).to_be_visible()
    assert len(asked) > 5
    assert all(url.startswith(service.url) for url in asked)
