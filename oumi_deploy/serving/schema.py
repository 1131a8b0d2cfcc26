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
"""What callers send and what they get back: the service's words, as OpenAPI tells them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A name: no control characters, so that a log line stays one line."""

Number = Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictInt
Observation = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=100)],
        Number | Annotated[StrictStr, Field(max_length=100)] | None,
    ],
    Field(max_length=100),
]
"""One observation of the episode format; null is a missing value."""

Word = Literal["CONTINUE", "PAUSE", "ROLLBACK"]


class Named(BaseModel):
    """What names a rollout."""

    model_config = ConfigDict(extra="forbid")

    service: Annotated[Text, Field(min_length=1)] = Field(description="The service that changes.")
    environment: Text = Field(
        default="", description="Where, as in production; a Kubernetes namespace."
    )
    version: Text = Field(default="", description="The new version.")
    rollout: Text = Field(
        default="", description="Which try at that version, where there are several."
    )


class Ask(Named):
    """A question: go on, hold, or go back?"""

    observations: Annotated[list[Observation], Field(max_length=2000)] | None = Field(
        default=None,
        description="All of the rollout so far in the episode format, oldest first, baseline rows "
        "before canary rows. Left out, the service collects them itself.",
    )
    started_at: Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)] | None = Field(
        default=None,
        description="When the canary began, Unix seconds, for a service that collects; by default "
        "when this rollout was first asked about.",
    )
    planned_steps: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="How many canary observations the rollout is planned to have, where the caller "
        "knows; it stands for every observation that does not say it itself.",
    )
    canary_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Share 0..1 of the traffic that the new version is given now, where the caller "
        "knows; it takes the place of the one that the newest observation measured.",
    )
    last: bool = Field(
        default=False,
        description="Whether this is the last look: to CONTINUE is to promote. No PAUSE can wait "
        "for another one then, unless the tool asks again: it is decided, or held for a person.",
    )
    asks_again: bool = Field(
        default=False,
        description="Whether the tool asks again at its last look while the answer is PAUSE.",
    )
    default: Word = Field(default="CONTINUE", description="What a service in shadow mode answers.")
    explain: bool = Field(
        default=False, description="Whether to say which metric moved it, and how far."
    )

    @property
    def is_final(self) -> bool:
        """Whether no other look follows, whatever the answer is."""
        return self.last and not self.asks_again


class Answer(Named):
    """An answer. Every field is there every time, and every number is finite."""

    id: str = Field(description="Names this decision; the same question again has the same id.")
    at: float = Field(description="When it was decided, Unix seconds.")
    decision: Word
    confidence: float = Field(
        ge=0,
        le=1,
        description="Probability that the decision is right; of a PAUSE, that of the likelier "
        "outcome.",
    )
    risk: float = Field(ge=0, le=1, description="P(bad | seen so far).")
    q_values: dict[Literal["CONTINUE", "ROLLBACK"], float] = Field(
        description="Expected reward of each action."
    )
    reasons: list[str] = Field(description="Why it is not simply what the policy prefers.")
    message: str = Field(description="The same in one sentence.")
    policy_version: str
    observations: int = Field(description="Canary observations that it rests on.")
    explored: bool = Field(description="Whether a ROLLBACK was turned into PAUSE to learn from.")
    shadow: bool = Field(description="Whether this is the caller's default, not the policy's word.")
    would_be: Word = Field(description="What would have been answered outside of shadow mode.")
    logged: bool = Field(description="Whether the decision is in the log.")
    guardrails: list[str] = Field(
        description="What the policy's guardrails say that ask for a PAUSE or ROLLBACK, as in "
        "error_rate above 0.2 for 2 observations."
    )
    suspects: list[dict[str, Any]] = Field(
        description="Where a ROLLBACK is wanted and other rollouts are under way: the likeliest "
        "causes first, each with a score and a sentence; `waited_for` marks the one that this "
        "rollout waits for."
    )
    explanation: dict[str, Any] | None = Field(description="Where it was asked for.")


class Outcome(Named):
    """What became of a release."""

    label: Literal["good", "bad"] | None = Field(description="null where nobody knows yet.")
    source: Literal["review", "pipeline", "incident", "other"] = Field(
        description="review: a person looked at it, which alone labels a release that was rolled "
        "back; pipeline: the deployment tool; incident: an alert or ticket."
    )
    id: Annotated[str, Field(max_length=100)] = Field(
        default="",
        description="Names this report: sent again, it counts once. By default its content.",
    )
    at: Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)] | None = Field(
        default=None, description="When it was known, Unix seconds; by default now."
    )
    by: Text = Field(default="", description="Who says so.")
    note: Annotated[str, Field(max_length=2000)] = Field(default="", description="In words.")


class Noted(BaseModel):
    """That an outcome is in the log."""

    id: str
    new: bool = Field(description="False where it was there already.")
    matched: bool = Field(description="Whether the log has a decision on the rollout it names.")


class Page(BaseModel):
    """Logged decisions, newest first."""

    decisions: list[dict[str, Any]]
    next: str | None = Field(description="Cursor of the next page.")


class Refusal(BaseModel):
    """Why a request was refused, in one line."""

    error: str
