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

"""A rollout under way, decided on observation by observation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oumi_deploy.episodes.schema import ROLLOUT_COLUMNS, TEXT_COLUMNS
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.answers import ANSWERS, pause_limit
from oumi_deploy.policy.guardrail import Streak
from oumi_deploy.policy.guardrails import severest
from oumi_deploy.policy.observation import is_baseline, read_metrics, read_number, read_time
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.weighing import End, Past, Reading, Weighed, weigh
from oumi_deploy.problem.history import Memory
from oumi_deploy.problem.rewards import ACTIONS

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

_NO_METRIC = {"step", "timestamp", "planned_steps", "propensity", "action"}
_NO_METRIC |= {*TEXT_COLUMNS, *ROLLOUT_COLUMNS}


@dataclass(frozen=True)
class Decision:
    """An answer.

    Attributes:
        decision: `CONTINUE`, send more traffic; `ROLLBACK`; or `PAUSE`, hold the rollout as it is
            and ask again with the next observation.
        confidence: Probability 0..1 that the decision is right; for PAUSE that of the likelier
            outcome. None of a policy file of version 1 that is not calibrated.
        risk: Probability 0..1 that the release is bad, from what was seen so far; None likewise.
        q_values: Expected reward of each action, by name.
        q_margin: How far the Q-value of the action that the policy prefers lies above the next
            best action's, 0 or more.
        reasons: Why the answer is not simply what the policy prefers: names of `Reason`, in small
            letters.
        calibrated: Whether risk and confidence were fitted to releases that the policy was not
            trained on; else they are what the Q-values imply.
        pauses: Observations running, this one included, at which the policy holds its decision
            back; 0 where it does not.
        pause_limit: Number of them at which it pauses no longer, 0 likewise; fewer where the risk
            is above the rewards' break-even, see `PauseRules`.
        guardrails: What the guardrails say that ask for a PAUSE or ROLLBACK, as in `error_rate
            above 0.05 for 2 observations`.
    """

    decision: str
    confidence: float | None
    risk: float | None
    q_values: dict[str, float]
    q_margin: float
    reasons: tuple[str, ...] = ()
    calibrated: bool = True
    pauses: int = 0
    pause_limit: int = 0
    guardrails: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the answer as plain values."""
        return {
            "decision": self.decision,
            "confidence": self.confidence,
            "risk": self.risk,
            "q_values": self.q_values,
            "q_margin": self.q_margin,
            "reasons": list(self.reasons),
            "calibrated": self.calibrated,
            "pauses": self.pauses,
            "pause_limit": self.pause_limit,
            "guardrails": list(self.guardrails),
        }


@dataclass(frozen=True, eq=False)
class Newest:
    """The newest canary observation of a rollout, with all that its answer rests on.

    Attributes:
        past: What was remembered before it.
        reading: What it says.
        weighed: What the policy makes of it.
        asked: What each guardrail asks for, codes of `pauses.Guard`.
        guardrails: What those say that ask for something.
    """

    past: Past
    reading: Reading
    weighed: Weighed
    asked: tuple[int, ...]
    guardrails: tuple[str, ...]


class _Standing(NamedTuple):
    """What is remembered of the rollout between two observations, see `Past`."""

    memories: tuple[Memory, ...]
    was_silent: bool
    requests_short: float
    pauses_running: int
    streaks: tuple[Streak, ...]


class _Look(NamedTuple):
    """A canary observation: what was remembered before it, what it says, what is made of it."""

    before: _Standing
    values: list[float]
    control: list[float]
    minute: float
    planned_steps: float
    requests: float
    guarded: list[float]
    asked: tuple[int, ...]
    weighed: Weighed


