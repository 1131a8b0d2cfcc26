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

"""One rollout of the decision log as one episode."""

import contextlib
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oumi_deploy.episodes.schema import TEXT_COLUMNS
from oumi_deploy.episodes.times import iso_seconds
from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import DecisionEntry, OutcomeEntry, RolloutName
from oumi_deploy.serving.log.queries import continue_inputs

Row = dict[str, Any]
Action = tuple[str | None, float | None]

_NOTHING: Action = (None, None)

_OURS = {*TEXT_COLUMNS, "step", "action", "propensity"} - {"phase"}
"""Columns that the log fills; what an observation says under these names gives way."""


@dataclass(frozen=True)
class LoggedRollout:
    """What the log holds of a rollout.

    Attributes:
        name: Its name.
        decisions: The decisions on it in the order in which they came in, at least one.
        outcomes: What was said of it, likewise.
    """

    name: RolloutName
    decisions: Sequence[DecisionEntry]
    outcomes: Sequence[OutcomeEntry]

    @property
    def was_rolled_back(self) -> bool:
        """Whether the last answer was ROLLBACK, and meant."""
        return self.decisions[-1].decision == "ROLLBACK" and not self.decisions[-1].shadow


def episode_rows(
    rollout: LoggedRollout, group: str, sources: Collection[str] | None = None
) -> list[Row]:
    """Returns a rollout as rows of the episode format: the inputs of its last decision.

    Every row in which it was decided has the action and its propensity. A row that the rollout
    passed without being asked about went on for certain: CONTINUE with propensity 1. Several
    decisions in one row have the probability that all of them went on, or that one did not.
    Decisions in shadow mode had no effect, and where a rollout went on against a ROLLBACK nobody
    knows how likely that was: such rows have neither action nor propensity.

    Args:
        rollout: The rollout.
        group: What it may not be separated from.
        sources: The sources whose labels count; all if None.

    Raises:
        DeployError: If a decision's inputs are not all there.
    """
    inputs = _all_inputs(rollout.decisions)
    counting = labelling(rollout, sources)
    rows = [_observed(observation) for observation in inputs[-1]]
    shared = {
        "episode_id": episode_id(rollout.name),
        "group": group,
        "service": rollout.name.service,
        "version": rollout.name.version,
        "environment": rollout.name.environment,
        "label": None if counting is None else counting.label,
    }
    actions = _actions(rollout, inputs, rows)
    for step, (row, (action, propensity)) in enumerate(zip(rows, actions, strict=True)):
        row.update(shared, step=float(step), action=action, propensity=propensity)
    return rows


def episode_id(name: RolloutName) -> str:
    """Returns a rollout's name as one text, another for every rollout."""
    parts = [name.service, name.environment, name.version, name.rollout]
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def day_and_environment(rollout: LoggedRollout) -> str:
    """Returns the environment and the UTC day of a rollout's first decision.

    What breaks an environment on a day, breaks its releases of that day together.
    """
    day = datetime.fromtimestamp(rollout.decisions[0].at, UTC)
    return f"{rollout.name.environment} {day:%Y-%m-%d}".strip()


def labelling(
    rollout: LoggedRollout, sources: Collection[str] | None = None
) -> OutcomeEntry | None:
    """Returns the outcome that tells what a release turned out to be, None where nobody knows.

    A person's review outweighs all else, then what was known last. A release that was rolled back
    never showed what it would have become: only a review labels it.

    Args:
        rollout: The rollout.
        sources: The sources that count, all if None. What others say neither labels a release nor
            takes a label away.
    """
    labelled = [o for o in rollout.outcomes if o.label is not None]
    if sources is not None:
        labelled = [o for o in labelled if o.source in sources]
    return settling(labelled, rollout.was_rolled_back)


def settling(labelled: Sequence[OutcomeEntry], was_rolled_back: bool) -> OutcomeEntry | None:
    """Returns which of some outcomes with a label tells it, see `labelling`."""
    reviews = [o for o in labelled if o.source == "review"]
    counting = reviews or ([] if was_rolled_back else labelled)
    return sorted(counting, key=lambda o: o.at)[-1] if counting else None


