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

"""The rollout tool: asks at every step, and does what it is told."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from clock import Clock
from cluster import Cluster
from releases import Release
from versions import NAMESPACE

from oumi_deploy.errors import DeployError

RAMP = (0.05, 0.1, 0.25, 0.5)
"""Shares of the traffic in the quarters of a canary."""

_ASKED_AFTER = 0.15
"""Minutes after the end of a step: its last scrape has arrived by then."""

_INCIDENT_AFTER = 5
"""Minutes after which a bad version that got through is found out and taken back by hand."""


_LOOKED_AT_AFTER = 3
"""Questions running whose answer is that a person must decide, until one does."""

_PATIENCE = 20
"""Questions of one release that may go without an answer."""


@dataclass(frozen=True)
class Tools:
    """What a rollout needs.

    Attributes:
        clock: The clock.
        cluster: The cluster.
        service: The decision service.
        tell: Called with what happened, a line each.
    """

    clock: Clock
    cluster: Cluster
    service: httpx.AsyncClient
    tell: Callable[[str], object]


@dataclass
class Run:
    """What became of a release.

    Attributes:
        release: The release.
        began: When its canary began, in simulated minutes.
        minutes: Minutes until it was decided.
        rolled_back: Whether it was rolled back.
        held: Minutes of it in which it was held by a PAUSE.
        waits: Questions running whose answer is that a person must decide.
        by_person: Whether a person decided it.
        asked: Questions.
        unanswered: Those of them that were not answered; they hold it too.
        reasons: How often each reason was given.
        dragged: Minutes in which what its service calls made it fail.
    """

    release: Release
    began: float
    minutes: int = 0
    rolled_back: bool = False
    held: int = 0
    waits: int = 0
    by_person: bool = False
    asked: int = 0
    unanswered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    dragged: float = 0.0


async def roll_out(release: Release, tools: Tools) -> Run:
    """Rolls a release out and reports its outcome where one is known.

    CONTINUE goes on to the next minute of the plan, PAUSE holds, ROLLBACK takes back. What a person
    must decide one does after a while, and knows the truth.
    """
    name, cluster = release.service.name, tools.cluster
    cluster.begin(release, RAMP[0])
    run = Run(release, tools.clock.now())
    await _decide(run, tools)
    run.dragged = cluster.minutes_dragged(name)
    if run.rolled_back or (run.by_person and release.fault is not None):
        cluster.take_back(name)
    elif release.fault is None:
        cluster.promote(name)
        await _report(run, tools, "pipeline", "finished, nothing happened since")
    else:
        cluster.shift(name, 1.0)
        await tools.clock.sleep_until(run.began + run.minutes + _INCIDENT_AFTER)
        cluster.take_back(name)
        await _report(run, tools, "incident", "found out by hand")
    if release.is_reviewed or run.by_person:
        await _report(run, tools, "review", "looked at")
    return run


async def _decide(run: Run, tools: Tools) -> None:
    """Asks until the plan is through, the answer is ROLLBACK, or a person has decided."""
    release, through = run.release, 0
    while through < release.planned:
        run.minutes = max(run.minutes + 1, int(tools.clock.now() - run.began))
        await tools.clock.sleep_until(run.began + run.minutes + _ASKED_AFTER)
        answer = await _ask(run, tools)
        run.asked += 1
        reasons = answer["reasons"] if answer else ()
        run.reasons.update(reasons)
        run.waits = run.waits + 1 if "held_for_a_person" in reasons else 0
        if run.waits >= _LOOKED_AT_AFTER:
            run.by_person = True
            tools.tell(_line(run, "held, and decided by a person"))
            return
        if answer is None or answer["decision"] == "PAUSE":
            run.held += 1
        elif answer["decision"] == "ROLLBACK":
            run.rolled_back = True
            tools.tell(_line(run, f"ROLLBACK, risk {answer['risk']:.0%}"))
            return
        else:
            through += 1
            share = RAMP[min(through * len(RAMP) // release.planned, len(RAMP) - 1)]
            tools.cluster.shift(release.service.name, share)
    tools.tell(_line(run, "rolled out"))


async def _ask(run: Run, tools: Tools) -> dict[str, Any] | None:
    """Returns the answer, None where there is none; it is not waited for for ever.

    Raises:
        DeployError: If there was none too often.
    """
    question = {**_name(run.release), "started_at": tools.clock.at(run.began)}
    try:
        response = await tools.service.post("/v1/decide", json=question)
        response.raise_for_status()
    except httpx.HTTPError as error:
        tools.tell(_line(run, f"no answer: {error!r}"))
        run.unanswered += 1
        if run.unanswered > _PATIENCE:
            raise DeployError(f"the service does not answer: {error!r}") from error
        return None
    return response.json()


async def _report(run: Run, tools: Tools, source: str, note: str) -> None:
    label = "good" if run.release.fault is None else "bad"
    outcome = {**_name(run.release), "label": label, "source": source, "note": note}
    try:
        response = await tools.service.post("/v1/outcomes", json=outcome)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise DeployError(f"the service did not take an outcome: {error!r}") from error


def _name(release: Release) -> dict[str, str]:
    return {
        "service": release.service.name,
        "environment": NAMESPACE,
        "version": release.version,
    }


def _line(run: Run, what: str) -> str:
    release, minute = run.release, run.began + run.minutes
    who = f"{release.service.name} {release.version}"
    return f"minute {minute:3.0f}  {who:13} {what} after {run.minutes} min ({release.kind})"
