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

"""How a rollout stands beside others when it is asked about, from how it stood before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

from oumi_deploy.policy.candidates import LATELY, Candidate, onset_of, rise
from oumi_deploy.policy.observation import length_of_baseline, read_metrics, read_time
from oumi_deploy.serving.log.entries import GUARDRAIL, DecisionEntry

_ERRORS = ("error_rate",)


@dataclass(frozen=True)
class Standing:
    """A rollout as it was when it was asked about last.

    Attributes:
        candidate: How it stands.
        at: When it was asked about, Unix seconds.
        waits_since: Observations that it had when it began to wait; None where it does not.
        held_since: When it began to wait, Unix seconds, likewise.
        bad_since: When it was asked about first, Unix seconds, if it has had an onset at every
            question since; else None.
    """

    candidate: Candidate
    at: float
    waits_since: int | None = None
    held_since: float | None = None
    bad_since: float | None = None


def look(
    entry: DecisionEntry,
    observations: Sequence[Mapping[str, Any]],
    before: Standing | None,
    interval: float,
) -> Standing:
    """Returns how a rollout stands that is asked about.

    Args:
        entry: What is decided on it by itself.
        observations: The rollout so far, oldest first.
        before: How it stood when it was asked about before; None where it was not.
        interval: Seconds between observations.

    Raises:
        DeployError: If an error rate or a time is none.
    """
    n_baseline = length_of_baseline(observations)
    baseline, _ = _rates(observations, 0, n_baseline)
    known = [rate for rate in baseline if rate == rate]
    normal = sum(known) / len(known) if known else nan
    errors, control = _rates(observations, max(n_baseline, len(observations) - LATELY))
    old = None if before is None else before.candidate
    newest = _time(observations, len(observations) - 1, entry.at)
    started = _time(observations, n_baseline, entry.at)
    onset = onset_of(None if old is None else old.onset, newest, entry.risk, entry.preferred)
    candidate = Candidate(
        name=entry.name,
        service=entry.name.service,
        # A caller may send the latest observations only; it began when it began.
        started=started if old is None else min(started, old.started),
        onset=onset,
        risk=entry.risk,
        errors=rise(errors, normal),
        control_errors=rise(control, normal),
        decision=entry.preferred,
        is_last=entry.last and not entry.asks_again,
        must_go=GUARDRAIL in entry.reasons,
        gone_back=onset is not None and old is not None and old.gone_back,
        holds=0 if before is None else _holds(before, len(observations), entry.at, interval),
    )
    # A wait lasts as long as the trouble, also over what the policy itself pauses at.
    waiting = before if before is not None and onset is not None else None
    since = (None, None) if waiting is None else (waiting.waits_since, waiting.held_since)
    bad_since = entry.at if before is None else before.bad_since
    return Standing(candidate, entry.at, *since, None if onset is None else bad_since)


def _holds(before: Standing, n_observations: int, now: float, interval: float) -> int:
    """Returns for how many observations it waits, by their number or else by the clock."""
    if before.waits_since is None or before.held_since is None:
        return 0
    by_clock = int((now - before.held_since) / interval)
    return max(n_observations - before.waits_since, by_clock)


def continued(before: Standing | None, now: Standing, span: float) -> Standing:
    """Returns a rollout as it is now, in trouble and waiting since before if it never was well.

    Args:
        before: As it was before the service was started; None where it was not.
        now: As it is since.
        span: Seconds without a question after which it would have been forgotten.
    """
    if before is None or now.bad_since is None or before.at < now.bad_since - span:
        return now
    old, new = before.candidate, now.candidate
    if old.onset is None or new.onset is None:
        return now
    candidate = replace(
        new,
        started=min(old.started, new.started),
        onset=min(old.onset, new.onset),
        gone_back=old.gone_back or new.gone_back,
    )
    if before.waits_since is None:
        return replace(now, candidate=candidate)
    since = {"waits_since": before.waits_since, "held_since": before.held_since}
    return replace(now, candidate=candidate, **since)


def _rates(
    observations: Sequence[Mapping[str, Any]], start: int, stop: int | None = None
) -> tuple[list[float], list[float]]:
    """Returns the error rates of the new version and of the old one."""
    chosen = observations[start:stop]
    pairs = [read_metrics(o, _ERRORS, start + i + 1) for i, o in enumerate(chosen)]
    return [new for (new,), _ in pairs], [old for _, (old,) in pairs]


def _time(observations: Sequence[Mapping[str, Any]], i: int, now: float) -> float:
    seconds = read_time(observations[i], i + 1) * 60.0
    return now if seconds != seconds else seconds
