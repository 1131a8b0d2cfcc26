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

"""One guardrail: a limit on one metric, or that it must be there.

It fires where the newest value of its metric passes its limit, and has done so for as many canary
observations running as it asks for. A value that is missing, or has nothing to be compared with,
says nothing: it neither counts towards that number nor breaks the count. But a guardrail that had
fired when its metric was last reported is not settled by silence: until the next value it asks for
a PAUSE.

Of few requests (`PauseRules.min_requests`) an error rate or a latency says little: a guardrail on
one asks for a PAUSE in the place of ROLLBACK until there are enough.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, inf, isfinite, nan
from typing import Any, NamedTuple

from oumi_deploy.episodes.schema import CONTROL, NEVER_STATE, number_column
from oumi_deploy.errors import DeployError
from oumi_deploy.policy.pauses import PAUSE, Guard
from oumi_deploy.problem.arithmetic import Number, choose, ratio
from oumi_deploy.problem.directions import is_counted
from oumi_deploy.problem.state import HISTORY

ABOVE, BELOW, MISSING = "above", "below", "missing"

CONTROLS, BASELINE = "control", "baseline"
"""What a value can be compared with: the old version's at the same time, or the mean of the
episode's own baseline rows."""

DIFFERENCE, RATIO = "difference", "ratio"
"""How it is compared: less the other, or divided by it. A ratio is to a value above 0; to any other
there is none."""

_MOST = 1e300
"""Size of a limit at most: a whole number too large for a float is refused as infinity is."""

_ANSWERS = {PAUSE: Guard.PAUSE.value, "ROLLBACK": Guard.ROLLBACK.value}


class Streak(NamedTuple):
    """What is remembered of a guardrail between two observations: numbers, or arrays of shape (n,).

    Attributes:
        base_count: Baseline observations with a value of its metric.
        base_sum: Sum of these values.
        running: Canary observations running that passed the limit.
    """

    base_count: Number = 0.0
    base_sum: Number = 0.0
    running: Number = 0