def _all_inputs(decisions: Sequence[DecisionEntry]) -> list[Sequence[Row]]:
    by_id: dict[str | None, list[Row]] = {None: []}
    for decision in decisions:
        base = by_id.get(decision.base if decision.kept else None)
        if base is None:
            raise DeployError(f"decision {decision.id} continues one of another rollout")
        by_id[decision.id] = continue_inputs(base, decision.kept, decision.observations)
    return [by_id[decision.id] for decision in decisions]


def _observed(observation: Mapping[str, Any]) -> Row:
    """Returns what an observation says: numbers as floats, its time in Unix seconds."""
    row = {k: _plain(k, v) for k, v in observation.items() if k not in _OURS and v is not None}
    time = row.get("timestamp")
    if isinstance(time, str):
        # Text that is no time is the validator's to refuse.
        with contextlib.suppress(ValueError):
            row["timestamp"] = iso_seconds(time)
    return row


def _plain(name: str, value: Any) -> float | str:
    if isinstance(value, str):
        return value
    # JSON holds whole numbers beyond all floats.
    if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
        return float(value)
    raise DeployError(f"column {name}: {value!r:.40} is neither a finite number nor text")


def _actions(
    rollout: LoggedRollout, inputs: Sequence[Sequence[Row]], rows: Sequence[Row]
) -> list[Action]:
    """Returns the action and its propensity in each row, None where there is none to tell."""
    made: list[list[DecisionEntry]] = [[] for _ in rows]
    is_whole = True
    for decision, seen in zip(rollout.decisions, inputs, strict=True):
        place = _place(seen, rows)
        if place is not None:
            made[place].append(decision)
        elif not decision.shadow and _may_go_on(decision) < 1:
            is_whole = False
    is_live = any(not decision.shadow for decision in rollout.decisions)
    unasked = ("CONTINUE", 1.0) if is_whole and is_live else _NOTHING
    actions = [_action(decisions) if decisions else unasked for decisions in made]
    for at, row in enumerate(rows):
        goes_on = at < len(rows) - 1
        if row.get("phase") == "baseline" or (goes_on and actions[at][0] == "ROLLBACK"):
            actions[at] = _NOTHING
    return actions


def _action(decisions: Sequence[DecisionEntry]) -> Action:
    """Returns what several decisions in one row come to."""
    if any(decision.shadow for decision in decisions):
        return _NOTHING
    latest = decisions[-1]
    if latest.decision == "ROLLBACK":
        # Had an earlier one said so, this one would not have been asked for.
        if len(decisions) == 1:
            return latest.decision, latest.propensity
        return latest.decision, 1 - math.prod(map(_may_go_on, decisions))
    if any(decision.decision == "ROLLBACK" for decision in decisions):
        return _NOTHING
    return latest.decision, math.prod(map(_may_go_on, decisions))


def _may_go_on(decision: DecisionEntry) -> float:
    """Returns the probability with which the rollout was to go on."""
    goes_on = decision.decision != "ROLLBACK"
    return decision.propensity if goes_on else 1 - decision.propensity


def _place(seen: Sequence[Row], rows: Sequence[Row]) -> int | None:
    """Returns the row that a decision was made in, None where it is not among these.

    It is the row of the same time as the newest that was seen, or the last before it: a row that
    stood for missing telemetry is not there any more once that has come in. Without times, it is
    the row of the same number.
    """
    if not seen:
        return None
    newest, at = _observed(seen[-1]).get("timestamp"), len(seen) - 1
    if at < len(rows) and rows[at].get("timestamp") == newest:
        return at
    if not isinstance(newest, float):
        return None
    times = [row.get("timestamp") for row in rows]
    earlier = [i for i, time in enumerate(times) if isinstance(time, float) and time <= newest]
    return earlier[-1] if earlier else None
