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
"""Flagger's webhooks: each hook asks another question, and 200 means another thing.

| hook | 200 |
|---|---|
| confirm-rollout | the service can decide and log |
| pre-rollout, rollout | anything but ROLLBACK: a PAUSE is no failed check, other hooks hold |
| confirm-traffic-increase, confirm-promotion | CONTINUE |
| rollback | ROLLBACK, in the log: 200 rolls back at once, so that nothing else may say it |
| post-rollout, event | it is noted |

Anything else is 409 with the reason as text: Flagger retries 429 and 5xx, and loses their text.
"""

import asyncio
import hashlib
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, Field

from oumi_deploy.serving.api import REFUSALS, body, read
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.log.entries import OutcomeEntry, RolloutName
from oumi_deploy.serving.schema import Answer, Ask, Refusal, Text, Word

DecidingHook = Literal[
    "pre-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "rollback"
]

_PASSES: dict[DecidingHook, tuple[Word, ...]] = {
    "pre-rollout": ("CONTINUE", "PAUSE"),
    "rollout": ("CONTINUE", "PAUSE"),
    "confirm-traffic-increase": ("CONTINUE",),
    "confirm-promotion": ("CONTINUE",),
    "rollback": ("ROLLBACK",),
}

_RESPONSES: dict[int | str, dict[str, Any]] = REFUSALS | {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Success."},
    409: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "The hook does not succeed; the text says why.",
    },
}
_NOTING = _RESPONSES | {
    503: {"model": Refusal, "description": "It could not be logged: send it again."}
}


class Metadata(BaseModel):
    """A webhook's metadata, as far as it is read."""

    version: Text = Field(default="", description="The new version, the same in every hook.")
    default: Word = Field(default="CONTINUE", description="What a service in shadow mode answers.")
    eventMessage: Annotated[str, Field(max_length=10_000)] = ""
    eventType: Text = ""
    timestamp: Annotated[str, Field(pattern=r"^[0-9]{0,14}$")] = Field(
        default="", description="When the event was, Unix milliseconds."
    )


class Call(BaseModel):
    """What Flagger sends; what newer versions of it add is left alone."""

    name: Annotated[Text, Field(min_length=1)] = Field(description="The canary: the service.")
    namespace: Text = Field(default="", description="The environment.")
    phase: Text = ""
    checksum: Text = Field(default="", description="Of what is rolled out: the rollout.")
    metadata: Metadata = Metadata()


def router(engine: Engine) -> APIRouter:
    """Returns the paths of the hooks."""
    paths = APIRouter(prefix="/v1/flagger")
    told: dict[str, Any] = {
        "response_class": Response,  # It names no type of its own: refusals are JSON.
        "responses": _RESPONSES,
        "openapi_extra": body(Call),
    }
    noting: dict[str, Any] = {**told, "responses": _NOTING}

    @paths.post("/confirm-rollout", **told)
    async def confirm(request: Request) -> PlainTextResponse:
        """Lets a rollout begin once there can be decisions on it."""
        await read(request, Call)
        missing = what_is_missing(engine)
        return PlainTextResponse(missing or "ready to decide", 409 if missing else 200)

    @paths.post("/post-rollout", **noting)
    async def end(request: Request) -> PlainTextResponse:
        """Takes what became of a release."""
        entry = await asyncio.to_thread(outcome_of, engine, await read(request, Call))
        await engine.note(entry)
        return PlainTextResponse(f"noted: {entry.label or 'outcome unknown'}")

    @paths.post("/event", **noting)
    async def event(request: Request) -> PlainTextResponse:
        """Takes an event, which says nothing of the outcome."""
        await engine.note(event_of(await read(request, Call)))
        return PlainTextResponse("noted")

    @paths.post("/{hook}", **told)
    async def decide(hook: DecidingHook, request: Request) -> PlainTextResponse:
        """Decides. The decision is in the log before it is answered."""
        answer = await engine.decide(ask_of(await read(request, Call), hook), "flagger")
        return PlainTextResponse(answer.message, 200 if succeeds(hook, answer) else 409)

    return paths


def ask_of(call: Call, hook: DecidingHook) -> Ask:
    """Returns the question; Flagger brings no observations, so that they are collected.

    Where it confirms the promotion it looks for the last time, and asks until that succeeds.
    """
    promotes = hook == "confirm-promotion"
    return Ask(
        service=call.name,
        environment=call.namespace,
        version=call.metadata.version,
        rollout=call.checksum,
        default=call.metadata.default,
        last=promotes,
        asks_again=promotes,
    )


def succeeds(hook: DecidingHook, answer: Answer) -> bool:
    """Returns whether a hook succeeds with an answer.

    A rollback that is not in the log would end a release and leave no trace of who did.
    """
    return answer.decision in _PASSES[hook] and (answer.logged or hook != "rollback")


def what_is_missing(engine: Engine) -> str:
    """Returns why no rollout should begin now, empty where one may."""
    if engine.source is None:
        return "no telemetry: Flagger sends no observations; start the service with --telemetry"
    state = engine.log.state()
    if not state["writable"] and engine.settings.spool is None:
        return f"the decision log cannot be written: {state['error']}"
    return ""


def outcome_of(engine: Engine, call: Call) -> OutcomeEntry:
    """Returns what the end of a rollout says of the release.

    One that was rolled back because we said so never shows what it would have become: its outcome
    is unknown, not bad. So it is while decisions wait for the database, which may hold that word.
    """
    name = _name(call)
    label: Literal["good", "bad"] | None = None
    if call.phase == "Succeeded":
        label = "good"
    elif call.phase == "Failed":
        latest = engine.log.latest(name)
        was_ours = latest is not None and latest.answered == "ROLLBACK"
        label = None if was_ours or engine.log.state()["spooled"] else "bad"
    return _entry(call, label, "post-rollout", call.phase)


def event_of(call: Call) -> OutcomeEntry:
    """Returns an event as a note on the rollout."""
    told = call.metadata
    return _entry(call, None, "event", f"{told.timestamp}\n{told.eventType}\n{told.eventMessage}")


def _entry(
    call: Call, label: Literal["good", "bad"] | None, hook: str, content: str
) -> OutcomeEntry:
    """Returns an entry named by what it says, so that a retry is the same."""
    name, told = _name(call), call.metadata
    named = "\n".join((name.service, name.environment, name.version, name.rollout, hook, content))
    return OutcomeEntry(
        id=hashlib.sha256(f"flagger\n{named}".encode()).hexdigest()[:32],
        name=name,
        at=int(told.timestamp) / 1000 if told.timestamp else time.time(),
        source="flagger",
        label=label,
        by="flagger",
        note=told.eventMessage[:2000],
        detail={"hook": hook, "phase": call.phase, "event_type": told.eventType},
    )


def _name(call: Call) -> RolloutName:
    return RolloutName(call.name, call.namespace, call.metadata.version, call.checksum)
