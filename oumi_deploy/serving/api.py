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
"""The service's own paths under /v1, and what operators look at."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.schema import Answer, Ask, Noted, Outcome, Page, Refusal, Word

REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Refusal, "description": why}
    for code, why in {
        400: "No JSON.",
        401: "No token, or an unknown one.",
        403: "A token without the right.",
        413: "The body is too large.",
        422: "The body is not what it should be.",
        429: "Too many requests.",
    }.items()
}

WITH_LOG = {**REFUSALS, 503: {"model": Refusal, "description": "The decision log is away."}}

Model = TypeVar("Model", bound=BaseModel)
Filter = Annotated[str | None, Query(max_length=200)]
Seconds = Annotated[float | None, Query(ge=0, lt=1e11, allow_inf_nan=False)]


def router(engine: Engine) -> APIRouter:
    """Returns the paths of one service."""
    paths = APIRouter()

    @paths.post("/v1/decide", response_model=Answer, responses=REFUSALS, openapi_extra=body(Ask))
    async def decide(request: Request) -> Response:
        """Asks for a decision. It is in the log before it is answered."""
        ask = await read(request, Ask)
        answer = await engine.decide(ask)
        return Response(answer.model_dump_json(), media_type="application/json")

    @paths.post(
        "/v1/outcomes", response_model=Noted, responses=WITH_LOG, openapi_extra=body(Outcome)
    )
    async def report(request: Request) -> Response:
        """Says what became of a release. A person's review labels one that was rolled back."""
        noted = await engine.report(await read(request, Outcome))
        return JSONResponse(noted.model_dump())

    @paths.get("/v1/outcomes", responses=WITH_LOG)
    async def outcomes(
        service: Annotated[str, Query(min_length=1, max_length=200)],
        environment: Annotated[str, Query(max_length=200)] = "",
        version: Annotated[str, Query(max_length=200)] = "",
        rollout: Annotated[str, Query(max_length=200)] = "",
    ) -> list[dict[str, Any]]:
        """Returns what was said of one rollout."""
        name = RolloutName(service, environment, version, rollout)
        told = await asyncio.to_thread(engine.log.outcomes, name)
        return [
            {**asdict(o.name), **{k: v for k, v in asdict(o).items() if k != "name"}} for o in told
        ]

    @paths.get("/v1/decisions", responses=WITH_LOG)
    async def decisions(
        service: Filter = None,
        environment: Filter = None,
        version: Filter = None,
        rollout: Filter = None,
        decision: Word | None = None,
        since: Seconds = None,
        until: Seconds = None,
        cursor: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Page:
        """Returns logged decisions, newest first."""
        wanted = {
            "service": service,
            "environment": environment,
            "version": version,
            "rollout": rollout,
            "decision": decision,
            "since": since,
            "until": until,
        }
        given = {k: v for k, v in wanted.items() if v is not None}
        rows, following = await asyncio.to_thread(engine.log.decisions, given, cursor, limit)
        return Page(decisions=rows, next=following)

    @paths.post("/v1/policy/reload", responses=REFUSALS)
    async def reload() -> dict[str, Any]:
        """Reads the policy file again now."""
        changed = await engine.refresh()
        return {"changed": changed, **engine.state()["policy"]}

    @paths.get("/health")
    async def health() -> dict[str, str]:
        """Says that the process answers."""
        return {"status": "ok"}

    @paths.get("/ready", responses={503: {"description": "The log takes no entries."}})
    async def ready() -> Response:
        """Says whether decisions can be made and logged, and with which policy."""
        state = engine.state()
        is_ready = state["log"]["writable"] or engine.settings.spool is not None
        return JSONResponse({"ready": is_ready, **state}, status_code=200 if is_ready else 503)

    @paths.get("/metrics", responses=REFUSALS, response_class=Response)
    async def metrics() -> Response:
        """Returns the service's own metrics in Prometheus' text format."""
        return Response(engine.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return paths


def body(model: type[BaseModel]) -> dict[str, Any]:
    """Describes the body of a request that `read` reads."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read(request: Request, model: type[Model]) -> Model:
    """Reads a request's body; straight from its bytes, which is several times faster.

    Raises:
        DeployError: If it is no JSON, or not what the model says.
    """
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise DeployError(first_of(error.errors(include_url=False))) from error


def first_of(errors: Sequence[Any]) -> str:
    """Returns the first of a model's complaints in one line, with its place."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{place + ': ' if place else ''}{first['msg']}{others}"
