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
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.explain import explain_rollout
from oumi_deploy.policy.pauses import PAUSE
from oumi_deploy.policy.rollout import Decision
from oumi_deploy.serving.exploration import choose, draw_for
from oumi_deploy.serving.freshness import with_gap
from oumi_deploy.serving.held import Held, HeldRollouts
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.writer import DecisionLog, LogUnavailable
from oumi_deploy.serving.monitoring import Monitoring
from oumi_deploy.serving.policies import PolicyFile, Versioned
from oumi_deploy.serving.schema import Answer, Ask, Named, Noted, Outcome
from oumi_deploy.serving.settings import Face, ServiceSettings
from oumi_deploy.serving.sources import Source, SourceAway
from oumi_deploy.serving.words import message

Observations = Sequence[Mapping[str, Any]]

_STARTS_KNOWN = 10_000
"""Rollouts whose start is remembered, so that the log is asked once."""


@dataclass(frozen=True)
class _Question:
    """A question, and what stood when it came."""

    ask: Ask
    face: Face
    name: RolloutName
    policy: Versioned
    at: float


class Engine:
    """Decides, remembers and reports.

    Attributes:
        settings: What the service was told.
        policies: The policy file in use.
        log: The decision log.
        source: Where observations come from that a question does not bring; None for nowhere.
        monitoring: The service's own counters.
        held: The rollouts under way.
    """

    def __init__(self, settings: ServiceSettings, log: DecisionLog, source: Source | None):
        self.settings, self.log, self.source = settings, log, source
        self.policies = PolicyFile(settings.policy)
        self.monitoring = Monitoring()
        self.held = HeldRollouts()
        self._starts: dict[RolloutName, float] = {}
        self._refreshing = asyncio.Lock()

    async def decide(self, ask: Ask, face: Face = "api") -> Answer:
        """Answers a question, and logs the answer before it is given.

        Raises:
            DeployError: If the observations are not of the episode format, or there are none and
                nowhere to collect them.
        """
        started = time.perf_counter()
        question = _Question(ask, face, name_of(ask), self.policies.current, time.time())
        held_back, detail = None, ""
        try:
            observations, detail = await self._observations(question)
        except SourceAway as away:
            held_back, detail = "telemetry_unavailable", str(away)
            before = self.held.observations_of(question.name)
            observations = [*before, {"timestamp": question.at}]
        held, kept = self.held.bring_up_to(question.name, question.policy, observations)
        decision = held.rollout.decide(last=ask.last)
        if held_back is not None:
            decision = _held_back(decision, held_back)
        reply = await self._log(question, held, self._entry(question, held, kept, decision), detail)
        self.monitoring.seconds.observe(time.perf_counter() - started)
        self.monitoring.decisions.labels(reply.decision, face, str(reply.shadow).lower()).inc()
        return reply

    async def _observations(self, question: _Question) -> tuple[Observations, str]:
        """Returns the rollout so far, and what a person should know of the telemetry."""
        ask, now = question.ask, question.at
        if ask.observations is not None and question.face == "kayenta":
            return ask.observations, ""  # It judges a window that is over, perhaps of yesterday.
        if ask.observations is not None:
            return with_gap(ask.observations, now, self.settings.interval), ""
        if self.source is None:
            raise DeployError(
                "observations: send those so far, or start the service with --telemetry so that "
                "it collects them"
            )
        started = ask.started_at
        if started is None:
            started = await self._start_of(question.name, now)
        found = await self.source.observations(question.name, started, now)
        for metric, n in found.clipped.items():
            self.monitoring.clipped.labels(metric).inc(n)
        return with_gap(found.observations, now, found.interval), "; ".join(found.notes)

    async def _start_of(self, name: RolloutName, now: float) -> float:
        """Returns when a rollout was first asked about, now if the log does not know."""
        if name not in self._starts:
            try:
                first = await asyncio.to_thread(self.log.first_asked, name)
            except LogUnavailable:
                first = None
            self._starts[name] = now if first is None else first
            if len(self._starts) > _STARTS_KNOWN:
                del self._starts[next(iter(self._starts))]
        return self._starts[name]

    async def _log(
        self, question: _Question, held: Held, entry: DecisionEntry, detail: str
    ) -> Answer:
        """Logs a decision, or says that it could not be."""
        n_read, n_canary = len(held.observations), held.n_canary
        why = self._explanation(question, held)
        try:
            told, logged = await self.log.record(entry), True
            held.decided, held.n_decided = told.id, n_read
        except LogUnavailable:
            self.monitoring.unlogged.inc()
            told, logged = self._unlogged(question, entry), False
        return Answer.model_construct(
            **asdict(told.name),
            id=told.id,
            at=told.at,
            decision=told.answered,
            confidence=told.confidence,
            risk=told.risk,
            q_values=told.q_values,
            reasons=list(told.reasons),
            message=message(told, detail),
            policy_version=told.policy_version,
            observations=n_canary,
            explored=told.explored,
            shadow=told.shadow,
            would_be=told.decision,
            logged=logged,
            explanation=why,
        )

    def _unlogged(self, question: _Question, entry: DecisionEntry) -> DecisionEntry:
        """Returns what is answered in the place of a decision that cannot be logged."""
        shadow = self.settings.shadow
        return replace(
            entry,
            decision=PAUSE,
            answered=question.ask.default if shadow else PAUSE,
            confidence=_surer(entry.risk),
            reasons=[*entry.reasons, "log_unavailable"],
            explored=False,
        )

    def _entry(
        self, question: _Question, held: Held, kept: int, decision: Decision
    ) -> DecisionEntry:
        assert decision.risk is not None, "the service takes calibrated policies only"
        assert decision.confidence is not None
        ask, shadow, identity = question.ask, self.settings.shadow, self._identity(question, held)
        draw = draw_for(identity, self.settings.seed)
        choice = choose(decision.decision, self.settings.explore, draw)
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
            confidence=_surer(decision.risk) if choice.explored else decision.confidence,
            q_values=decision.q_values,
            reasons=[*decision.reasons, *(["explored"] if choice.explored else [])],
        )

    def _identity(self, question: _Question, held: Held) -> str:
        """Names a decision by its question, so that the same question again is the same decision.

        In shadow mode the default that a caller names is part of it: Flagger's hooks differ in
        theirs.
        """
        asked = [*asdict(question.name).values(), question.face, question.policy.version]
        seen = [held.digest.hexdigest(), question.ask.last]
        default = question.ask.default if self.settings.shadow else None
        return hashlib.sha256(json.dumps([*asked, *seen, default]).encode()).hexdigest()[:32]

    def _explanation(self, question: _Question, held: Held) -> dict[str, Any] | None:
        if not question.ask.explain:
            return None
        return explain_rollout(held.rollout, last=question.ask.last).as_dict()

    async def report(self, outcome: Outcome) -> Noted:
        """Logs an outcome; sent again, it counts once.

        Raises:
            LogUnavailable: If it could not be logged.
        """
        now = time.time()
        plain = outcome.model_dump(exclude={"id", "at"})
        content = outcome.id or json.dumps([plain, outcome.at], sort_keys=True)
        entry = OutcomeEntry(
            id=hashlib.sha256(f"{outcome.source}\n{content}".encode()).hexdigest()[:32],
            name=name_of(outcome),
            at=now if outcome.at is None else outcome.at,
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
        return Noted(id=entry.id, new=is_new)

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
            },
            "log": self.log.state(),
            "shadow": self.settings.shadow,
            "explore": self.settings.explore,
            "telemetry": self.source is not None,
        }


def name_of(named: Named) -> RolloutName:
    """Returns the rollout that a request names."""
    return RolloutName(named.service, named.environment, named.version, named.rollout)


def _held_back(decision: Decision, reason: str) -> Decision:
    """Returns the decision as a PAUSE for a reason that is not the release's."""
    assert decision.risk is not None
    surer = _surer(decision.risk)
    return replace(decision, decision=PAUSE, confidence=surer, reasons=(reason,))


def _surer(risk: float) -> float:
    """Returns the confidence of a PAUSE, that of the likelier outcome."""
    return max(risk, 1.0 - risk)
