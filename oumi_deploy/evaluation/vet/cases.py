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

"""The cases of a vet: what an engineer on call would refuse to sign.

Each case is tried in every setting that the policy tells apart. A case that rests on a metric which
the state lacks, or which moved no risk in training, is not applicable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from oumi_deploy.episodes.schema import CONTROL
from oumi_deploy.evaluation.vet.trial import GOOD_LOOKS, LOOKS, Change, Look, Trial, changed
from oumi_deploy.evaluation.vet.words import said, said_of_doses
from oumi_deploy.learning.outages import outage_errors
from oumi_deploy.policy.calibration import UNCALIBRATED
from oumi_deploy.policy.policy import DeploymentPolicy

PASSES, FAILS, NOT_APPLICABLE = "passes", "fails", "not applicable"

LEAST_EFFECT = 0.01
"""Risk that a metric must move over its training range to have had an effect there."""

SPIKE = 0.5
"""Height of a spike that heals, beside that of errors that stay."""

OUTAGE_LOOKS, TENFOLD_LOOKS = 2, 3
"""Observations after which the answer must be ROLLBACK."""

_ROUNDING = 1e-9
_SEVERITY = ("CONTINUE", "PAUSE", "ROLLBACK")


@dataclass(frozen=True)
class Run:
    """A case in one setting.

    Attributes:
        result: PASSES, FAILS or NOT_APPLICABLE.
        answered: What was answered, with the risk; empty if nothing was asked.
        note: Why it fails or does not apply; empty if it passes.
        setting: What the rollout lacked, see `Setting.name`.
    """

    result: str
    answered: str = ""
    note: str = ""
    setting: str = ""


@dataclass(frozen=True)
class Effects:
    """What the metrics of a state do.

    Attributes:
        risk: How far the risk moves over each metric's training range, 0..1.
    """

    risk: Mapping[str, float] = field(default_factory=dict)

    def of(self, metrics: Sequence[str]) -> bool:
        """Returns whether one of the metrics had an effect in training."""
        return any(self.risk[m] >= LEAST_EFFECT for m in metrics)


Case = Callable[[Trial, Effects], Run]


#
# What is surely bad
#
def outage(trial: Trial, effects: Effects) -> Run:
    """Every request fails and no pod is ready: ROLLBACK by the second look, and never CONTINUE.

    From the first look on, and later, for as long as it lasts; where the old version is not
    reported any more from then on, no CONTINUE.
    """
    errors, health = (_named_after(trial, name) for name in ("error_rate", "health_score"))
    hit = [*errors, *health]
    refused = _no_effect(trial, hit, effects, "error_rate or health_score")
    if refused is not None:
        return refused
    fails = {**dict.fromkeys(errors, 1.0), **dict.fromkeys(health, 0.0)}
    if not set(hit) & set(trial.readable):
        looks = trial.ask([fails] * OUTAGE_LOOKS)
        return _unreadable(looks, hit)
    late = GOOD_LOOKS * 2
    alone = {**fails, **trial.without_old_version}
    at_once, later, left_alone = (
        trial.ask([*changed(LOOKS - after, change, after=after)], past_rollback=True)
        for change, after in ((fails, 0), (fails, late), (alone, late))
    )
    for looks, after in ((at_once, 0), (later, late)):
        first = looks[after : after + OUTAGE_LOOKS]
        if all(look.decision != "ROLLBACK" for look in first):
            return Run(FAILS, said(looks), f"no ROLLBACK by look {OUTAGE_LOOKS} of an outage")
    for looks, after, where in (
        (at_once, 0, ""),
        (later, late, ""),
        (left_alone, late, ", from which on the old version is not reported any more"),
    ):
        if any(look.decision == "CONTINUE" for look in looks[after + OUTAGE_LOOKS - 1 :]):
            return Run(FAILS, said(looks), f"CONTINUE while an outage lasts{where}")
    return Run(PASSES, said(at_once))


def tenfold(trial: Trial, effects: Effects) -> Run:
    """Ten times the usual errors, and at least 5 %, that stay: ROLLBACK by the third look.

    Where the old version is not seen beside, what both depend on may have failed: there the third
    look is no CONTINUE.
    """
    errors = _named_after(trial, "error_rate")
    refused = _no_effect(trial, errors, effects, "error_rate")
    if refused is not None:
        return refused
    if not set(errors) & set(trial.readable):
        return Run(NOT_APPLICABLE, note=_cannot_read(errors))
    looks = trial.ask([_errors(trial, errors)] * TENFOLD_LOOKS)
    share, last = max(_errors(trial, errors).values()), looks[-1].decision
    if last == "CONTINUE" or (last == "PAUSE" and trial.setting.has_control):
        missed = "ROLLBACK" if trial.setting.has_control else "PAUSE"
        note = f"no {missed} by look {TENFOLD_LOOKS} of errors at {share:.2g}"
        return Run(FAILS, said(looks), note)
    return Run(PASSES, said(looks))


def worse_and_worse(metric: str) -> Case:
    """Returns the case of a metric that is worse and worse: risk and answer never get milder."""

    def case(trial: Trial, effects: Effects) -> Run:
        if not trial.sign(metric):
            return Run(NOT_APPLICABLE, note=f"which values of {metric} are worse is not known")
        refused = _no_effect(trial, [metric], effects, metric)
        if refused is not None:
            return refused
        if metric not in trial.readable:
            return Run(NOT_APPLICABLE, note=_cannot_read([metric]))
        doses = trial.doses(metric)
        newest = [
            trial.with_newest(n, [{metric: dose} for dose in doses])
            for n in (0, GOOD_LOOKS, LOOKS - 2)
        ]
        lasting = [trial.sustained(metric, dose) for dose in doses]
        for looks in (*newest, lasting):
            for (milder, before), (worse, after) in pairwise(zip(doses, looks, strict=True)):
                falls = after.risk < before.risk - _ROUNDING
                if falls or _severity(after) < _severity(before):
                    what = "risk falls" if falls else "answer is milder"
                    return Run(
                        FAILS,
                        said_of_doses(milder, before, worse, after),
                        f"the {what} where {metric} is worse",
                    )
        first, last = newest[1][0], newest[1][-1]
        return Run(PASSES, said_of_doses(doses[0], first, doses[-1], last))

    return case


#
# What is surely good
#
def as_before(trial: Trial, effects: Effects) -> Run:
    """Everything is as it was: CONTINUE at each of ten looks."""
    if not trial.readable:
        return Run(NOT_APPLICABLE, note=_cannot_read(trial.metrics))
    looks = trial.ask([{}] * LOOKS)
    is_right = all(look.decision == "CONTINUE" for look in looks)
    note = "" if is_right else "not CONTINUE at every look where all is as before"
    return Run(PASSES if is_right else FAILS, said(looks), note)


def healed_spike(trial: Trial, effects: Effects) -> Run:
    """Errors that rise for one look and heal: no ROLLBACK."""
    errors = _named_after(trial, "error_rate")
    refused = _no_effect(trial, errors, effects, "error_rate")
    if refused is not None:
        return refused
    if not set(errors) & set(trial.readable):
        return Run(NOT_APPLICABLE, note=_cannot_read(errors))
    spike = {m: SPIKE * share for m, share in _errors(trial, errors).items()}
    spike = {m: max(share, trial.usual(m)) for m, share in spike.items()}
    healed: list[Change] = [{}] * (LOOKS - GOOD_LOOKS - 1)
    looks = trial.ask([*changed(1, spike, after=GOOD_LOOKS), *healed])
    return _no_rollback(looks, "a spike that heals is rolled back")


#
# What is not known
#
def all_missing(trial: Trial, effects: Effects) -> Run:
    """Nothing is reported, from the first look or later: never CONTINUE."""
    nothing: Change = dict.fromkeys(trial.reported)
    for after in (0, GOOD_LOOKS):
        looks = trial.ask([*changed(LOOKS - after, nothing, after=after)])
        if any(look.decision == "CONTINUE" for look in looks[after:]):
            return Run(FAILS, said(looks), "CONTINUE though nothing is reported")
    return Run(PASSES, said(looks[GOOD_LOOKS:], first=GOOD_LOOKS + 1))


def one_missing(trial: Trial, effects: Effects) -> Run:
    """One metric is missing, of both versions, and all else is as before: no ROLLBACK.

    Where the old version alone reports it, the new one may be down.
    """
    if len(trial.readable) < 2:
        read = " and ".join(trial.readable) or "nothing"
        return Run(NOT_APPLICABLE, note=f"{read} is all that is read")
    runs = []
    for metric in trial.readable:
        for after in (GOOD_LOOKS, 0):
            gone: Change = {metric: None, CONTROL + metric: None}
            looks = trial.ask([*changed(LOOKS - after, gone, after=after)])
            runs.append(_no_rollback(looks, f"ROLLBACK for nothing but a missing {metric}"))
    return next((run for run in runs if run.result == FAILS), runs[0])


def low_traffic(trial: Trial, effects: Effects) -> Run:
    """Few requests, all else as before: no ROLLBACK, and no CONTINUE on too few of them."""
    if not trial.readable:
        return Run(NOT_APPLICABLE, note=_cannot_read(trial.metrics))
    few = trial.few_requests
    looks = trial.ask([{"requests": few}] * LOOKS)
    run = _no_rollback(looks, "ROLLBACK for nothing but low traffic")
    if run.result == FAILS:
        return run
    too_few = _too_few(trial.policy, few, len(looks))
    # What a pause becomes at its end is the team's own choice.
    goes_on = [look.decision == "CONTINUE" and not look.is_end_of_pause for look in looks]
    if any(low and on for low, on in zip(too_few, goes_on, strict=True)):
        return Run(FAILS, said(looks), f"CONTINUE on {few:g} requests, which are too few")
    failed = {m: max(trial.usual(m), 1.0 / few) for m in _named_after(trial, "error_rate")}
    one_failed = trial.ask([{"requests": few, **failed}] if too_few[0] else [])
    failed_run = _no_rollback(one_failed, f"ROLLBACK for one failed request of {few:g}")
    return failed_run if failed_run.result == FAILS else run


def _too_few(policy: DeploymentPolicy, requests: float, n_looks: int) -> list[bool]:
    """Returns at which looks the requests so far are too few for an answer."""
    least = (policy.calibration or UNCALIBRATED).pauses.min_requests
    short, marks = 0.0, []
    for _ in range(n_looks):
        together, short = policy.count_requests(short, requests)
        marks.append(bool(together < least))
    return marks


#
# Pieces
#
def _named_after(trial: Trial, name: str) -> list[str]:
    """Returns a metric and those with its name in front, but not of calls that the service makes.

    What a service calls may do well while the service itself fails.
    """
    named = [m for m in trial.metrics if m == name or m.startswith(name + "_")]
    return [m for m in named if "outgoing" not in m]


def _errors(trial: Trial, errors: Sequence[str]) -> dict[str, float]:
    return {m: outage_errors(trial.usual(m)) for m in errors}


def _no_effect(trial: Trial, metrics: Sequence[str], effects: Effects, named: str) -> Run | None:
    """Returns that a case does not apply to metrics that are not there or do nothing, else None.

    A policy in which no metric does anything has learnt nothing, which is no excuse.
    """
    if not metrics:
        return Run(NOT_APPLICABLE, note=f"{named} is not in the state")
    if effects.of(metrics):
        return None
    if not effects.of(trial.metrics):
        return Run(FAILS, note="no metric of the state moves the risk over its training range")
    named = " and ".join(metrics)
    return Run(NOT_APPLICABLE, note=f"{named} moved no risk over its training range")


def _cannot_read(metrics: Sequence[str]) -> str:
    return (
        f"the state has {' and '.join(metrics) or 'nothing'} only beside the baseline or the old "
        "version"
    )


def _unreadable(looks: Sequence[Look], metrics: Sequence[str]) -> Run:
    """Judges an outage that the state cannot see: it is no reason to go on."""
    goes_on = any(look.decision == "CONTINUE" for look in looks)
    note = f"CONTINUE, for {_cannot_read(metrics)}: put {metrics[0]} itself into the state too"
    return Run(FAILS if goes_on else PASSES, said(looks), note * goes_on)


def _no_rollback(looks: Sequence[Look], note: str) -> Run:
    fails = any(look.decision == "ROLLBACK" for look in looks)
    return Run(FAILS if fails else PASSES, said(looks), note * fails)


def _severity(look: Look) -> int:
    return _SEVERITY.index(look.decision)
