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

"""What the decision log holds: decisions, and what became of the releases."""

from dataclasses import dataclass
from typing import Any, Literal

from oumi_deploy.errors import DeployError

HELD_FOR_A_PERSON = "held_for_a_person"
"""The reason of a PAUSE that a person must end."""

GUARDRAIL = "guardrail"
"""The reason of what a team's own limits ask for: nothing delays such a ROLLBACK."""


class LogUnavailable(DeployError):
    """The database cannot be used just now: what was to be logged is not, and never will be.

    Attributes:
        in_doubt: Whether the line broke while the database may have been committing; who tells a
            caller must then see to it that the entry is withdrawn.
    """

    in_doubt = False


@dataclass(frozen=True)
class RolloutName:
    """Names a rollout.

    Attributes:
        service: The service that changes.
        environment: Where.
        version: The new version.
        rollout: Which try at that version; empty where there is one.
    """

    service: str
    environment: str
    version: str
    rollout: str = ""


@dataclass(frozen=True)
class DecisionEntry:
    """One decision with all that it rests on.

    Attributes:
        id: 32 hexadecimal digits, a digest of what was asked: a retry has the same.
        name: The rollout.
        at: When it was decided, Unix seconds.
        asked_by: Through which door the question came.
        policy_version: The policy that decided.
        base: Id of the decision whose inputs these continue, None where they begin anew.
        kept: How many of the first inputs of `base` still stand, 0 or more.
        observations: The inputs that follow those, oldest first; in the episode format.
        last: Whether the caller said that no later observation will come.
        asks_again: Whether it said that it asks again at its last look while the answer is PAUSE.
        preferred: What the policy answered, before exploration and shadow mode.
        decision: What the service decided.
        answered: What the caller was told; another word than `decision` in shadow mode alone.
        propensity: Probability with which `decision` was chosen, above 0 and at most 1.
        explored: Whether it is a PAUSE in the place of a ROLLBACK.
        shadow: Whether the decision had no effect.
        risk: P(bad | seen so far).
        confidence: Probability 0..1 that the decision is right.
        q_values: Expected reward of each action, by name.
        reasons: Why the decision is not simply what the policy prefers.
        suspects: The likeliest causes in the window, likeliest first; None where nothing was
            compared.
        notes: What the collected telemetry lacks, and why, a sentence each; None where nothing was
            collected, or nothing is lacking.
        pauses: Observations running at which the policy held its decision back, this one included.
        pause_limit: Number of them at which it pauses no longer; 0 where nothing was held back.
        guardrails: What the policy's guardrails say that ask for a PAUSE or ROLLBACK; None where
            none does.
    """

    id: str
    name: RolloutName
    at: float
    asked_by: str
    policy_version: str
    base: str | None
    kept: int
    observations: list[dict[str, Any]]
    last: bool
    preferred: str
    decision: str
    answered: str
    propensity: float
    explored: bool
    shadow: bool
    risk: float
    confidence: float
    q_values: dict[str, float]
    reasons: list[str]
    suspects: list[dict[str, Any]] | None = None
    notes: list[str] | None = None
    asks_again: bool = False
    pauses: int = 0
    pause_limit: int = 0
    guardrails: list[str] | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is a PAUSE that a person must end."""
        return self.decision == "PAUSE" and HELD_FOR_A_PERSON in self.reasons

    @property
    def is_over(self) -> bool:
        """Whether the caller does not ask about the rollout any more."""
        return self.last and not (self.asks_again and self.answered == "PAUSE")


@dataclass(frozen=True)
class OutcomeEntry:
    """What somebody said of a release, once it was known.

    Attributes:
        id: Names this report: told again, it has the same.
        name: The rollout; the log need not know it.
        at: When it was known, Unix seconds.
        source: Who tells: "review" is a person, who alone can label a release that was rolled
            back.
        label: What the release turned out to be; None where the report does not say.
        by: The person or system.
        note: In words.
        detail: What else the system told, plain values.
    """

    id: str
    name: RolloutName
    at: float
    source: str
    label: Literal["good", "bad"] | None
    by: str
    note: str
    detail: dict[str, Any]


Entry = DecisionEntry | OutcomeEntry
