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
"""From a question to an answer that is in the log."""

import asyncio
import hashlib
import json
import logging
import time
from dataclasses import replace
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.explain import explain_rollout
from oumi_deploy.policy.pauses import PAUSE
from oumi_deploy.policy.rollout import Decision
from oumi_deploy.policy.weighing import End
from oumi_deploy.serving.exploration import choose, draw_for
from oumi_deploy.serving.faces.releases import try_of
from oumi_deploy.serving.held import Held, HeldRollouts
from oumi_deploy.serving.likeness import LikenessWatch
from oumi_deploy.serving.log.entries import (
    GUARDRAIL,
    HELD_FOR_A_PERSON,
    DecisionEntry,
    OutcomeEntry,
    RolloutName,
)
from oumi_deploy.serving.log.writer import DecisionLog, LogUnavailable
from oumi_deploy.serving.monitoring import Monitoring
from oumi_deploy.serving.observing import Observer, Question, Seen
from oumi_deploy.serving.policies import PolicyFile
from oumi_deploy.serving.recall import Recall
from oumi_deploy.serving.schema import Answer, Ask, Named, Noted, Outcome
from oumi_deploy.serving.settings import Face, ServiceSettings
from oumi_deploy.serving.sources import Source
from oumi_deploy.serving.stated import as_stated, shares_before
from oumi_deploy.serving.together import Windows
from oumi_deploy.serving.verdict import (
    TELEMETRY_UNAVAILABLE,
    confidence_of,
    for_a_person,
    held_back,
    not_promoted,
)
from oumi_deploy.serving.words import message

_log = logging.getLogger(__name__)


