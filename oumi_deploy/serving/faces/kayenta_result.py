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
"""An answer in the shape of Kayenta's judge, score by score and metric by metric."""

from collections.abc import Mapping
from math import isfinite
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.faces.kayenta_request import (
    JudgeRequest,
    Metric,
    MetricSetPair,
    Role,
    Thresholds,
    column_of,
)
from oumi_deploy.serving.schema import Answer

RAISED = 0.05
"""Risk from which on a metric that raised it that much is named as High or Low."""

Grade = Literal["Pass", "Marginal", "Fail"]
_GRADES: Mapping[str, Grade] = {"CONTINUE": "Pass", "PAUSE": "Marginal", "ROLLBACK": "Fail"}


class MetricResult(BaseModel):
    """How one metric fared."""

    name: str
    id: str
    tags: dict[str, str]
    classification: Literal["Pass", "High", "Low", "Nodata"]
    classificationReason: str
    groups: list[str]
    experimentMetadata: dict[str, Any]
    controlMetadata: dict[str, Any]
    resultMetadata: dict[str, Any]
    critical: bool
    muted: bool


class GroupScore(BaseModel):
    """Share of a group's metrics that passed, 0..100."""

    name: str
    score: float
    classification: str
    classificationReason: str


class Score(BaseModel):
    """The answer as a score."""

    score: float
    classification: Grade
    classificationReason: str


class JudgeResult(BaseModel):
    """What Kayenta is answered."""

    judgeName: str
    results: list[MetricResult]
    groupScores: list[GroupScore]
    score: Score


def check_thresholds(thresholds: Thresholds) -> None:
    """Refuses thresholds that leave one of the three answers no score.

    Raises:
        DeployError: If they are not in order.
    """
    if not 0 < thresholds.marginal < thresholds.pass_ <= 100:
        raise DeployError(
            f"scoreThresholds: marginal {thresholds.marginal:g}, pass {thresholds.pass_:g}: give "
            "0 < marginal < pass <= 100, since PAUSE is a score between the two"
        )


def score_of(answer: Answer, thresholds: Thresholds) -> float:
    """Returns a score well inside the band of the answer, higher where the risk is lower.

    Spinnaker compares the score itself: at or below `marginal` it stops the canary, and in the end
    lets pass what reaches `pass`.
    """
    low, high = {
        "CONTINUE": (thresholds.pass_, 100.0),
        "PAUSE": (thresholds.marginal, thresholds.pass_),
        "ROLLBACK": (0.0, thresholds.marginal),
    }[answer.decision]
    return low + (high - low) * (0.1 + 0.8 * (1 - answer.risk))


def result_of(request: JudgeRequest, answer: Answer) -> JudgeResult:
    """Returns an answer in Kayenta's shape."""
    settings = request.settings()
    effects = {effect["metric"]: effect for effect in (answer.explanation or {}).get("metrics", ())}
    results = [
        _metric_result(pair, settings[pair.name], effects, answer)
        for pair in request.metricSetPairList
    ]
    return JudgeResult(
        judgeName=f"oumi_deploy-{answer.policy_version}",
        results=results,
        groupScores=_group_scores(results),
        score=Score(
            score=score_of(answer, request.scoreThresholds),
            classification=_GRADES[answer.decision],
            classificationReason=answer.message,
        ),
    )


def _metric_result(
    pair: MetricSetPair, config: Metric, effects: Mapping[str, Mapping[str, Any]], answer: Answer
) -> MetricResult:
    told = config.analysisConfigurations.canary
    new, old = (_summary(pair, "experiment"), _summary(pair, "control"))
    effect = effects.get(column_of(config))
    raised = 0.0 if effect is None or told.muted else effect["contribution"]
    classification, reason = _classify(new, old, raised, told.direction, answer)
    result = {} if effect is None else {"contribution": effect["contribution"]}
    ratio = new["mean"] / old["mean"] if new and old and old["mean"] else None
    if ratio is not None and isfinite(ratio):
        result["ratio"] = ratio
    return MetricResult(
        name=pair.name,
        id=pair.id,
        tags=pair.tags or {},
        classification=classification,
        classificationReason=reason,
        groups=config.groups,
        experimentMetadata={"stats": new},
        controlMetadata={"stats": old},
        resultMetadata=result,
        critical=told.critical,
        muted=told.muted,
    )


def _classify(
    new: dict[str, float], old: dict[str, float], raised: float, direction: str, answer: Answer
) -> tuple[Literal["Pass", "High", "Low", "Nodata"], str]:
    """Returns how a metric fared, and in words what it did to the risk."""
    if not new:
        return "Nodata", "no values of the experiment"
    if answer.decision == "CONTINUE" or raised < RAISED:
        return "Pass", f"it moved the risk by {raised:+.2f}"
    falls = new["mean"] < old["mean"] if old else direction == "decrease"
    return "Low" if falls else "High", f"it raised the risk by {raised:.2f} to {answer.risk:.2f}"


def _summary(pair: MetricSetPair, role: Role) -> dict[str, float]:
    """Returns the figures of a series that Kayenta shows, none where it has no values."""
    values = [v for v in pair.of(role) if v is not None and isfinite(v)]
    if not values:
        return {}
    return {"count": len(values), "mean": fmean(values), "min": min(values), "max": max(values)}


def _group_scores(results: list[MetricResult]) -> list[GroupScore]:
    groups = dict.fromkeys(group for result in results for group in result.groups)
    scores = []
    for group in groups:
        known = [r for r in results if group in r.groups and r.classification != "Nodata"]
        passed = sum(r.classification == "Pass" for r in known)
        score = 100.0 * passed / len(known) if known else 0.0
        reason = "" if known else "no data"
        scores.append(
            GroupScore(name=group, score=score, classification="", classificationReason=reason)
        )
    return scores
