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
"""GitHub's deployment_status events.

`success` and `failure` label the release, so they should be posted when a rollout is over; `error`
is of the deployment and not of what was deployed, and the other states say nothing yet.
"""

import asyncio
import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, Field

from oumi_deploy.serving.api import WITH_LOG, body, read
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.faces.releases import rollout_of
from oumi_deploy.serving.log.entries import OutcomeEntry
from oumi_deploy.serving.schema import Noted

_LABELS: dict[str, Literal["good", "bad"]] = {"success": "good", "failure": "bad"}

Short = Annotated[str, Field(max_length=300)]
Number = Annotated[int, Field(ge=0, lt=2**63)]


class _Status(BaseModel):
    id: Number
    state: Short
    created_at: AwareDatetime
    description: Annotated[str, Field(max_length=2000)] | None = None


class _Deployment(BaseModel):
    id: Number
    environment: Short
    ref: Short = ""
    sha: Short = ""


class _Repository(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=200)]


class DeploymentStatus(BaseModel):
    """What of the event is read; all else in it is left alone."""

    deployment_status: _Status
    deployment: _Deployment
    repository: _Repository


def router(engine: Engine) -> APIRouter:
    """Returns the path that takes GitHub's events."""
    paths = APIRouter()

    @paths.post(
        "/v1/github",
        response_model=Noted,
        responses=WITH_LOG,
        openapi_extra=body(DeploymentStatus),
    )
    async def take(request: Request) -> Response:
        """Takes a deployment_status event; the repository is the service.

        Sent again, it counts once. GitHub's other events are noted nowhere.
        """
        kind = request.headers.get("x-github-event", "deployment_status")
        if kind != "deployment_status":
            return JSONResponse({"id": "", "new": False, "matched": False})
        event = await read(request, DeploymentStatus)
        entry = await asyncio.to_thread(outcome_of, engine, event)
        noted = await engine.note(entry)
        return JSONResponse(noted.model_dump())

    return paths


def outcome_of(engine: Engine, event: DeploymentStatus) -> OutcomeEntry:
    """Returns what an event says of a release."""
    status, deployment = event.deployment_status, event.deployment
    named = f"github\n{event.repository.name}\n{deployment.id}\n{status.id}"
    artifacts = (deployment.ref, deployment.sha)
    return OutcomeEntry(
        id=hashlib.sha256(named.encode()).hexdigest()[:32],
        name=rollout_of(engine.log, event.repository.name, deployment.environment, artifacts),
        at=status.created_at.timestamp(),
        source="github",
        label=_LABELS.get(status.state),
        by="github",
        note=status.description or "",
        detail={"state": status.state, "deployment": deployment.id, "sha": deployment.sha},
    )
