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

"""The nearest change that would turn a decision: one metric's newest value, all else as it was.

Only what a person could change is named, and only in the direction that is known to matter: a
better value where the answer would be milder, a worse one where it would be severer. How many
requests there were is named only where too few of them hold the answer back. Each value is tried on
the rollout itself: the history is what it would have been, and pauses, guardrails and the
false-alarm bound have their say.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.episodes.schema import number_column
from oumi_deploy.policy.answers import ANSWERS, PAUSED
from oumi_deploy.policy.guardrail import ABOVE, MISSING
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.rollout import Newest
from oumi_deploy.policy.rulers import Ruler, rulers_of
from oumi_deploy.policy.weighing import End, Reading
from oumi_deploy.problem.rewards import Action

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

REQUESTS = "requests"
AT_LEAST, AT_MOST = "at least", "at most"

_GRID = 33
_PARTS = np.arange(1, 65) / 64
_ROUNDS = 2
"""A grid's step is cut into 64 parts, twice: what bisection does in twelve halvings."""

_CONTINUE, _ROLLBACK = Action.CONTINUE.value, Action.ROLLBACK.value
_SEVERITY = {_CONTINUE: 0, PAUSED: 1, _ROLLBACK: 2}
_OTHERS = {
    _CONTINUE: (_ROLLBACK, PAUSED),
    PAUSED: (_CONTINUE, _ROLLBACK),
    _ROLLBACK: (_CONTINUE, PAUSED),
}
"""What each answer could have been, what is asked first first."""


@dataclass(frozen=True)
class Change:
    """What would turn a decision.

    Attributes:
        metric: The metric whose newest value would have to be another.
        threshold: Where the nearest such values begin, in few digits. None if the metric is
            missing and any value would do.
        direction: `below` or `above`: on which side of the threshold they lie; `at least` for
            requests that are enough, and this or `at most` for a value with which a guardrail on
            what is not searched would not fire; None where the threshold is.
        decision: What the decision would be there.
    """

    metric: str
    threshold: float | None
    direction: str | None
    decision: str


@dataclass(frozen=True)
class _Turn:
    """Two values of a metric between which the answer comes to the target.

    Attributes:
        lever: What is changed.
        target: The answer that it comes to, a code of ANSWERS.
        turned: The value that comes to it.
        kept: The one that does not; None where any value would, as far as is to be expected.
        is_expected: Whether the metric is missing, and the value to expect would come to it.
    """

    lever: int
    target: int
    turned: float
    kept: float | None
    is_expected: bool


