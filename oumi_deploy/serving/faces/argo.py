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
"""Argo Rollouts' `web` metric: the answer under `data`, where a jsonPath of {$.data} finds it.

Every field is there every time and every number is finite: a condition that meets null or an absent
field makes the measurement an error.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from oumi_deploy.episodes.times import unix_seconds
from oumi_deploy.serving.api import REFUSALS, body, read
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.schema import Answer, Ask


def _read_time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return unix_seconds(value) if value else None


def _read_mark(value: Any) -> Any:
    return False if value == "" else value


def _read_number(value: Any) -> Any:
    return None if value == "" else value


_MARK = {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false", ""]}], "default": False}
Mark = Annotated[bool, BeforeValidator(_read_mark), WithJsonSchema(_MARK)]


class TemplatedAsk(Ask):
    """A question filled in by an AnalysisTemplate: its args are text, empty where unset."""

    started_at: Annotated[
        Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)] | None,
        BeforeValidator(_read_time),
        WithJsonSchema(
            {
                "description": "When the canary began: Unix seconds, also as text, or ISO 8601.",
                "anyOf": [
                    {"type": "number", "minimum": 0, "exclusiveMaximum": 1e11},
                    {"type": "string", "pattern": r"^(\d{1,10}(\.\d+)?)?$"},
                    {"type": "string", "format": "date-time"},
                    {"type": "null"},
                ],
            }
        ),
    ] = None
    planned_steps: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        BeforeValidator(_read_number),
        WithJsonSchema(
            {
                "description": "How many canary observations are planned, also as text.",
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                    {"type": "string", "pattern": r"^([1-9]\d{0,5})?$"},
                    {"type": "null"},
                ],
            }
        ),
    ] = None
    canary_share: Annotated[
        Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None,
        BeforeValidator(_read_number),
        WithJsonSchema(
            {
                "description": "Share 0..1 of the traffic of the new version, also as text.",
                "anyOf": [
                    {"type": "number", "minimum": 0, "maximum": 1},
                    {"type": "string", "pattern": r"^(0(\.\d+)?|1(\.0+)?)?$"},
                    {"type": "null"},
                ],
            }
        ),
    ] = None
    last: Mark = False
    asks_again: Mark = False
    explain: Mark = False


class Measured(BaseModel):
    """An answer as the web metric reads it."""

    data: Answer


def router(engine: Engine) -> APIRouter:
    """Returns the path that an AnalysisTemplate asks."""
    paths = APIRouter()

    @paths.post(
        "/v1/argo",
        response_model=Measured,
        responses=REFUSALS,
        openapi_extra=body(TemplatedAsk),
    )
    async def measure(request: Request) -> Response:
        """Answers a measurement of Argo Rollouts. It is in the log before it is answered."""
        answer = await engine.decide(await read(request, TemplatedAsk), "argo")
        return Response(f'{{"data":{answer.model_dump_json()}}}', media_type="application/json")

    return paths
