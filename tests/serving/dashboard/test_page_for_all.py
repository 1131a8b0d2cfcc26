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
"""The page for all who look at it: by keyboard, on any screen, in any zone, at any name."""

import json
import re
from datetime import datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import httpx
import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import expect

pytestmark = pytest.mark.real

NEXT = 5001
"""Milliseconds until the page has asked again."""

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>' + "w" * 90


def card(page, service: str):
    return page.locator("li[data-key]").filter(has=page.get_by_role("link", name=service))


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
    assert page.title() not in ("1", "2")
    assert page.evaluate("document.documentElement.scrollWidth <= 360")


def test_no_name_reads_as_another_and_none_takes_the_screen(run, browse, write, entry):
    service = run()
    turned, long, arabic = "shop\u202e1v \u2066", "w" * 300, "\u0645\u062a\u062c\u0631"
    write(
        entry(turned, decision="PAUSE", notes=[f"{turned}: no series"]),
        entry(long, long, decision="PAUSE", notes=[long]),
        entry(arabic, "v2", decision="PAUSE"),
    )
    page = browse(service.url, viewport={"width": 360, "height": 800})
    cards = page.locator("#on_hold li")
    expect(cards).to_have_count(3)
    said = page.locator("body").inner_text() + page.title()
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", said)
    expect(cards.filter(has_text="shop\ufffd1v")).to_have_count(1)
    # The name of a release that reads from right to left does not turn its version.
    name = cards.filter(has_text=arabic).locator("h3 bdi")
    expect(name).to_have_text([arabic, "v2"])
    assert cards.filter(has_text="www").bounding_box()["height"] < 500
    assert page.evaluate("document.documentElement.scrollWidth <= 360")
    cards.filter(has_text="shop").get_by_role("link").click()
    expect(page.locator("#rollout h1")).to_contain_text("shop\ufffd1v")
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.title())


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_times_are_those_of_the_viewer_and_have_a_date_where_it_is_not_today(
    run, browse, write, entry, zone
):
    service = run()
    here = datetime.now(ZoneInfo(zone))
    noon = here.replace(hour=12, minute=34, second=0, microsecond=0)
    before = noon - timedelta(days=3)
    early = here.replace(hour=0, minute=0, second=0, microsecond=0)
    write(entry(at=before.timestamp()), entry(at=early.timestamp()))
    page = browse(service.url, timezone_id=zone, locale="en-GB")
    card(page, "shop v1").get_by_role("link").click()
    times = page.locator(".decisions time")
    expect(times).to_have_text(["00:00:00", f"{before.day} {before:%b}, 12:34"])
    assert f"{before.year} at 12:34:00" in times.nth(1).get_attribute("title")
    expect(page.locator("#zone")).to_contain_text(zone)


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


def test_keys_alone_go_in_order_and_back(run, browse):
    service = run()
    service.ask("shop", 0.1, version="v1")
    page = browse(service.url)
    expect(card(page, "shop v1")).to_be_visible()
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the releases")
    expect(skip).to_be_focused()
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Service")).to_be_focused()
    page.keyboard.press("Tab")
    expect(card(page, "shop v1").get_by_role("link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#rollout h1")).to_be_focused()
    page.get_by_label("What you saw").fill("half a sent")
    page.keyboard.press("Escape")
    expect(page.get_by_label("What you saw")).to_have_value("half a sent")
    page.locator("#rollout h1").focus()
    page.keyboard.press("Escape")
    expect(card(page, "shop v1").get_by_role("link")).to_be_focused()


def test_nothing_moves_for_whoever_wants_it_still(run, browse):
    page = browse(run().url, reduced_motion="reduce")
    expect(page.locator("#live")).to_have_text("Live")
    assert page.evaluate("document.getAnimations().length") == 0


def test_nothing_runs_over_the_edge_in_light_or_dark(run, browse):
    service = run()
    service.ask("shop", 0.1, 0.2, 0.9, version="v1.2.3-rc.4+build.20261125", environment="eu")
    service.ask("mail", None, None, version="v1")
    # 640 is 1280 at a zoom of 200 %.
    for width, scheme in product((360, 640, 768, 1280), ("light", "dark")):
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        assert_fits(browse(service.url, **options), width, scheme)


def assert_fits(page, width: int, scheme: str) -> None:
    expect(card(page, "shop")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    card(page, "shop").get_by_role("link").click()
    expect(page.locator("svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator(".box")
    assert box.evaluate("(box) => box.scrollWidth - box.clientWidth") == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", paper))) > 127) == (scheme == "light")
