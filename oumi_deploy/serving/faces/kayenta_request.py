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
"""What Kayenta asks its remote judge, as far as it is read."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from oumi_deploy.serving.schema import Text, Word

MOST_STEPS = 2000
"""As many observations as a question may bring."""

Name = Annotated[str, Field(min_length=1, max_length=100)]
Role = Literal["control", "experiment"]
Millis = Annotated[int, Field(ge=0, lt=10**14)]
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
Series = Annotated[
    list[Annotated[float, WithJsonSchema(_NUMBER)] | None], Field(max_length=MOST_STEPS)
]
"""Values a step apart; Kayenta writes what is no number as text."""

Other = TypeVar("Other")
Listed = Annotated[list[Other], Field(max_length=200)]


class JudgeConfigurations(BaseModel):
    """Our settings in a canary config, `judge.judgeConfigurations`."""

    model_config = ConfigDict(extra="forbid")

    environment: Text = Field(default="", description="Where, as in production.")
    version: Text = Field(default="", description="The new version.")
    default: Word = Field(default="CONTINUE", description="What a service in shadow mode answers.")
    last: bool = Field(
        default=False,
        description="Whether one judgement is all there is, and no longer window follows it.",
    )


class Judge(BaseModel):
    """Which judge, and its settings."""

    judgeConfigurations: JudgeConfigurations = JudgeConfigurations()


class MetricSettings(BaseModel):
    """Our settings of a metric, `analysisConfigurations.oumi_deploy`."""

    model_config = ConfigDict(extra="forbid")

    metric: Name | None = Field(default=None, description="What the policy calls it.")


class CanarySettings(BaseModel):
    """Kayenta's own settings of a metric, `analysisConfigurations.canary`."""

    direction: str = "either"
    critical: bool = False
    muted: bool = False


class AnalysisConfigurations(BaseModel):
    """Settings of how a metric is judged."""

    canary: CanarySettings = CanarySettings()
    oumi_deploy: MetricSettings = MetricSettings()


class Metric(BaseModel):
    """A metric of a canary config."""

    name: Name
    groups: Listed[Name] = []
    analysisConfigurations: AnalysisConfigurations = AnalysisConfigurations()


class CanaryConfig(BaseModel):
    """What is compared in a canary analysis."""

    name: Text = ""
    applications: Listed[Text] = []
    judge: Judge = Judge()
    metrics: Listed[Metric] = []


class Scope(BaseModel):
    """When the values of one side were taken."""

    startTimeMillis: Millis
    stepMillis: Annotated[int, Field(gt=0, lt=10**14)]


class MetricSetPair(BaseModel):
    """The values of one metric, of the new version and of the old one."""

    name: Name
    id: Text = ""
    tags: dict[str, str] | None = None
    values: dict[Role, Series]
    scopes: dict[Role, Scope]

    def of(self, role: Role) -> list[float | None]:
        """Returns the values of one side, empty where there are none."""
        return self.values.get(role, [])


class Thresholds(BaseModel):
    """Scores from which on a canary passes, and up to which it fails."""

    pass_: float = Field(alias="pass", allow_inf_nan=False)
    marginal: float = Field(allow_inf_nan=False)


class JudgeRequest(BaseModel):
    """A question of Kayenta; what is not named here is left alone."""

    canaryConfig: CanaryConfig
    scoreThresholds: Thresholds
    metricSetPairList: Annotated[list[MetricSetPair], Field(min_length=1, max_length=200)]

    def settings(self) -> Mapping[str, Metric]:
        """Returns the config of each metric, by the name that its values have."""
        given = {metric.name: metric for metric in self.canaryConfig.metrics}
        return {
            pair.name: given.get(pair.name, Metric(name=pair.name))
            for pair in self.metricSetPairList
        }


def column_of(metric: Metric) -> str:
    """Returns what the policy calls a metric."""
    return metric.analysisConfigurations.oumi_deploy.metric or metric.name
