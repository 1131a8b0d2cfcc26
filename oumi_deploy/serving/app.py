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
"""The ASGI application."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from oumi_deploy.errors import DeployError
from oumi_deploy.serving import api
from oumi_deploy.serving.dashboard import files, routes
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.faces import argo, cdevents, flagger, github, kayenta
from oumi_deploy.serving.guard import App, Guard
from oumi_deploy.serving.log.writer import DecisionLog, LogUnavailable
from oumi_deploy.serving.settings import ServiceSettings
from oumi_deploy.serving.sources import Source

_log = logging.getLogger(__name__)

LOOK_AGAIN = 1.0
"""Seconds between looks at the policy file."""

_ABOUT = """Asks a learnt policy whether a rollout shall go on, hold or go back, and remembers."""


def create_app(settings: ServiceSettings) -> App:
    """Makes the application; the decision log is opened, and migrated, at once.

    Raises:
        DeployError: If the policy or the log cannot be used.
    """
    log = DecisionLog.open(settings.log, spool=settings.spool)
    away = log.state()["error"]
    if away is not None:
        _log.warning("the decision log is away, and looked for again: %s", away)
    try:
        engine = Engine(settings, log, _source(settings))
    except DeployError:
        log.close()
        raise
    app = FastAPI(
        title="oumi_deploy",
        summary=_ABOUT,
        version="1",
        lifespan=_lifespan(engine),
        docs_url=None,
        redoc_url=None,
    )
    for face in (api, argo, flagger, kayenta, cdevents, github, routes):
        app.include_router(face.router(engine))
    app.include_router(files.router())
    app.add_exception_handler(RequestValidationError, _refuse_malformed)
    app.add_exception_handler(LogUnavailable, _refuse_unlogged)
    app.add_exception_handler(DeployError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_elsewhere)
    return Guard(app, settings.tokens, settings.limits, engine.monitoring)


def _source(settings: ServiceSettings) -> Source | None:
    if settings.telemetry is None:
        return None
    from oumi_deploy.serving.collected import PrometheusSource

    return PrometheusSource(settings.telemetry)


def _lifespan(engine: Engine) -> Callable[[FastAPI], Any]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.recall.once()
        watching = [
            asyncio.create_task(_watch(engine.refresh, "the policy file")),
            asyncio.create_task(_watch(engine.likeness.refresh, "the latest releases")),
        ]
        try:
            yield
        finally:
            for watch in watching:
                watch.cancel()
            if engine.source is not None:
                await engine.source.close()
            await asyncio.to_thread(engine.log.close)

    return lifespan


async def _watch(refresh: Callable[[], Awaitable[object]], what: str) -> None:
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        try:
            await refresh()
        except Exception:
            _log.exception("%s could not be looked at; looked at again in a moment", what)


async def _refuse(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=422)


async def _refuse_elsewhere(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"error": error.detail}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _refuse_unlogged(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=503, headers={"retry-after": "2"})


async def _refuse_malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"error": api.first_of(error.errors())}, status_code=422)
