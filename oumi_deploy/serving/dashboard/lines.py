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
"""From entries of the decision log to what the dashboard shows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from oumi_deploy.episodes.times import iso_seconds
from oumi_deploy.serving.dashboard.schema import (
    DecisionLine,
    Label,
    OutcomeLine,
    RolloutCourse,
    RolloutLine,
    Status,
    Tally,
)
from oumi_deploy.serving.log.endings import Ending
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.episodes import settling
from oumi_deploy.serving.log.overview import Course, Standing
from oumi_deploy.serving.log.rows import rollout_key
from oumi_deploy.serving.words import count, message, why

QUIET_AFTER = 15
"""Intervals without a question after which a rollout is not under way any more."""


LEFT_FOR = 86_400.0
"""Seconds for which a rollout that was left on hold, or rolled back, waits for a person."""


def rollout_line(standing: Standing, now: float, interval: float) -> RolloutLine:
    """Returns what is shown of a rollout.

    Args:
        standing: Where it stands.
        now: Unix seconds.
        interval: Seconds between observations.
    """
    latest, name = standing.latest, standing.latest.name
    label, age = _label(standing.outcomes, latest.decision, latest.shadow), now - latest.at
    quiet = QUIET_AFTER * interval
    return RolloutLine(
        id=standing.key,
        service=name.service,
        environment=name.environment,
        version=name.version,
        rollout=name.rollout,
        status=status_of(latest, label, age > quiet, age > max(quiet, LEFT_FOR)),
        label=label,
        began=standing.began,
        n_decisions=standing.n_decisions,
        latest=decision_line(latest),
        metrics=_with_seconds(standing.newest),
    )


def status_of(
    latest: DecisionEntry, label: str | None, is_quiet: bool, is_past: bool = False
) -> Status:
    """Returns where a rollout stands by its latest decision and its label.

    Args:
        latest: The decision that came in last.
        label: What the release turned out to be, None where nobody knows.
        is_quiet: Whether it has not been asked about for long.
        is_past: Whether that was so long ago that it waits for nobody any more.
    """
    if latest.decision == "ROLLBACK" and not latest.shadow:
        return "rolled_back"
    if label is not None:
        return "healthy" if label == "good" else _bad(latest.answered)
    if latest.is_held and not latest.shadow:
        return "undecided" if is_past else "for_a_person"
    if latest.is_over:
        return "healthy" if latest.answered == "CONTINUE" and not latest.shadow else "undecided"
    if is_quiet:
        return "undecided"
    return "paused" if latest.answered == "PAUSE" else "deploying"


def _bad(answered: str) -> Status:
    # Whoever holds a release may have ended it by hand, and keeps it from going on at least.
    return "held" if answered == "PAUSE" else "failed"


def decision_line(entry: DecisionEntry) -> DecisionLine:
    """Returns what is shown of a decision."""
    return DecisionLine(
        id=entry.id,
        at=entry.at,
        decision=entry.decision,
        answered=entry.answered,
        shadow=entry.shadow,
        explored=entry.explored,
        last=entry.last,
        confidence=entry.confidence,
        risk=entry.risk,
        q_values=entry.q_values,
        reasons=entry.reasons,
        message=message(entry),
        why=why(entry),
        count=count(entry),
        held=entry.is_held,
        asked_by=entry.asked_by,
        policy_version=entry.policy_version,
        n_inputs=entry.kept + len(entry.observations),
        suspects=[_identified(suspect) for suspect in entry.suspects or ()],
        notes=entry.notes or [],
    )


def _earlier_line(entry: DecisionEntry) -> DecisionLine:
    # Of up to a thousand they would be megabytes.
    line = decision_line(replace(entry, notes=None))
    return line.model_copy(update={"suspects": []})


def _identified(suspect: Mapping[str, Any]) -> dict[str, Any]:
    name = RolloutName(**{field.name: suspect[field.name] for field in fields(RolloutName)})
    return {"id": rollout_key(name), **suspect}


def rollout_course(course: Course, now: float, interval: float) -> RolloutCourse:
    """Returns all that is shown of a rollout, see `rollout_line`."""
    latest = [decision_line(entry) for entry in course.decisions[-1:]]
    return RolloutCourse(
        rollout=rollout_line(course.standing, now, interval),
        decisions=[*map(_earlier_line, course.decisions[:-1]), *latest],
        observations=[_with_seconds(observation) for observation in course.observations],
        outcomes=[
            OutcomeLine(at=o.at, source=o.source, label=o.label, by=o.by, note=o.note)
            for o in course.standing.outcomes
        ],
    )


_BAD = {"ROLLBACK": "bad_stopped", "PAUSE": "bad_held", "CONTINUE": "bad_missed"}


def tally(endings: Iterable[Ending]) -> Tally:
    """Counts how rollouts ended."""
    counts = Counter[str]()
    for ending in endings:
        counts[_kind(ending)] += ending.n
    return Tally(**{kind: counts[kind] for kind in Tally.model_fields})


def _kind(ending: Ending) -> str:
    is_rolled_back = ending.decision == "ROLLBACK"
    if ending.label == "bad":
        return _BAD[ending.decision]
    if ending.label is None:
        return "unknown_rolled_back" if is_rolled_back else "unknown_went_on"
    if is_rolled_back:
        return "good_rolled_back"
    return "good_paused" if ending.paused else "good_undisturbed"


def _label(outcomes: Sequence[OutcomeEntry], decision: str, shadow: bool) -> Label | None:
    was_rolled_back = decision == "ROLLBACK" and not shadow
    labelled = [outcome for outcome in outcomes if outcome.label is not None]
    telling = settling(labelled, was_rolled_back)
    return None if telling is None else telling.label


def _with_seconds(observation: Mapping[str, Any]) -> dict[str, Any]:
    time = observation.get("timestamp")
    if not isinstance(time, str):
        return dict(observation)
    try:
        return {**observation, "timestamp": iso_seconds(time)}
    except ValueError:
        # A chart without times is better than none.
        return {**observation, "timestamp": None}