@dataclass(frozen=True)
class Guardrail:
    """A limit on one metric, or that it must be there.

    Attributes:
        metric: A numeric column of the episode format; the policy's state need not have it.
        side: `above` or `below` the limit, or `missing`.
        value: The limit, in units of the metric, or of what `by` says; None of `missing`.
        compared_with: None for the value itself, `control`, or `baseline`; of `missing` None, or
            `control`: missing where the old version reports it.
        by: `difference` or `ratio`, where it is compared.
        running: Canary observations running after which it fires, 1 or more (`for` in files).
        answer: `PAUSE` or `ROLLBACK`; of `missing` always PAUSE.

    Raises:
        DeployError: If no such limit is possible, or it would fire on every value or on none.
    """

    metric: str
    side: str
    value: float | None = None
    compared_with: str | None = None
    by: str = DIFFERENCE
    running: int = 1
    answer: str = PAUSE

    def __post_init__(self) -> None:
        _check_metric(self.metric)
        if type(self.running) is not int or self.running < 1:
            raise DeployError(f"for: {self.running!r} is not a whole number above 0")
        if self.answer not in _ANSWERS:
            raise DeployError(f"answer: {self.answer!r} is not one of {', '.join(_ANSWERS)}")
        if self.compared_with not in (None, CONTROLS, BASELINE):
            raise DeployError(
                f"compared_with: {self.compared_with!r} is not {CONTROLS} or {BASELINE}; leave it "
                "out to judge the value itself"
            )
        if self.by not in (DIFFERENCE, RATIO):
            raise DeployError(f"by: {self.by!r} is not {DIFFERENCE} or {RATIO}")
        if self.by == RATIO and self.compared_with is None:
            raise DeployError(f"by: a {RATIO} takes compared_with: {CONTROLS} or {BASELINE}")
        if self.compared_with == CONTROLS and self.metric.startswith(CONTROL):
            raise DeployError(
                f"compared_with: {self.metric} is the old version's own; leave it out"
            )
        if self.side != MISSING:
            self._check_limit()
        elif self.compared_with == BASELINE:
            raise DeployError(
                f"compared_with: what must be present is compared with {CONTROLS} alone; leave it "
                "out to ask for the metric itself"
            )

    def _check_limit(self) -> None:
        limit = self.value
        is_truth = isinstance(limit, bool)
        if is_truth or not isinstance(limit, int | float) or not abs(limit) <= _MOST:
            hint = "; in YAML write 0.001 or 1.0e-3" if isinstance(limit, str) else ""
            raise DeployError(f"{self.side}: {limit!r} is not a finite number{hint}")
        low, high = self._range()
        fires_on_none = limit >= high if self.side == ABOVE else limit <= low
        fires_on_all = limit < low if self.side == ABOVE else limit > high
        if fires_on_none or fires_on_all:
            what = "never fires" if fires_on_none else "fires on every value"
            values = "values" if self.compared_with is None else f"{self.by}s"
            raise DeployError(
                f"{self.name}: {what}, for its {values} lie {_between(low, high)}; set another "
                "limit"
            )

    def _range(self) -> tuple[float, float]:
        """Returns the range in which what is held against the limit can lie."""
        rule = number_column(self.metric)
        if self.compared_with is None:
            return rule.low, rule.high
        if self.by == DIFFERENCE:
            return rule.low - rule.high, rule.high - rule.low
        return (0.0 if rule.low >= 0 else -inf), inf

    @cached_property
    def name(self) -> str:
        """What it says, for people, as in `error_rate above 0.05 for 2 observations`."""
        running = f" for {self.running} observations" * (self.running > 1)
        if self.side == MISSING:
            beside = " beside control" * (self.compared_with == CONTROLS)
            return f"{self.metric} missing{beside}{running}"
        assert self.value is not None
        limit = f"{self.value:.10g}"
        if self.compared_with is not None and self.by == RATIO:
            limit = f"{limit} times {self.compared_with}"
        elif self.compared_with is not None:
            sign = "-" if self.value < 0 else "+"
            limit = f"{self.compared_with} {sign} {abs(self.value):.10g}"
        return f"{self.metric} {self.side} {limit}{running}"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads: its metric's, and the old version's where it is compared."""
        is_compared = self.compared_with == CONTROLS
        return (self.metric, CONTROL + self.metric) if is_compared else (self.metric,)

    @cached_property
    def is_counted(self) -> bool:
        """Whether its metric is taken over requests."""
        return is_counted(self.metric)

    def observe_baseline(self, before: Streak, value: Number) -> Streak:
        """Takes in a baseline observation, NaN where missing."""
        known = value == value
        return before._replace(
            base_count=before.base_count + known,
            base_sum=before.base_sum + choose(known, value, 0.0),
        )

    def observe(
        self, before: Streak, value: Number, control: Number, few: Number
    ) -> tuple[Streak, Number]:
        """Takes in a canary observation, of shape (n,), or in numbers.

        Args:
            before: What was remembered.
            value: The metric, NaN where missing.
            control: The old version's, likewise; looked at only where it is compared with.
            few: Whether the requests are too few for an answer, bool.

        Returns:
            What is remembered, and the `Guard` code that it asks for.
        """
        if self.side == MISSING:
            is_missed = value != value
            running = (before.running + 1) * is_missed
            if self.compared_with == CONTROLS:
                # Where the old version reports nothing either, it neither counts nor breaks it.
                unknown = is_missed & (control != control)
                running = choose(unknown, before.running, running)
            fires = running >= self.running
            return before._replace(running=running), choose(fires, Guard.PAUSE.value, 0)
        gap = self._held_against_limit(before, value, control)
        passes = gap > self.value if self.side == ABOVE else gap < self.value
        known = gap == gap
        running = choose(known, (before.running + 1) * passes, before.running)
        carries = choose(few, False, known) if self.is_counted else known
        code = choose(carries, _ANSWERS[self.answer], Guard.PAUSE.value)
        return before._replace(running=running), choose(running >= self.running, code, 0)

    def _held_against_limit(self, before: Streak, value: Number, control: Number) -> Number:
        if self.compared_with is None:
            return value
        is_control = self.compared_with == CONTROLS
        other = control if is_control else ratio(before.base_sum, before.base_count)
        if self.by == DIFFERENCE:
            return value - other
        return ratio(value, choose(other > 0.0, other, nan))

    def nearest_settled(self, before: Streak, control: float) -> list[float]:
        """Returns the values nearest to its limit that do not pass it, in numbers.

        The first is where it turns, as far as rounding lets it; the second the next in six decimal
        places. None where it has nothing to be compared with.
        """
        limit, other = self.value, 0.0
        if limit is None:
            return []
        if self.compared_with is not None:
            is_control = self.compared_with == CONTROLS
            other = control if is_control else ratio(before.base_sum, before.base_count)
        turn = limit * other if self.by == RATIO else limit + other
        if not abs(turn) <= _MOST:
            return []
        towards = floor if self.side == ABOVE else ceil
        return [turn, towards(turn * 1e6) / 1e6]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as a file has it."""
        if self.side == MISSING:
            beside = {"compared_with": CONTROLS} if self.compared_with else {}
            return {"metric": self.metric, **beside, "for": self.running}
        compared = {"compared_with": self.compared_with, "by": self.by}
        return {
            "metric": self.metric,
            self.side: self.value,
            **(compared if self.compared_with is not None else {}),
            "for": self.running,
            "answer": self.answer,
        }


def _check_metric(metric: object) -> None:
    if not isinstance(metric, str) or not metric:
        raise DeployError(f"metric: {metric!r} is not the name of a metric")
    if metric.removeprefix(CONTROL) in NEVER_STATE:
        raise DeployError(
            f"metric: {metric} is no metric: it names the release or its time, or gives the label "
            "away"
        )
    name, _, suffix = metric.rpartition(".")
    if name and suffix in HISTORY:
        raise DeployError(
            f"metric: {metric} is a feature of the state; name the metric itself, {name}"
        )


def _between(low: float, high: float) -> str:
    if isfinite(low) and isfinite(high):
        return f"in {low:g}..{high:g}"
    return f"at {low:g} or more" if isfinite(low) else f"at {high:g} or less"
