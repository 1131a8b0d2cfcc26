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
"""CDEvents: deployments, rollbacks and incidents, as a delivery platform tells them.

Only an incident labels a release. That one was deployed does not make it good, and one that was
rolled back never shows what it would have become.
"""

import asyncio
import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, Field

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.api import WITH_LOG, body, read
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.faces.releases import rollout_of
from oumi_deploy.serving.log.entries import OutcomeEntry
from oumi_deploy.serving.schema import Noted

_LABELS: dict[str, Literal["bad"] | None] = {
    "service.deployed": None,
    "service.upgraded": None,
    "service.rolledback": None,
    "incident.detected": "bad",
    "incident.resolved": None,
}

Short = Annotated[str, Field(min_length=1, max_length=300)]


class _Context(BaseModel):
    id: Short
    source: Short
    type: Short
    timestamp: AwareDatetime


class _Reference(BaseModel):
    id: Short


class _Content(BaseModel):
    environment: _Reference
    service: _Reference | None = None
    artifact_id: Annotated[str, Field(max_length=300)] = Field("", alias="artifactId")
    description: Annotated[str, Field(max_length=2000)] = ""


class _Subject(BaseModel):
    id: Short
    content: _Content


class CDEvent(BaseModel):
    """What of a CDEvent is read; all else in it is left alone."""

    context: _Context
    subject: _Subject


class CloudEvent(BaseModel):
    """A CDEvent in a CloudEvents envelope (structured mode)."""

    data: CDEvent


def router(engine: Engine) -> APIRouter:
    """Returns the path that takes CDEvents."""
    paths = APIRouter()

    @paths.post(
        "/v1/cdevents", response_model=Noted, responses=WITH_LOG, openapi_extra=body(CDEvent)
    )
    async def take(request: Request) -> Response:
        """Takes a CDEvent, bare or in a CloudEvents envelope; sent again, it counts once."""
        enveloped = "cloudevents+json" in request.headers.get("content-type", "")
        event = (
            (await read(request, CloudEvent)).data if enveloped else await read(request, CDEvent)
        )
        entry = await asyncio.to_thread(outcome_of, engine, event)
        noted = await engine.note(entry)
        return JSONResponse(noted.model_dump())

    return paths


def outcome_of(engine: Engine, event: CDEvent) -> OutcomeEntry:
    """Returns what an event says of a release.

    Raises:
        DeployError: If it is of a kind that says nothing of releases, or names no service.
    """
    context, content = event.context, event.subject.content
    kind = ".".join(context.type.removeprefix("dev.cdevents.").split(".")[:2])
    if kind not in _LABELS:
        raise DeployError(f"type {context.type}: there are {', '.join(_LABELS)}")
    incident = kind.startswith("incident.")
    if incident and content.service is None:
        raise DeployError("subject.content.service: an incident without one is of no release")
    service = content.service.id if incident and content.service else event.subject.id
    return OutcomeEntry(
        id=hashlib.sha256(f"cdevents\n{context.source}\n{context.id}".encode()).hexdigest()[:32],
        name=rollout_of(engine.log, service, content.environment.id, (content.artifact_id,)),
        at=context.timestamp.timestamp(),
        source="cdevents",
        label=_LABELS[kind],
        by=context.source,
        note=content.description,
        detail={
            "type": context.type,
            "subject": event.subject.id,
            "artifact": content.artifact_id,
        },
    )
