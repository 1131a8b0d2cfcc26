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

"""What becomes of the answers to releases of one group where they are compared with each other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from math import nan
from operator import itemgetter

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, CONTROL
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import last_observations
from oumi_deploy.evaluation.metrics import Metric, drawn_sets, make_metric
from oumi_deploy.evaluation.scoring import Scores
from oumi_deploy.policy.answers import ANSWERS, PAUSED, Answers
from oumi_deploy.policy.candidates import LATELY, Candidate, onset_of, rise
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.policy.together import HOLD_LIMIT, Calls, Verdict, judge_window
from oumi_deploy.problem.rewards import Action

ERRORS = "error_rate"
"""The metric whose rise is compared between versions."""


@dataclass(frozen=True, eq=False)
class Together:
    """Answers to releases that were looked at together.

    Attributes:
        answers: The policy's, with PAUSE where a rollout waits for another.
        held: Whether that is so, bool of shape (n_decisions,).
        named: By group, its episodes ranked when the policy first wanted one of them rolled back,
            or at the end where it never did; the likeliest cause first.
        named_at_end: By group, its episodes ranked when all of them had ended.
    """

    answers: Answers
    held: np.ndarray
    named: list[list[int]]
    named_at_end: list[list[int]]


def look_together(
    episodes: Episodes,
    answers: Answers,
    calls: Calls | None = None,
    hold_limit: int = HOLD_LIMIT,
) -> Together:
    """Replays each group by the clock, its rollouts side by side.

    A recording goes on as it was after a rollback: a neighbour that the culprit drags down stays
    down in it, as it would not have.

    Args:
        episodes: The episodes, with `timestamp` and `error_rate`.
        answers: What a calibrated policy answers to each rollout by itself.
        calls: Which services each service calls, if known.
        hold_limit: Observations running at which a rollout waits at most.

    Raises:
        DeployError: If a decision has no timestamp.
    """
    if np.isnan(episodes.column("timestamp")[episodes.canary_rows]).any():
        raise DeployError("timestamp: releases of one group are compared by it; give it in all")
    held = np.zeros(len(answers.decision), dtype=bool)
    named, named_at_end = [], []
    codes = episodes.group_codes()
    for code in range(episodes.n_groups):
        group = _Group(episodes, answers, np.flatnonzero(codes == code), calls, hold_limit)
        first = None
        verdict = Verdict((), {})
        for verdict, waiting in group.replay():
            held[waiting] = True
            if first is None and group.wanted:
                first = verdict
        named.append(_names(verdict if first is None else first))
        named_at_end.append(_names(verdict))
    decision = np.where(held, PAUSED, answers.decision)
    mixed = replace(answers, decision=decision, fell_back=answers.fell_back & ~held)
    return Together(mixed, held, named, named_at_end)


def _names(verdict: Verdict) -> list[int]:
    return [int(suspect.name) for suspect in verdict.ranking]  # pyright: ignore


class _Group:
    """The rollouts of one group, replayed.

    Attributes:
        wanted: Whether the policy has wanted one of them rolled back so far.
    """

    def __init__(
        self,
        episodes: Episodes,
        answers: Answers,
        members: np.ndarray,
        calls: Calls | None,
        hold_limit: int,
    ):
        self.wanted = False
        self._answers, self._calls, self._hold_limit = answers, calls, hold_limit
        rows, self._starts = episodes.canary_rows, episodes.canary_offsets
        self._times = episodes.column("timestamp")[rows]
        self._errors, self._control = (episodes.column(n)[rows] for n in (ERRORS, CONTROL + ERRORS))
        self._is_last = last_observations(episodes)
        self._baselines = {int(i): _baseline(episodes, int(i)) for i in members}
        services = episodes.texts.get("service", episodes.ids)
        self._services = {int(i): str(services[i]) for i in members}
        self._window: dict[int, Candidate] = {}
        self._over = set[int]()

    def replay(self) -> Iterator[tuple[Verdict, list[int]]]:
        """Yields what the window says at each time, and the decisions at which a rollout waits."""
        asked = [(self._times[d], i, d) for i in self._services for d in self._decisions(i)]
        for _, at_once in groupby(sorted(asked), key=itemgetter(0)):
            at = {i: decision for _, i, decision in at_once if i not in self._over}
            for i, decision in at.items():
                self._window[i] = self._look(i, decision)
            verdict = judge_window(list(self._window.values()), self._calls, self._hold_limit)
            for i in at:
                self._tell(i, i in verdict.held)
            yield verdict, [decision for i, decision in at.items() if i in verdict.held]

    def _decisions(self, i: int) -> range:
        return range(self._starts[i], self._starts[i + 1])

    def _look(self, i: int, decision: int) -> Candidate:
        before, begin = self._window.get(i), int(self._starts[i])
        lately = slice(max(begin, decision + 1 - LATELY), decision + 1)
        risk, at = float(self._answers.risk[decision]), float(self._times[decision])
        word = ANSWERS[int(self._answers.decision[decision])]
        return Candidate(
            name=i,
            service=self._services[i],
            started=float(self._times[begin]),
            onset=onset_of(None if before is None else before.onset, at, risk, word),
            risk=risk,
            errors=rise(self._errors[lately].tolist(), self._baselines[i]),
            control_errors=rise(self._control[lately].tolist(), self._baselines[i]),
            decision=word,
            is_last=bool(self._is_last[decision]),
            must_go=bool(self._answers.reasons[decision] & Reason.GUARDRAIL.value),
            holds=0 if before is None else before.holds,
        )

    def _tell(self, i: int, waits: bool) -> None:
        candidate = self._window[i]
        holds = candidate.holds + 1 if waits else 0
        self._window[i] = replace(candidate, holds=holds)
        if candidate.decision == ANSWERS[Action.ROLLBACK]:
            self.wanted = True
            if not waits:
                self._over.add(i)
                self._window[i] = replace(candidate, gone_back=True)


def _baseline(episodes: Episodes, i: int) -> float:
    begin = episodes.offsets[i]
    rates = episodes.column(ERRORS)[begin : begin + episodes.baseline_lengths[i]]
    return float(np.nanmean(rates)) if np.isfinite(rates).any() else nan


def describe_naming(
    ranked: list[list[int]], episodes: Episodes, seed: int = 0
) -> dict[str, Metric]:
    """Returns how often a bad release is ranked first, and among the first three.

    Args:
        ranked: By group, its episodes, the likeliest cause first.
        episodes: The episodes; a group without a bad one is left out.
        seed: Seed of the intervals.

    Returns:
        `named_first` and `named_in_three`, each with its interval from resampling groups.
    """
    bad = episodes.labels == BAD
    judged = np.unique(episodes.group_codes()[bad])
    figures = {}
    for name, n in (("named_first", 1), ("named_in_three", 3)):
        hits = np.array([bad[ranked[code][:n]].any() for code in judged])
        figures[name] = ratio(hits, np.ones(len(hits)), "no group has a bad release", seed)
    return figures


def kept_share(without: Scores, together: Scores, episodes: Episodes, seed: int = 0) -> Metric:
    """Returns the share of false rollbacks that looking together leaves.

    Args:
        without: `Scores` of the policy's own answers.
        together: `Scores` of the answers of `look_together`.
        episodes: The episodes of both.
        seed: Seed of the interval.
    """
    codes, n = episodes.group_codes(), episodes.n_groups
    below, above = (
        np.bincount(codes[s.episode], s.rolled_back & ~s.bad, minlength=n)
        for s in (without, together)
    )
    return ratio(above, below, "no good release was rolled back", seed)


def ratio(above: np.ndarray, below: np.ndarray, note: str, seed: int) -> Metric:
    """Returns the ratio of two sums over groups, its interval from resampling them.

    Args:
        above: What each group adds above, shape (n_groups,).
        below: And below.
        note: Why it is not defined, where the sum below is 0.
        seed: Seed of the interval.
    """
    sums = np.stack([above, below], axis=1).astype(float)
    drawn = np.concatenate([weights @ sums for weights in drawn_sets(len(sums), seed)()])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.divide(*sums.sum(axis=0))
        return make_metric(value, drawn[:, 0] / drawn[:, 1], note, len(sums))
