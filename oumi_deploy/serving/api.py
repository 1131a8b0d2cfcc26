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
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.engine import Engine, name_of
from oumi_deploy.serving.schema import (
    Answer,
    Ask,
    Named,
    Noted,
    Outcome,
    Page,
    Refusal,
    Text,
    Word,
)

REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Refusal, "description": why}
    for code, why in {
        400: "No HTTP request as it should be.",
        401: "No token, or an unknown one.",
        403: "A token without the right.",
        408: "The body took too long.",
        413: "The body is too large.",
        415: "The body is not said to be JSON.",
        422: "The body is not what it should be.",
        429: "Too many requests.",
    }.items()
}

WITH_LOG = {**REFUSALS, 503: {"model": Refusal, "description": "The decision log is away."}}

Model = TypeVar("Model", bound=BaseModel)
Seconds = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class Wanted(BaseModel):
    """Which decisions to return."""

    model_config = ConfigDict(extra="forbid")

    service: Text | None = None
    environment: Text | None = None
    version: Text | None = None
    rollout: Text | None = None
    decision: Word | None = None
    since: Seconds | None = None
    until: Seconds | None = None
    cursor: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class Straight(APIRoute):
    """A path whose endpoint takes a request and returns a response, and needs no help with either.

    FastAPI describes it, and leaves out what it would do to fill in other parameters: of a
    question that is answered in half a millisecond that would take a tenth.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Returns the endpoint itself."""
        return self.endpoint


def router(engine: Engine) -> APIRouter:
    """Returns the paths of one service."""
    paths = APIRouter()

    async def decide(request: Request) -> Response:
        """Asks for a decision. It is in the log before it is answered."""
        ask = await read(request, Ask)
        answer = await engine.decide(ask)
        return Response(answer.model_dump_json(), media_type="application/json")

    paths.add_api_route(
        "/v1/decide",
        decide,
        methods=["POST"],
        response_model=Answer,
        responses=REFUSALS,
        openapi_extra=body(Ask),
        route_class_override=Straight,
    )

    @paths.post(
        "/v1/outcomes", response_model=Noted, responses=WITH_LOG, openapi_extra=body(Outcome)
    )
    async def report(request: Request) -> Response:
        """Says what became of a release. A person's review labels one that was rolled back."""
        noted = await engine.report(await read(request, Outcome))
        return JSONResponse(noted.model_dump())

    @paths.get("/v1/outcomes", responses=WITH_LOG)
    async def outcomes(rollout: Annotated[Named, Query()]) -> list[dict[str, Any]]:
        """Returns what was said of one rollout."""
        told = await asyncio.to_thread(engine.log.outcomes, name_of(rollout))
        return [vars(o.name) | {k: v for k, v in vars(o).items() if k != "name"} for o in told]

    @paths.get("/v1/decisions", responses=WITH_LOG)
    async def decisions(wanted: Annotated[Wanted, Query()]) -> Page:
        """Returns logged decisions, newest first."""
        given = wanted.model_dump(exclude={"cursor", "limit"}, exclude_none=True)
        found = engine.log.decisions
        rows, following = await asyncio.to_thread(found, given, wanted.cursor, wanted.limit)
        return Page(decisions=rows, next=following)

    @paths.get("/v1/decisions/{decision_id}/inputs", responses=WITH_LOG)
    async def inputs(
        decision_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
    ) -> list[dict[str, Any]]:
        """Returns all observations that a decision rests on, oldest first."""
        return await asyncio.to_thread(engine.log.inputs, decision_id)

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
        """Says whether decisions can be made and logged."""
        is_ready = engine.state()["log"]["writable"] or engine.settings.spool is not None
        return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    @paths.get("/v1/state", responses=REFUSALS)
    async def state() -> dict[str, Any]:
        """Returns the policy in use, why its file was refused if it was, and how the log fares."""
        return engine.state()

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