class Rollout:
    """A rollout under way: takes in observations one by one and decides after each.

    Nothing is read twice, so the answer for the twentieth observation costs what the first did. It
    reckons with numbers: arrays of one element would take most of the time of a decision.

    Attributes:
        policy: The policy that decides.
    """

    def __init__(self, policy: "DeploymentPolicy"):
        self.policy = policy
        self._look: _Look | None = None
        self._standing = _Standing(
            (Memory(),) * len(policy.encoder.metrics), True, 0.0, 0, policy.guardrails.begin()
        )
        self._n_seen = 0
        self._is_told, self._strangers = False, set[str]()
        self._latest_step = self._latest_minute = -inf

    @property
    def newest(self) -> Newest | None:
        """The newest canary observation, None before the first."""
        look = self._look
        if look is None:
            return None
        past = Past(
            Memory.of_one(look.before.memories),
            np.array([look.before.was_silent]),
            np.array([look.before.requests_short]),
            np.array([look.before.pauses_running]),
            tuple(Streak(*(np.array([x]) for x in streak)) for streak in look.before.streaks),
        )
        reading = Reading(
            np.array([look.values]),
            np.array([look.control]),
            minute=np.array([[look.minute]]),
            planned_steps=np.array([[look.planned_steps]]),
            requests=np.array([look.requests]),
            guarded=np.array([look.guarded]),
        )
        said = self.policy.guardrails.said(look.asked, look.guarded)
        return Newest(past, reading, look.weighed.in_arrays(), look.asked, said)

    def observe_all(self, observations: Sequence[Mapping[str, Any]]) -> None:
        """Takes in the next observations, oldest first.

        Raises:
            DeployError: If they are no list, or at one that `observe` refuses.
        """
        if isinstance(observations, Mapping | str) or not isinstance(observations, Sequence):
            raise DeployError("observations: expected a list of objects, oldest first")
        for observation in observations:
            self.observe(observation)

    def observe(self, observation: Mapping[str, Any]) -> None:
        """Takes in the next observation.

        Raises:
            DeployError: If a value is not one the episode format allows, or a baseline
                observation comes after a canary one.
        """
        self._n_seen += 1
        if not isinstance(observation, Mapping):
            raise DeployError(f"observation {self._n_seen}: {observation!r} is not an object")
        number, encoder = self._n_seen, self.policy.encoder
        step, minute = read_number(observation, "step", number), read_time(observation, number)
        self._check_order(step, minute)
        self._note_names(observation)
        values, control = read_metrics(observation, encoder.metrics, number)
        guarded = [read_number(observation, c, number) for c in self.policy.guardrails.columns]
        if is_baseline(observation, number):
            self._take_in_baseline(values, guarded)
            return
        planned_steps = read_number(observation, "planned_steps", number)
        requests = read_number(observation, "requests", number)
        self._take_in(values, control, minute, planned_steps, requests, guarded)

    def _take_in_baseline(self, values: list[float], guarded: list[float]) -> None:
        if self._look is not None:
            raise DeployError(f"observation {self._n_seen}: baseline after canary")
        standing, rails = self._standing, self.policy.guardrails
        memories = zip(standing.memories, values, strict=True)
        self._standing = standing._replace(
            memories=tuple(memory.observe_baseline(value) for memory, value in memories),
            streaks=rails.observe_baseline(standing.streaks, guarded),
        )

    def _take_in(
        self,
        values: list[float],
        control: list[float],
        minute: float,
        planned_steps: float,
        requests: float,
        guarded: list[float],
    ) -> None:
        policy, before = self.policy, self._standing
        memories = tuple(
            memory.observe(value, old, minute, planned_steps)
            for memory, value, old in zip(before.memories, values, control, strict=True)
        )
        features = policy.encoder.encode(memories)
        based = [memory.base_count > 0 for memory in memories]
        is_silent = policy.usable.is_silent_one(values, control, based)
        is_unmatched = policy.usable.is_unmatched_one(values, control)
        enough, short = policy.count_requests(before.requests_short, requests)
        few = enough < policy.least_requests
        streaks, asked = policy.guardrails.observe(before.streaks, guarded, few)
        evidence = policy.evidence_of_one(
            features, is_silent, is_unmatched, before.was_silent, enough, severest(asked)
        )
        share = memories[0].planned_share
        weighed = weigh(policy, features, evidence, share, before.pauses_running)
        self._look = _Look(
            before, values, control, minute, planned_steps, requests, guarded, asked, weighed
        )
        self._standing = _Standing(memories, is_silent, short, weighed.pauses_running, streaks)

    def _note_names(self, observation: Mapping[str, Any]) -> None:
        if self._is_told:
            return
        names = observation.keys()
        self._is_told = not names.isdisjoint(self.policy.encoder.metrics)
        if not self._is_told:
            self._strangers |= names - _NO_METRIC - {*self.policy.guardrails.columns}

    def _check_order(self, step: float, minute: float) -> None:
        """Refuses observations that are not oldest first, as far as they say when they are of."""
        for name, value, latest in (
            ("step", step, self._latest_step),
            ("timestamp", minute, self._latest_minute),
        ):
            if value < latest:
                raise DeployError(
                    f"observation {self._n_seen}: {name} goes back; send the oldest first"
                )
        self._latest_step = max(self._latest_step, step)
        self._latest_minute = max(self._latest_minute, minute)

    def decide(self, *, last: bool = False, asks_again: bool = False) -> Decision:
        """Decides on the newest observation.

        Args:
            last: Whether no later observation will come, see `DeploymentPolicy.decide`.
            asks_again: Whether the caller asks again at its last look while the answer is PAUSE.

        Raises:
            DeployError: If there is no observation to decide on; and if none so much as names a
                metric of the state, unless every name is known to be none: missing telemetry does
                not explain another spelling.
        """
        if self._look is None:
            raise DeployError(
                "there is no canary observation to decide on: send at least one whose phase is "
                "not baseline"
            )
        policy = self.policy
        says_risk = policy.version > 1 or policy.calibration is not None
        if not self._is_told and (self._strangers or not says_risk):
            metrics = ", ".join(policy.encoder.metrics)
            raise DeployError(
                f"no observation names a metric of the policy's state ({metrics}); send null for "
                "one that nobody reported"
            )
        look, weighed = self._look, self._look.weighed
        answers = weighed.answers(policy, End(last, asks_again))
        *_, second, best = sorted(weighed.q_values)
        return Decision(
            decision=ANSWERS[answers.decision],
            confidence=answers.confidence if says_risk else None,
            risk=answers.risk if says_risk else None,
            q_values=dict(zip(ACTIONS, weighed.q_values, strict=True)),
            q_margin=best - second,
            reasons=reason_names(answers.reasons),
            calibrated=policy.calibration is not None,
            pauses=weighed.pauses_running,
            pause_limit=pause_limit(policy, weighed.preferred) if weighed.pauses_running else 0,
            guardrails=policy.guardrails.said(look.asked, look.guarded),
        )


@cache
def reason_names(flags: int) -> tuple[str, ...]:
    """Returns the names of `Reason` flags, in small letters."""
    return tuple(str(reason.name).lower() for reason in Reason if flags & reason)
