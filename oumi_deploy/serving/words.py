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
"""One sentence on a decision, for the person who is woken by it."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.episodes.schema import CONTROL, ROLLOUT_COLUMNS
from oumi_deploy.serving.log.entries import HELD_FOR_A_PERSON, DecisionEntry
from oumi_deploy.serving.observing import number_of

_REASONS = {
    "out_of_range": "a metric lies outside of what the policy was trained on",
    "few_requests": "too few requests to tell",
    "last_observation": "no later observation will come",
    "false_alarm_bound": "the bound on false alarms holds a rollback back",
    "certain_risk": "the risk is certain enough",
    "watch_ended": "the risk is above break-even, and the watch has ended",
    "held_for_culprit": "another release is likelier the cause",
    "held_too_long": "it has waited for another release as long as it may",
    "too_risky_to_promote": "the risk is too high to promote",
    "telemetry_unavailable": "the telemetry cannot be collected",
    "log_unavailable": "the decision log cannot be written",
    "explored": "a rollback was held by chance, to learn what would follow; a person or the caller "
    "ends it",
}


def message(entry: DecisionEntry) -> str:
    """Returns what was decided, how risky the release looks, and why, in one sentence."""
    number = f" {told}" if (told := count(entry)) else ""
    because = f": {told}" if (told := why(entry)) else ""
    lacking = f" ({_summed_up(entry.notes)})" if entry.notes else ""
    shadow = f" (shadow mode: answered {entry.answered})" if entry.shadow else ""
    return f"{entry.decision}{number}, risk {entry.risk:.0%}{because}{lacking}{shadow}"


def count(entry: DecisionEntry) -> str:
    """Returns which of how many PAUSEs running it is, as in "2 of 5"; empty where it is none."""
    counts = entry.decision == "PAUSE" and 0 < entry.pauses < entry.pause_limit
    return f"{entry.pauses} of {entry.pause_limit}" if counts and not entry.is_held else ""


def why(entry: DecisionEntry) -> str:
    """Returns why it is not simply what the policy prefers; empty where it is."""
    told = "; ".join(filter(None, (_told(reason, entry) for reason in entry.reasons)))
    return f"held: a person must decide, because {told}" if entry.is_held else told


def _told(reason: str, entry: DecisionEntry) -> str:
    if reason == HELD_FOR_A_PERSON:
        return _since_when(entry)
    if reason == "telemetry_missing":
        return _missing(entry)
    if reason == "doubt":
        return _doubt(entry)
    if reason == "guardrail":
        return _guardrails(entry.guardrails or [])
    if reason == "paused_too_long":
        # Of what is held it is said once, with the number of pauses.
        return "" if entry.is_held else "it has paused too long"
    if reason == "watching":
        is_over = "watch_ended" in entry.reasons
        return (
            "" if is_over else "watching, as the risk is above break-even: same traffic, look again"
        )
    text = _REASONS.get(reason, reason)
    cause = next((s for s in entry.suspects or () if s["waited_for"]), None)
    if reason != "held_for_culprit" or cause is None:
        return text
    return f"{text}, {cause['service']} {cause['version']}".rstrip()


def _since_when(entry: DecisionEntry) -> str:
    """Says that nothing more is asked, or else for how long nothing was decided."""
    if entry.is_over:
        return "" if "last_observation" in entry.reasons else _REASONS["last_observation"]
    plural = "s" * (entry.pauses != 1)
    return f"nothing was decided for {entry.pauses} observation{plural} running"


def _guardrails(names: Sequence[str]) -> str:
    """Names the guardrails that fired."""
    said = f"the guardrail{'s' * (len(names) > 1)} {' and '.join(names)}"
    return f"{said if names else 'a guardrail'} fired"


def _doubt(entry: DecisionEntry) -> str:
    """Says which decision would be wrong too often."""
    if "false_alarm_bound" in entry.reasons:
        return "the risk is above what is allowed for going on"
    # As the policy prefers by itself: a tie goes on.
    if entry.q_values["ROLLBACK"] > entry.q_values["CONTINUE"]:
        return "the policy would rather roll back, but the risk is below what is asked for that"
    return "the policy would rather wait, but the risk is above what is allowed"


def _missing(entry: DecisionEntry) -> str:
    """Says how telemetry is missing: no value, or none both new enough and of use to the policy."""
    if not entry.observations:
        return "nothing new was observed since the decision before"
    if _has_values(entry.observations[-1]):
        return "the newest observation is too old, or has no value that the policy can use"
    return "no metric has a value in the newest observation"


def _has_values(observation: Mapping[str, Any]) -> bool:
    """Returns whether an observation tells how the new version fares."""
    of_rollout = {*ROLLOUT_COLUMNS, "timestamp", "step", "planned_steps"}
    return any(
        isinstance(value, int | float)
        for name, value in observation.items()
        if name not in of_rollout and not name.startswith(CONTROL)
    )


def _summed_up(notes: Sequence[str]) -> str:
    """Returns the first two notes of a collector, and how many more there are."""
    left = number_of(notes) - 2
    more = f"; and {left} more like these" if left > 0 else ""
    return "; ".join(notes[:2]) + more