class _Trial:
    """Answers the newest observation anew, with other values.

    Attributes:
        rulers: Of the metrics that are tried. What is changed is named by its number among them;
            the number after the last is that of the requests.
        actual: The answer as it is, a code of ANSWERS.
    """

    def __init__(self, policy: "DeploymentPolicy", newest: Newest, when: End):
        self.policy, self.newest, self.when = policy, newest, when
        self.actual = int(newest.weighed.answers(policy, when).decision[0])
        self.rulers = rulers_of(policy, newest)
        metrics = policy.encoder.metrics
        self._columns = np.array([metrics.index(ruler.metric) for ruler in self.rulers], dtype=int)

    def answers(self, levers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Returns codes of ANSWERS, of the shape of values.

        Args:
            levers: What is changed; goes with values.
            values: What it is changed to.
        """
        shape, n, reading = values.shape, values.size, self.newest.reading
        levers, values = np.broadcast_to(levers, shape).ravel(), values.ravel()
        changed = reading.values.repeat(n, axis=0)
        is_metric = levers < len(self.rulers)
        changed[is_metric, self._columns[levers[is_metric]]] = values[is_metric]
        metrics = self.policy.encoder.metrics
        if REQUESTS in metrics:
            changed[~is_metric, metrics.index(REQUESTS)] = values[~is_metric]
        weighed = self.newest.past.repeat(n).take_in(
            self.policy,
            Reading(
                changed,
                reading.control.repeat(n, axis=0),
                reading.minute.repeat(n, axis=0),
                reading.planned_steps.repeat(n, axis=0),
                np.where(is_metric, reading.requests, values),
                reading.guarded.repeat(n, axis=0),
            ),
        )
        return weighed.answers(self.policy, self.when).decision.reshape(shape)

    def answer_with(self, column: str, value: float) -> int:
        """Returns the code of ANSWERS if a column that a guardrail reads had another value."""
        reading, metrics = self.newest.reading, self.policy.encoder.metrics
        values, guarded, requests = reading.values.copy(), reading.guarded.copy(), reading.requests
        guarded[0, self.policy.guardrails.columns.index(column)] = value
        if column in metrics:
            values[0, metrics.index(column)] = value
        if column == REQUESTS:
            requests = np.array([value])
        changed = replace(reading, values=values, guarded=guarded, requests=requests)
        weighed = self.newest.past.take_in(self.policy, changed)
        return int(weighed.answers(self.policy, self.when).decision[0])


def nearest_changes(
    policy: "DeploymentPolicy", newest: Newest, when: End, first: str | None = None
) -> tuple[Change, ...]:
    """Returns the change to each other decision that says most.

    It is the requests, where too few of them hold the answer back; else that of the metric to try
    first; else the nearest, in units of the encoder's scale. A grid over the values of each metric
    finds where the answer turns; each turn is then narrowed down. A metric that is missing is
    searched from where it would be expected, its baseline or else its median in training.

    Args:
        policy: The policy.
        newest: The newest observation of a rollout.
        when: What the caller says of the end of the rollout.
        first: The metric that is named where it can turn the decision, None for none.

    Returns:
        At most two: first what would make a CONTINUE a ROLLBACK, and anything else a CONTINUE; then
        what would make it a PAUSE, and a PAUSE a ROLLBACK. What no change of one metric comes to is
        left out.
    """
    trial = _Trial(policy, newest, when)
    grid = np.array([ruler.grid(_GRID) for ruler in trial.rulers])
    codes = trial.answers(np.arange(len(trial.rulers))[:, None], grid) if trial.rulers else grid
    requests = _enough_requests(policy, newest)
    by_requests = -1
    if requests is not None:
        by_requests = int(trial.answers(np.array(len(trial.rulers)), np.array([requests]))[0])
    found, turns = {}, []
    for target in _OTHERS[trial.actual]:
        if by_requests == target:
            found[target] = Change(REQUESTS, requests, AT_LEAST, ANSWERS[target])
        elif (settled := _by_guardrail(trial, target)) is not None:
            found[target] = settled
        else:
            turns += _candidates(trial, _turns(trial, grid, codes, target), first)
    narrowed = _narrow(trial, turns)
    nearest = [
        min(of_target, key=lambda turn: _distance(trial, turn, turn.turned))
        for target in _OTHERS[trial.actual]
        if (of_target := [turn for turn in narrowed if turn.target == target])
    ]
    for turn, threshold in zip(nearest, _round_thresholds(trial, nearest), strict=True):
        is_below = turn.kept is not None and turn.turned < turn.kept
        direction = None if threshold is None else "below" if is_below else "above"
        metric = trial.rulers[turn.lever].metric
        found[turn.target] = Change(metric, threshold, direction, ANSWERS[turn.target])
    return tuple(found[target] for target in _OTHERS[trial.actual] if target in found)


def _enough_requests(policy: "DeploymentPolicy", newest: Newest) -> float | None:
    """Returns how many requests the newest observation lacks, None where it has enough."""
    if not newest.weighed.preferred.reasons[0] & Reason.FEW_REQUESTS:
        return None
    short = 0.0 if policy.version == 1 else float(newest.past.requests_short[0])
    return policy.least_requests - short


def _by_guardrail(trial: _Trial, target: int) -> Change | None:
    """Returns the value with which a guardrail on what is not searched would not fire.

    That is one of a metric that is not in the state, or has no direction.
    """
    if _SEVERITY[target] > _SEVERITY[trial.actual]:
        return None
    newest, guardrails = trial.newest, trial.policy.guardrails
    searched = {ruler.metric for ruler in trial.rulers}
    values = [float(column[0]) for column in newest.reading.columns(trial.policy)]
    rails = zip(guardrails.rails, guardrails.places, newest.past.streaks, newest.asked, strict=True)
    for rail, (_, of_control), streak, asked in rails:
        if not asked or rail.metric in searched:
            continue
        if rail.side == MISSING and trial.answer_with(rail.metric, 0.0) == target:
            return Change(rail.metric, None, None, ANSWERS[target])
        rule = number_column(rail.metric)
        for value in rail.nearest_settled(streak, values[of_control]):
            is_possible = rule.low <= value <= rule.high
            if is_possible and trial.answer_with(rail.metric, value) == target:
                side = AT_MOST if rail.side == ABOVE else AT_LEAST
                return Change(rail.metric, value, side, ANSWERS[target])
    return None


def _turns(trial: _Trial, grid: np.ndarray, codes: np.ndarray, target: int) -> list[_Turn]:
    """Returns where the answer first comes to the target, of each metric where it does.

    Args:
        trial: The trial.
        grid: Values of each metric, from the best to the worst, shape (n_metrics, n).
        codes: The answers to them.
        target: The answer to come to.
    """
    is_milder = _SEVERITY[target] < _SEVERITY[trial.actual]
    found = []
    for lever, (ruler, values, row) in enumerate(zip(trial.rulers, grid, codes, strict=True)):
        turn = _first_turn(ruler, values, row == target, is_milder)
        if turn is not None:
            found.append(_Turn(lever, target, *turn))
    return found


def _first_turn(
    ruler: Ruler, values: np.ndarray, hits: np.ndarray, is_milder: bool
) -> tuple[float, float | None, bool] | None:
    """Walks towards what is better or worse, until the answer is the target.

    From the newest value or, where that is missing, from the other end: there, the first value
    that comes to the target is the end of all that do.

    Returns:
        What `_Turn` holds beside lever and target; None where there is no turn.
    """
    at = int(np.argmax(values == ruler.start))
    is_expected = ruler.is_missing and bool(hits[at])
    if ruler.is_missing:
        at = len(values) - 1 if is_milder else 0
    side = slice(at, None, -1) if is_milder else slice(at, None)
    values, hits = values[side], hits[side]
    first = int(hits.argmax())
    if hits[0]:
        return (ruler.start, None, is_expected) if is_expected else None
    return (float(values[first]), float(values[first - 1]), is_expected) if first else None


def _candidates(trial: _Trial, turns: list[_Turn], first: str | None) -> list[_Turn]:
    """Returns the turns of which one may be the nearest, or that of the metric to try first."""
    preferred = [turn for turn in turns if trial.rulers[turn.lever].metric == first]
    if preferred or not turns:
        return preferred
    farthest = min(max(_ends(trial, turn)) for turn in turns)
    return [turn for turn in turns if min(_ends(trial, turn)) <= farthest]


def _ends(trial: _Trial, turn: _Turn) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns the distances between which that of a turn lies, once it is narrowed down."""
    kept = turn.turned if turn.kept is None else turn.kept
    return _distance(trial, turn, turn.turned), _distance(trial, turn, kept)


def _distance(trial: _Trial, turn: _Turn, turned: float) -> tuple[float, float]:
    """Returns how far the start is from a value that comes to the target, and from the turn."""
    at = 0.0 if turn.kept is None else trial.rulers[turn.lever].distance(turned)
    return (0.0 if turn.is_expected else at), at


def _narrow(trial: _Trial, turns: list[_Turn]) -> list[_Turn]:
    """Returns the turns with their two values brought close together."""
    whole = [turn for turn in turns if turn.kept is None]
    turns = [turn for turn in turns if turn.kept is not None]
    if not turns:
        return whole
    levers = np.array([[turn.lever] for turn in turns])
    targets = np.array([[turn.target] for turn in turns])
    turned = np.array([turn.turned for turn in turns])
    kept = np.array([turn.kept for turn in turns], dtype=np.float64)
    at = np.arange(len(turns))
    for _ in range(_ROUNDS):
        values = kept[:, None] + (turned - kept)[:, None] * _PARTS
        values[:, -1] = turned
        marks = trial.answers(levers, values) == targets
        marks[:, -1] = True
        first = marks.argmax(axis=1)
        kept = np.where(first > 0, values[at, first - 1], kept)
        turned = values[at, first]
    ends = zip(turns, turned.tolist(), kept.tolist(), strict=True)
    return [*whole, *(replace(turn, turned=yes, kept=no) for turn, yes, no in ends)]


def _round_thresholds(trial: _Trial, turns: list[_Turn]) -> list[float | None]:
    """Returns the thresholds of turns in few digits, None where any value would do.

    That is a round number where the answer turns or, where there is none, the next one beyond.
    """
    values = [_round_values(trial.rulers[turn.lever], turn) for turn in turns]
    levers = np.array([turn.lever for turn in turns], dtype=int).repeat([len(v) for v in values])
    flat = np.array([x for several in values for x in several])
    codes = trial.answers(levers, flat).tolist() if len(flat) else []
    found: list[float | None] = []
    for turn, several in zip(turns, values, strict=True):
        own, codes = codes[: len(several)], codes[len(several) :]
        is_between = len(several) == 1
        hits = [
            x for x, code in zip(several, own, strict=True) if is_between or code == turn.target
        ]
        found.append(None if turn.kept is None else hits[0] if hits else turn.turned)
    return found


def _round_values(ruler: Ruler, turn: _Turn) -> list[float]:
    """Returns numbers of few digits to try: the one where the answer turns, or those beyond."""
    if turn.kept is None:
        return []
    is_below = turn.turned < turn.kept
    between = round(turn.turned, ruler.decimals)
    is_between = (turn.turned <= between) if is_below else (between <= turn.turned)
    if is_between and abs(between - turn.turned) <= abs(turn.kept - turn.turned):
        return [between]
    towards = np.floor if is_below else np.ceil
    places = range(ruler.decimals, ruler.decimals + 6)
    beyond = [float(towards(turn.turned * 10**p) / 10**p) for p in places]
    return [*(x for x in beyond if ruler.allows(x)), turn.turned]
