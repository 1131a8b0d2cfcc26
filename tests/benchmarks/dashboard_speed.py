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
"""How soon does the dashboard show something, and how large is it?

Fills a decision log, starts `oumi-deploy serve` on it, and opens the page in headless Chromium:
the time from the first request until rollouts stand on the page, the bytes that came over the line
until then, what the service takes for each question of a refresh, and for a refresh of many tabs
at once.

    python tests/benchmarks/dashboard_speed.py --policy output/neural/deployment_policy_model.json

Two thirds of the rollouts are labelled; `--decisions 120000 --each 4` makes 20,000 labels.

Needs Playwright and Chromium (`--chromium` names its program).
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from uuid import uuid4

from playwright.sync_api import sync_playwright

from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog

HOST = "127.0.0.1"
SERVICES = ("checkout", "payments", "search", "basket", "login", "mail", "stock", "prices")
TRIES = 5


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, type=Path, metavar="FILE")
    parser.add_argument("--decisions", type=int, default=10_000, help="in the log (10000)")
    parser.add_argument("--each", type=int, default=15, help="of them on a rollout, at most (15)")
    parser.add_argument("--tabs", type=int, default=10, help="that show the page (10)")
    parser.add_argument("--chromium", default=shutil.which("chromium"), metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep the log, or use this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = args.keep or Path(folder) / "log.db"
        if not log.exists():
            asyncio.run(fill(f"sqlite:///{log}", args.decisions, args.each))
        result = measure(args.policy, log, args.chromium, args.tabs)
    if args.json:
        print(json.dumps(result))
        return
    print("\n".join(f"{name:48} {value:10.1f}" for name, value in result.items()))


async def fill(url: str, n_decisions: int, each: int) -> None:
    """Writes at least so many decisions on rollouts of the last 20 days, two thirds labelled."""
    log, draw, number, n_made = DecisionLog.open(url, wait=60), Random(1), 0, 0
    while n_made < n_decisions:
        begin = time.time() - 60 * each - 20 * 86_400 * (1 - n_made / n_decisions)
        name = RolloutName(SERVICES[number % len(SERVICES)], "production", f"v{number}")
        is_bad = draw.random() < 0.2
        made = list(rollout(name, begin, is_bad, each, draw))
        await asyncio.gather(*(log.record(entry) for entry in made))
        number, n_made = number + 1, n_made + len(made)
        if number % 3:
            label, source = ("bad" if is_bad else "good"), ("review" if is_bad else "flagger")
            at = begin + 60 * (each + 5)
            told = OutcomeEntry(uuid4().hex, name, at, source, label, "ann", "seen", {})
            await log.record_outcome(told)
    log.close()


def rollout(
    name: RolloutName, begin: float, is_bad: bool, each: int, draw: Random
) -> Iterator[DecisionEntry]:
    """Yields the decisions on one rollout, one a minute."""
    base, level = None, 0.01
    for n in range(each):
        at = begin + 60 * n
        level = level * 1.35 if is_bad else 0.01
        risk = min(0.02 + level, 0.97)
        decision = "ROLLBACK" if risk > 0.45 else "PAUSE" if risk > 0.3 else "CONTINUE"
        seen = {
            "timestamp": at,
            "phase": "canary",
            "error_rate": min(1.0, level * draw.uniform(0.7, 1.3)),
            "latency": 0.12 * draw.uniform(0.9, 1.1),
            "memory_usage": 0.5 * draw.uniform(0.97, 1.03),
            "cpu_usage": 0.35 * draw.uniform(0.9, 1.1),
            "requests": 900 + draw.randrange(200),
            "control_error_rate": 0.01 * draw.uniform(0.7, 1.3),
            "control_latency": 0.12 * draw.uniform(0.9, 1.1),
        }
        entry = DecisionEntry(
            id=uuid4().hex,
            name=name,
            at=at,
            asked_by="api",
            policy_version="0123456789ab",
            base=base,
            kept=n,
            observations=[seen],
            last=n == each - 1,
            preferred=decision,
            decision=decision,
            answered=decision,
            propensity=1.0,
            explored=False,
            shadow=False,
            risk=risk,
            confidence=max(risk, 1 - risk),
            q_values={"CONTINUE": 80 - 230 * risk, "ROLLBACK": 100 * risk - 50},
            reasons=["doubt"] if decision == "PAUSE" else [],
        )
        yield entry
        if decision == "ROLLBACK":
            return
        base = entry.id


def measure(policy: Path, log: Path, chromium: str, n_tabs: int) -> dict[str, float]:
    """Returns the figures by name."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "oumi-deploy"), "serve", "--policy", str(policy)]
    service = subprocess.Popen(
        [*command, "--log", f"sqlite:///{log}", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    url = f"http://{HOST}:{port}"
    try:
        wait_for(port, service)
        result = page_figures(url, chromium)
        for path in refresh():
            result[f"{path}, ms"] = median_ms(lambda path=path: ask(url + path))
        with ThreadPoolExecutor(n_tabs) as tabs:
            result[f"a refresh of {n_tabs} tabs at once, ms"] = median_ms(
                lambda: list(tabs.map(lambda _: [ask(url + p) for p in refresh()], range(n_tabs)))
            )
        return result
    finally:
        service.terminate()
        service.wait(20)


def wait_for(port: int, service: subprocess.Popen) -> None:
    """Waits until the service answers."""
    for _ in range(2000):
        if service.poll() is not None:
            raise SystemExit("the service ended: is the policy calibrated?")
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise SystemExit("the service does not start")


def page_figures(url: str, chromium: str) -> dict[str, float]:
    """Opens the page anew several times; of the times the slowest is told."""
    first, painted, sizes = [], [], []
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for _ in range(TRIES):
            page = browser.new_context().new_page()
            page.goto(url, wait_until="commit")
            page.wait_for_selector(".cards li")
            first.append(page.evaluate("performance.now()"))
            paint = "performance.getEntriesByName('first-contentful-paint')[0]"
            page.wait_for_function(f"{paint} !== undefined")
            painted.append(page.evaluate(f"{paint}.startTime"))
            sizes.append(page.evaluate(BYTES))
            page.close()
        browser.close()
    return {
        "first paint, ms": max(painted),
        "first rollouts on the page, ms": max(first),
        "the page's files, KB": max(size["files"] for size in sizes) / 1000,
        "with its first data, KB": max(size["all"] for size in sizes) / 1000,
    }


BYTES = """() => {
  const loaded = ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind));
  const sum = (entries) => entries.reduce((total, entry) => total + entry.decodedBodySize, 0);
  return { all: sum(loaded), files: sum(loaded.filter(({ name }) => !name.includes("/v1/"))) };
}"""
"""What the browser loaded, in bytes; nothing is compressed."""


def refresh() -> Iterator[str]:
    """Yields what a tab asks every five seconds."""
    for stage in ("on_hold", "to_review", "going_on"):
        yield f"/v1/rollouts?stage={stage}&limit=200"
    yield "/v1/rollouts?stage=past&limit=12"
    yield f"/v1/summary?since={int(time.time() // 60 * 60 - 30 * 86_400)}"
    yield "/v1/policy"


def ask(url: str) -> None:
    """Waits for an answer."""
    with urllib.request.urlopen(url) as response:
        response.read()


def median_ms(call: Callable[[], object]) -> float:
    """Returns the milliseconds that a call takes, the median of several."""
    took = []
    for _ in range(21):
        begun = time.perf_counter()
        call()
        took.append(1e3 * (time.perf_counter() - begun))
    return sorted(took)[len(took) // 2]


if __name__ == "__main__":
    main()
