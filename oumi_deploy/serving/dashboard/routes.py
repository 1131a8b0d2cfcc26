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
"""What the dashboard reads, under /v1."""

import asyncio
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from oumi_deploy.evaluation.seen_groups import without_digests
from oumi_deploy.serving.api import REFUSALS, WITH_LOG, Seconds
from oumi_deploy.serving.dashboard.counting import Counting, CountingCrowded
from oumi_deploy.serving.dashboard.explaining import explain_decision
from oumi_deploy.serving.dashboard.history import read_history
from oumi_deploy.serving.dashboard.lines import (
    LEFT_FOR,
    QUIET_AFTER,
    rollout_course,
    rollout_line,
    tally,
)
from oumi_deploy.serving.dashboard.schema import (
    Explained,
    PolicyState,
    RolloutCourse,
    Rollouts,
    Summary,
)
from oumi_deploy.serving.engine import Engine
from oumi_deploy.serving.log.overview import Wanted
from oumi_deploy.serving.log.stages import Horizons, Stage
from oumi_deploy.serving.schema import Refusal, Text

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Refusal, "description": "No decision on such a rollout is logged."}
}
_TOLD = ("fingerprint", "n_episodes", "n_groups", "n_decisions", "n_good", "n_bad")
"""What is told of the training data; its list of groups is long, and of no use to a person."""


RolloutId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class WantedRollouts(BaseModel):
    """Which rollouts to return."""

    model_config = ConfigDict(extra="forbid")

    service: Text | None = None
    stage: Stage | None = Field(
        default=None,
        description="on_hold: told to hold, and asked about lately or left so within the last "
        "day; to_review: rolled back within the last day, and not reviewed; going_on: asked about "
        "lately, to go on; past: all others.",
    )
    cursor: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class Since(BaseModel):
    """From when on to count."""

    model_config = ConfigDict(extra="forbid")

    since: Seconds = Field(default=0.0, description="Unix seconds.")


def router(engine: Engine) -> APIRouter:
    """Returns the dashboard's paths of one service."""
    paths = APIRouter()
    interval = engine.settings.interval
    counting = Counting(engine.log)

    @paths.get("/v1/rollouts", responses=WITH_LOG)
    async def rollouts(wanted: Annotated[WantedRollouts, Query()]) -> Rollouts:
        """Returns where rollouts stand, that which was decided on last first."""
        now = time.time()
        horizons = Horizons(now - QUIET_AFTER * interval, now - LEFT_FOR)
        which = Wanted(wanted.service, wanted.stage, horizons)
        page = await asyncio.to_thread(engine.log.standings, which, wanted.cursor, wanted.limit)
        lines = [rollout_line(standing, now, interval) for standing in page.standings]
        return Rollouts(rollouts=lines, next=page.next, total=page.total)

    @paths.get(
        "/v1/rollouts/{rollout_id}",
        response_model=RolloutCourse,
        responses={**WITH_LOG, **_UNKNOWN},
    )
    async def rollout(rollout_id: RolloutId) -> RolloutCourse | JSONResponse:
        """Returns all decisions on a rollout, what they rest on, and what was said of it."""
        course = await asyncio.to_thread(engine.log.course, rollout_id)
        if course is None:
            return _unknown(rollout_id)
        return rollout_course(course, time.time(), interval)

    @paths.get(
        "/v1/rollouts/{rollout_id}/explanation",
        response_model=Explained,
        responses={**WITH_LOG, **_UNKNOWN},
    )
    async def explanation(rollout_id: RolloutId) -> Explained | JSONResponse:
        """Says which metrics moved the latest decision on a rollout, and what would turn it."""
        grounds = await asyncio.to_thread(engine.log.grounds, rollout_id)
        if grounds is None:
            return _unknown(rollout_id)
        return await asyncio.to_thread(explain_decision, *grounds, engine.policies.current)

    @paths.get("/v1/summary", response_model=Summary, responses=WITH_LOG)
    async def summary(wanted: Annotated[Since, Query()]) -> Summary | JSONResponse:
        """Counts how rollouts ended: bad ones stopped and missed, good ones disturbed or not.

        An outcome counts at once, a decision within a few seconds; both later where counting takes
        long. Count from few times: what was not counted yet is refused where much is.
        """
        try:
            endings = await counting.endings(wanted.since)
        except CountingCrowded as crowded:
            return JSONResponse({"error": str(crowded)}, 429, headers={"retry-after": "1"})
        return Summary(
            since=wanted.since,
            acted=tally(ending for ending in endings if not ending.shadow),
            shadow=tally(ending for ending in endings if ending.shadow),
        )

    @paths.get("/v1/policy", responses=REFUSALS)
    async def policy() -> PolicyState:
        """Returns the policy in use, how it was calibrated, and its history."""
        history, problem = await asyncio.to_thread(read_history, engine.policies.path)
        return _policy_state(engine, history, problem)

    return paths


def _unknown(rollout_id: str) -> JSONResponse:
    why = f"rollout {rollout_id}: no decision on it is logged"
    return JSONResponse({"error": why}, status_code=404)


def _policy_state(
    engine: Engine, history: list[dict[str, Any]], problem: str | None
) -> PolicyState:
    current, log = engine.policies.current, engine.log.state()
    policy = current.policy
    assert policy.calibration is not None, "the service takes calibrated policies only"
    # Left out before all is copied: there are up to 20,000, and decisions wait meanwhile.
    fitted_on = without_digests(policy.calibration.fitted_on)
    return PolicyState(
        version=current.version,
        file=engine.policies.path.name,
        refused=engine.policies.refused,
        format_version=policy.version,
        break_even=policy.rewards.break_even(),
        form=policy.form,
        metrics=list(policy.encoder.metrics),
        trained_on={k: policy.training_data[k] for k in _TOLD if k in policy.training_data},
        calibration=replace(policy.calibration, fitted_on=fitted_on).as_dict(),
        warnings=current.warnings,
        vet=dict(current.vet),
        likeness=engine.likeness.state,
        shadow=engine.settings.shadow,
        explore=engine.settings.explore,
        log_error=log["error"],
        log_spools=engine.settings.spool is not None,
        log_spooled=log["spooled"],
        history=history,
        history_problem=problem,
    )