class Engine:
    """Decides, remembers and reports.

    Attributes:
        settings: What the service was told.
        policies: The policy file in use.
        log: The decision log.
        source: Where observations come from that a question does not bring; None for nowhere.
        monitoring: The service's own counters.
        held: The rollouts under way.
        windows: How they stand beside each other.
        recall: What the log remembers of that from before the start.
        likeness: How like the latest releases are to those that the policy was made for.
    """

    def __init__(self, settings: ServiceSettings, log: DecisionLog, source: Source | None):
        self.settings, self.log, self.source = settings, log, source
        self.policies = PolicyFile(settings.policy, None if source is None else source.columns)
        self.monitoring = Monitoring()
        self.held = HeldRollouts()
        self.windows = Windows(settings)
        self._observer = Observer(settings.interval, log, self.held, source, self.monitoring)
        self.recall = Recall(log, self.windows)
        self.likeness = LikenessWatch(log, self.policies, settings.interval)
        self._refreshing = asyncio.Lock()

    async def decide(self, ask: Ask, face: Face = "api") -> Answer:
        """Answers a question, and logs the answer before it is given.

        Raises:
            DeployError: If the observations are not of the episode format, or there are none and
                nowhere to collect them.
        """
        started = time.perf_counter()
        await self.recall.once()
        question = Question(ask, face, name_of(ask), self.policies.current, time.time())
        seen = await self._observer.see(question)
        before = await shares_before(question.name, self.held, self.log, seen.observations)
        observations, shares = as_stated(seen.observations, before, ask)
        held, kept = self.held.bring_up_to(question.name, question.policy, observations)
        held.shares = shares
        decision = self._decide(question, held, seen)
        entry = self._entry(question, held, kept, decision, seen)
        entry = self.windows.settle(entry, held.observations)
        reply = await self._log(question, held, entry)
        self.monitoring.seconds.observe(time.perf_counter() - started)
        self.monitoring.decisions.labels(reply.decision, face, str(reply.shadow).lower()).inc()
        for reason in reply.reasons:
            self.monitoring.reasons.labels(reason).inc()
        return reply

    def _decide(self, question: Question, held: Held, seen: Seen) -> Decision:
        """Returns what is decided on the rollout by itself."""
        ask, policy = question.ask, question.policy.policy
        decision = held.rollout.decide(last=ask.last, asks_again=ask.asks_again)
        decision = not_promoted(decision, ask.last, policy)
        decision = held_back(decision, seen.holds, seen.missed, policy)
        return for_a_person(decision) if ask.is_final else decision

    async def _log(self, question: Question, held: Held, entry: DecisionEntry) -> Answer:
        """Logs a decision, or says that it could not be."""
        n_read, n_canary = len(held.observations), held.n_canary
        why = self._explanation(question, held)
        try:
            told, logged = await self._record(entry, held), True
            held.decided, held.n_decided = told.id, n_read
        except LogUnavailable:
            self.monitoring.unlogged.inc()
            told, logged = self._unlogged(question, entry), False
        self.windows.note(told, n_read)
        return Answer.model_construct(
            **vars(told.name),
            id=told.id,
            at=told.at,
            decision=told.answered,
            confidence=confidence_of(told.answered, told.risk),
            risk=told.risk,
            q_values=told.q_values,
            reasons=list(told.reasons),
            message=message(told),
            policy_version=told.policy_version,
            observations=n_canary,
            explored=told.explored,
            shadow=told.shadow,
            would_be=told.decision,
            logged=logged,
            guardrails=told.guardrails or [],
            suspects=told.suspects or [],
            explanation=why,
        )

    async def _record(self, entry: DecisionEntry, held: Held) -> DecisionEntry:
        try:
            return await self.log.record(entry)
        except LogUnavailable:
            raise
        except DeployError as error:
            # The log does not know the decision that these inputs continue: it was cleared, or set
            # back. All of them are there to be logged.
            _log.warning("rollout of %s logged anew: %s", entry.name.service, error)
        whole = [dict(o) for o in held.observations]
        try:
            return await self.log.record(replace(entry, base=None, kept=0, observations=whole))
        except DeployError as error:
            raise LogUnavailable(str(error)) from error

    def _unlogged(self, question: Question, entry: DecisionEntry) -> DecisionEntry:
        """Returns what is answered in the place of a decision that cannot be logged."""
        shadow = self.settings.shadow
        return replace(
            entry,
            decision=PAUSE,
            answered=question.ask.default if shadow else PAUSE,
            confidence=confidence_of(PAUSE, entry.risk),
            reasons=[*entry.reasons, "log_unavailable"],
            explored=False,
        )

    def _entry(
        self, question: Question, held: Held, kept: int, decision: Decision, seen: Seen
    ) -> DecisionEntry:
        assert decision.risk is not None, "the service takes calibrated policies only"
        ask, shadow = question.ask, self.settings.shadow
        identity = self._identity(question, held, seen, decision)
        # Who does not explore need not wait for a generator: to seed one takes as long as to read
        # the observation.
        draw = draw_for(identity, self.settings.seed) if self.settings.explore else 1.0
        explore = self.settings.explore if GUARDRAIL not in decision.reasons else 0.0
        choice = choose(decision.decision, explore, draw)
        reasons = [*decision.reasons, *(["explored"] if choice.explored else [])]
        if choice.explored and ask.is_final:
            reasons.append(HELD_FOR_A_PERSON)
        return DecisionEntry(
            id=identity,
            name=question.name,
            at=question.at,
            asked_by=question.face,
            policy_version=question.policy.version,
            base=held.decided,
            kept=kept,
            observations=[dict(o) for o in held.observations[kept:]],
            last=ask.last,
            preferred=decision.decision,
            decision=choice.decision,
            answered=ask.default if shadow else choice.decision,
            propensity=choice.propensity,
            explored=choice.explored,
            shadow=shadow,
            risk=decision.risk,
            confidence=confidence_of(choice.decision, decision.risk),
            q_values=decision.q_values,
            reasons=reasons,
            notes=list(seen.notes) or None,
            asks_again=ask.asks_again,
            pauses=decision.pauses,
            pause_limit=decision.pause_limit,
            guardrails=list(decision.guardrails) or None,
        )

    def _identity(self, question: Question, held: Held, seen: Seen, decision: Decision) -> str:
        """Names a decision by its question, so that the same question again is the same decision.

        In shadow mode the default that a caller names is part of it: Flagger's hooks differ in
        theirs. So is why nothing can be collected: who mends that must see what is still wrong;
        and how long nothing has come.
        """
        asked = [*vars(question.name).values(), question.face, question.policy.version]
        away = list(seen.notes) if seen.holds == TELEMETRY_UNAVAILABLE else []
        ends = [question.ask.last, question.ask.asks_again]
        read = [held.digest.hexdigest(), *ends, seen.holds, decision.pauses, *away]
        default = question.ask.default if self.settings.shadow else None
        return hashlib.sha256(json.dumps([*asked, *read, default]).encode()).hexdigest()[:32]

    def _explanation(self, question: Question, held: Held) -> dict[str, Any] | None:
        if not question.ask.explain:
            return None
        when = End(question.ask.last, question.ask.asks_again)
        return explain_rollout(held.rollout, when).as_dict()

    async def report(self, outcome: Outcome) -> Noted:
        """Logs an outcome; sent again, it counts once.

        Where it names no try at a version, and the log has no decision on one without a name, it is
        of the newest try.

        Raises:
            LogUnavailable: If it could not be logged.
        """
        name = await asyncio.to_thread(try_of, self.log, name_of(outcome))
        said = outcome.model_dump(exclude={"id", "rollout"})
        told = await asyncio.to_thread(self.log.outcomes, name) if not outcome.id else []
        own = [entry for entry in told if entry.source == outcome.source]
        # Said again it is the same; said anew after something else, it is new.
        same = bool(own) and _says(own[-1]) == (outcome.label, outcome.by, outcome.note)
        number = len(own) - same
        content = [vars(name), outcome.source, outcome.id or [said, number]]
        entry = OutcomeEntry(
            id=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32],
            name=name,
            at=time.time() if outcome.at is None else outcome.at,
            source=outcome.source,
            label=outcome.label,
            by=outcome.by,
            note=outcome.note,
            detail={},
        )
        return await self.note(entry)

    async def note(self, entry: OutcomeEntry) -> Noted:
        """Logs what a system told of a release; sent again, it counts once."""
        is_new = await self.log.record_outcome(entry)
        if is_new:
            self.monitoring.outcomes.labels(entry.source, entry.label or "none").inc()
        first = await asyncio.to_thread(self.log.first_asked, entry.name)
        return Noted(id=entry.id, new=is_new, matched=first is not None)

    async def refresh(self) -> bool:
        """Takes up the policy file if it has changed; returns whether another is in use now."""
        async with self._refreshing:
            return await asyncio.to_thread(self.policies.refresh)

    def metrics(self) -> bytes:
        """Returns the service's own metrics in Prometheus' text format."""
        told, state = self.monitoring, self.log.state()
        told.policy.clear()
        told.policy.labels(self.policies.current.version).set(1)
        told.policy_refused.set(self.policies.refused is not None)
        told.log_writable.set(bool(state["writable"]))
        told.log_spooled.set(state["spooled"])
        told.rollouts.set(len(self.held))
        return told.text()

    def state(self) -> dict[str, Any]:
        """Returns what an operator wants to know first."""
        return {
            "policy": {
                "file": str(self.policies.path),
                "version": self.policies.current.version,
                "refused": self.policies.refused,
                "warnings": self.policies.current.warnings,
                "vet": dict(self.policies.current.vet),
            },
            "likeness": self.likeness.state,
            "log": self.log.state(),
            "shadow": self.settings.shadow,
            "explore": self.settings.explore,
            "telemetry": self.source is not None,
        }


def name_of(named: Named) -> RolloutName:
    """Returns the rollout that a request names."""
    return RolloutName(named.service, named.environment, named.version, named.rollout)


def _says(entry: OutcomeEntry) -> tuple[str | None, str, str]:
    return entry.label, entry.by, entry.note
