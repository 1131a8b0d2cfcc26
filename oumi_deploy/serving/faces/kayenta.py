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
"""Kayenta's remote judge: a canary analysis in, scores out."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.api import REFUSALS, body, read
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.faces.kayenta_request import JudgeRequest
from oumi_deploy.serving.faces.kayenta_result import JudgeResult, check_thresholds, result_of
from oumi_deploy.serving.faces.kayenta_rows import observations_of
from oumi_deploy.serving.schema import Ask


def router(engine: Engine) -> APIRouter:
    """Returns the path of the judge."""
    paths = APIRouter()

    @paths.post(
        "/judge",
        response_model=JudgeResult,
        responses=REFUSALS,
        openapi_extra=body(JudgeRequest),
    )
    async def judge(request: Request) -> Response:
        """Judges a canary for Kayenta. The decision is in the log before it is answered."""
        asked = await read(request, JudgeRequest)
        check_thresholds(asked.scoreThresholds)
        answer = await engine.decide(ask_of(asked), "kayenta")
        result = result_of(asked, answer)
        return Response(result.model_dump_json(), media_type="application/json")

    return paths


def ask_of(request: JudgeRequest) -> Ask:
    """Returns the question that a canary analysis asks.

    The start of the experiment names the rollout: it stays, while a growing window is judged again
    and again.

    Raises:
        DeployError: If the config names no service, or `observations_of` refuses the values.
    """
    config = request.canaryConfig
    service = next((name for name in (*config.applications, config.name) if name), None)
    if service is None:
        raise DeployError("canaryConfig: name the service in applications")
    observations = observations_of(request)
    start = next(o["timestamp"] for o in observations if o["phase"] == "canary")
    told = config.judge.judgeConfigurations
    return Ask(
        service=service,
        environment=told.environment,
        version=told.version,
        rollout=datetime.fromtimestamp(start, UTC).isoformat(timespec="seconds"),
        observations=observations,
        default=told.default,
        last=told.last,
        explain=True,
    )
