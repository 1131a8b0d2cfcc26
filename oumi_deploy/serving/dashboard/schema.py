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
"""What the dashboard is told, as OpenAPI describes it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Status = Literal[
    "deploying",
    "paused",
    "for_a_person",
    "healthy",
    "rolled_back",
    "failed",
    "held",
    "undecided",
]
Label = Literal["good", "bad"]


class DecisionLine(BaseModel):
    """A decision on a rollout."""

    id: str
    at: float = Field(description="When it was decided, Unix seconds.")
    decision: str = Field(description="What the service decided.")
    answered: str = Field(description="What the caller was told: its default in shadow mode.")
    shadow: bool
    explored: bool
    last: bool = Field(description="Whether the caller said that no later observation will come.")
    confidence: float
    risk: float
    q_values: dict[str, float]
    reasons: list[str]
    message: str
    why: str = Field(description="Why it is not simply what the policy prefers; empty where it is.")
    count: str = Field(
        description='Which of how many PAUSEs running it is, as in "2 of 5"; empty where it is '
        "none, or a person must end it."
    )
    held: bool = Field(description="Whether it is a PAUSE that a person must end.")
    asked_by: str
    policy_version: str
    n_inputs: int = Field(description="How many observations it rests on.")
    suspects: list[dict[str, Any]] = Field(
        description="The rollouts side by side, the likeliest cause first, each with its `id`; "
        "empty where none were compared, and of earlier decisions on a rollout."
    )
    notes: list[str] = Field(
        description="What the telemetry lacks that the service collected, and why; empty of "
        "earlier decisions on a rollout."
    )


class OutcomeLine(BaseModel):
    """What somebody said of a release."""

    at: float
    source: str
    label: Label | None
    by: str
    note: str


class RolloutLine(BaseModel):
    """Where a rollout stands."""

    id: str
    service: str
    environment: str
    version: str
    rollout: str
    status: Status = Field(
        description="deploying: asked about lately, to go on; paused: likewise, to hold; "
        "for_a_person: held within the last day, and a person must decide; "
        "rolled_back: the last answer was ROLLBACK, and meant; healthy: labelled good, or "
        "its last observation was answered CONTINUE; failed: went on, and is labelled bad; "
        "held: labelled bad, and the last answer was PAUSE; undecided: not asked about any more, "
        "and nobody said how it ended."
    )
    label: Label | None = Field(
        description="What the release turned out to be; null where nobody knows."
    )
    began: float = Field(description="When it was first decided on, Unix seconds.")
    n_decisions: int
    latest: DecisionLine
    metrics: dict[str, Any] = Field(description="The newest observation; null is missing.")


class Rollouts(BaseModel):
    """Rollouts, that which was decided on last first."""

    rollouts: list[RolloutLine]
    next: str | None = Field(description="Cursor of the next page.")
    total: int | None = Field(
        description="How many there are on all pages; null of past ones, and where all were asked "
        "for."
    )


class RolloutCourse(BaseModel):
    """All that is known of a rollout."""

    rollout: RolloutLine
    decisions: list[DecisionLine] = Field(
        description="Oldest first; of more than 1,000 the newest."
    )
    observations: list[dict[str, Any]] = Field(
        description="What the latest decision rests on, oldest first, in the episode format; "
        "timestamps in Unix seconds."
    )
    outcomes: list[OutcomeLine] = Field(description="In the order in which they came in.")


class Explained(BaseModel):
    """Why the policy decided on a rollout as it did."""

    decision_id: str = Field(description="The latest decision, which is explained.")
    explanation: dict[str, Any] | None = Field(
        description="As an answer has it that was asked to explain; of the rollout by itself."
    )
    problem: str | None = Field(description="Why there is none, null where there is.")


class Tally(BaseModel):
    """How many rollouts ended how. Of a label that nobody knows, nothing is guessed."""

    bad_stopped: int = Field(description="Labelled bad; ROLLBACK came last.")
    bad_held: int = Field(description="Labelled bad; PAUSE came last.")
    bad_missed: int = Field(description="Labelled bad, and went on.")
    good_rolled_back: int = Field(description="Labelled good; ROLLBACK came last.")
    good_paused: int = Field(description="Labelled good, held at some time, and not rolled back.")
    good_undisturbed: int = Field(description="Labelled good, and was only told to go on.")
    unknown_rolled_back: int = Field(description="Without a label; ROLLBACK came last.")
    unknown_went_on: int = Field(description="Without a label; any other rollout.")


class Summary(BaseModel):
    """How rollouts ended that were decided on since a time."""

    since: float
    acted: Tally = Field(description="Rollouts whose last decision had effect.")
    shadow: Tally = Field(description="Rollouts in shadow mode: what would have been.")


class PolicyState(BaseModel):
    """The policy in use, and how it came to be."""

    version: str
    file: str = Field(description="Name of the policy file.")
    refused: str | None = Field(description="Why a newer file was refused, null where none was.")
    format_version: int = Field(
        description="Version of the policy file; of version 1 it decides by the rules of its time."
    )
    break_even: float = Field(description="Risk 0..1 up to which a promotion pays.")
    form: str
    metrics: list[str] = Field(description="What its state is made of.")
    trained_on: dict[str, Any]
    calibration: dict[str, Any]
    warnings: list[str] = Field(
        description="What to know of it before its answers: that it fails its vet, and where; that "
        "its file is of version 1."
    )
    vet: dict[str, Any] = Field(description="What its file keeps of its vet: `passes`, `failed`.")
    likeness: dict[str, Any] | None = Field(
        description="How like the latest releases are to those of its training: `line` in words, "
        "`verdict`, `n` of them; null before the first look at them."
    )
    shadow: bool
    explore: float
    log_error: str | None = Field(description="Why the log takes no entries, null where it does.")
    log_spools: bool = Field(description="Whether entries are kept in a file meanwhile.")
    log_spooled: int
    history: list[dict[str, Any]] = Field(
        description="The learning loop's history.jsonl beside the policy file, newest first."
    )
    history_problem: str | None = Field(description="What is wrong with it, null where nothing is.")
