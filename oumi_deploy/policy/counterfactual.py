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

Each value is tried on the rollout itself: the history is what it would have been, and pauses and
the false-alarm bound have their say.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oumi_deploy.policy.answers import ANSWERS, PAUSED
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.rollout import Newest
from oumi_deploy.policy.rulers import REQUESTS, Ruler, ruler_of, ruler_of_requests
from oumi_deploy.policy.weighing import End, Reading

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy

_GRID = 65
_PARTS = np.arange(1, 17) / 16
_ROUNDS = 3
"""A grid's step is cut into 16 parts, three times: what bisection does in twelve halvings."""


@dataclass(frozen=True)
class Change:
    """What would turn a decision.

    Attributes:
        metric: The metric whose newest value would have to be another.
        threshold: Where the nearest such values begin, in few digits. None if the metric is
            missing and any value in the range of training would do.
        direction: `below` or `above`: on which side of the threshold they lie; None where the
            threshold is.
        decision: What the decision would be there.
    """

    metric: str
    threshold: float | None
    direction: str | None
    decision: str


@dataclass(frozen=True)
class _Turn:
    """Two values of a metric between which the answer turns."""

    lever: int
    turned: float
    kept: float


class _Trial:
    """Answers the newest observation anew, with other values."""

    def __init__(self, policy: "DeploymentPolicy", newest: Newest, when: End):
        self.policy, self.newest, self.when = policy, newest, when
        answers = newest.weighed.answers(policy, when)
        self.actual = int(answers.decision[0])
        metrics = list(policy.encoder.metrics)
        self.rulers = [ruler_of(policy, newest, metric) for metric in metrics]
        if newest.weighed.preferred.reasons[0] & Reason.FEW_REQUESTS and REQUESTS not in metrics:
            self.rulers.append(ruler_of_requests(policy, newest))

    def answers(self, levers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Returns codes of ANSWERS, of the shape of values.

        Args:
            levers: What is changed, by its number among the rulers; goes with values.
            values: What it is changed to.
        """
        shape, n, reading = values.shape, values.size, self.newest.reading
        levers, values = np.broadcast_to(levers, shape).ravel(), values.ravel()
        metrics = self.policy.encoder.metrics
        changed = reading.values.repeat(n, axis=0)
        is_metric = levers < len(metrics)
        changed[is_metric, levers[is_metric]] = values[is_metric]
        of_requests = metrics.index(REQUESTS) if REQUESTS in metrics else len(metrics)
        weighed = self.newest.past.repeat(n).take_in(
            self.policy,
            Reading(
                changed,
                reading.control.repeat(n, axis=0),
                reading.minute.repeat(n, axis=0),
                reading.planned_steps.repeat(n, axis=0),
                np.where(levers == of_requests, values, reading.requests),
            ),
        )
        return weighed.answers(self.policy, self.when).decision.reshape(shape)

    def turns(self, codes: np.ndarray) -> np.ndarray:
        """Returns which answers turn the decision, bool of the shape of codes.

        CONTINUE and ROLLBACK turn into each other, not into PAUSE; PAUSE turns into either.
        """
        is_other = codes != self.actual
        return is_other if self.actual == PAUSED else is_other & (codes != PAUSED)


def nearest_change(policy: "DeploymentPolicy", newest: Newest, when: End) -> Change | None:
    """Returns the change that is nearest in units of the encoder's scale, None if there is none.

    A grid over the range that training has seen finds where the answer turns, as far as the
    format allows the value; each turn is then narrowed down. A metric that is missing is searched
    from where it would be expected, its baseline or else its median in training.

    Args:
        policy: The policy.
        newest: The newest observation of a rollout.
        when: What the caller says of the end of the rollout.
    """
    trial = _Trial(policy, newest, when)
    rulers = trial.rulers
    grid = np.array([ruler.grid(_GRID) for ruler in rulers])
    codes = trial.answers(np.arange(len(rulers))[:, None], grid)
    turned = trial.turns(codes)
    for ruler, values, row, marks in zip(rulers, grid, codes, turned, strict=True):
        if ruler.is_missing and marks.all():
            at_start = int(row[np.searchsorted(values, ruler.start)])
            return Change(ruler.metric, None, None, ANSWERS[at_start])
    found = [t for i, r in enumerate(rulers) for t in _turns_of(i, r, grid[i], turned[i])]
    if not found:
        return None
    nearest = min(_narrow(trial, found), key=lambda turn: _distances(rulers, turn))
    return _in_round_numbers(trial, nearest)


def _distances(rulers: list[Ruler], turn: _Turn) -> tuple[float, float]:
    """Returns how far the start is from a value that turns the decision, and from the turn.

    The former is 0 where a metric is missing and the value to expect would turn it.
    """
    ruler = rulers[turn.lever]
    at = ruler.distance(turn.turned)
    return (0.0 if at < ruler.distance(turn.kept) else at), at


def _turns_of(lever: int, ruler: Ruler, grid: np.ndarray, turned: np.ndarray) -> list[_Turn]:
    """Returns where the answer first turns below the start, and above it."""
    start = int(np.searchsorted(grid, ruler.start))
    found = []
    for side in (slice(start, None, -1), slice(start, None)):
        values, marks = grid[side], turned[side]
        differs = marks != marks[0]
        if differs.any():
            after = int(differs.argmax())
            near, far = float(values[after - 1]), float(values[after])
            turned_at, kept_at = (near, far) if marks[0] else (far, near)
            found.append(_Turn(lever, turned_at, kept_at))
    return found


def _narrow(trial: _Trial, found: list[_Turn]) -> list[_Turn]:
    """Returns the turns with their two values brought close together."""
    levers = np.array([turn.lever for turn in found])
    turned = np.array([turn.turned for turn in found])
    kept = np.array([turn.kept for turn in found])
    at = np.arange(len(found))
    for _ in range(_ROUNDS):
        values = kept[:, None] + (turned - kept)[:, None] * _PARTS
        values[:, -1] = turned
        marks = trial.turns(trial.answers(levers[:, None], values))
        marks[:, -1] = True
        first = marks.argmax(axis=1)
        kept = np.where(first > 0, values[at, first - 1], kept)
        turned = values[at, first]
    return [
        _Turn(int(lever), float(yes), float(no))
        for lever, yes, no in zip(levers, turned, kept, strict=True)
    ]


def _in_round_numbers(trial: _Trial, turn: _Turn) -> Change:
    """Returns the change with a threshold of few digits.

    That is a round number where the answer turns or, where there is none, the next one beyond.
    """
    ruler, is_below = trial.rulers[turn.lever], turn.turned < turn.kept
    towards = np.floor if is_below else np.ceil
    places = range(ruler.decimals, ruler.decimals + 6)
    beyond = [float(towards(turn.turned * 10**p) / 10**p) for p in places]
    values = np.array([turn.turned, *(x for x in beyond if ruler.allows(x))])
    codes = trial.answers(np.array(turn.lever), values)
    between = round(turn.turned, ruler.decimals)
    is_between = (turn.turned <= between) if is_below else (between <= turn.turned)
    if is_between and abs(between - turn.turned) <= abs(turn.kept - turn.turned):
        threshold, code = between, codes[0]
    else:
        at = int(trial.turns(codes[1:]).argmax()) + 1 if trial.turns(codes[1:]).any() else 0
        threshold, code = values[at], codes[at]
    direction = "below" if is_below else "above"
    return Change(ruler.metric, float(threshold), direction, ANSWERS[int(code)])
