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

"""Rollouts of several services in one window: whose release is the likeliest cause.

When a release breaks a service, those that call it break too, and a policy that judges each rollout
by itself may roll all of them back. Here the rollouts of a window are compared: the likeliest cause
goes, and those that may only have been dragged down wait.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isnan, log

from oumi_deploy.policy.candidates import Candidate

HOLD_LIMIT = 10
"""Observations running at which a rollout waits for another; then its own ROLLBACK stands."""

SHARED = 3.0
"""Log odds that a release loses whose old version fails as it does: twenty to one. Chosen, not
fitted; from 1 to 4 nothing changes in what is named and held in the releases of ChangeRCA."""

CALLED = 2.0
"""Log odds that a release loses for calling one that failed before it did."""

Calls = Mapping[str, Sequence[str]]
"""Which services each service calls."""


@dataclass(frozen=True)
class Suspect:
    """A rollout of the window as the possible cause.

    Attributes:
        name: Names it within the window.
        score: Log odds that it is bad by itself; they compare within a window.
        say: Returns `sentence`.
    """

    name: Hashable
    score: float
    say: Callable[[], str]

    @property
    def sentence(self) -> str:
        """Why, for a person; put together where it is read: of hundreds a few are."""
        return self.say()


@dataclass(frozen=True)
class Verdict:
    """What the window says.

    Attributes:
        ranking: All rollouts, the likeliest cause first.
        held: Those that wait although the policy wants them rolled back, each with what it waits
            for.
    """

    ranking: tuple[Suspect, ...]
    held: Mapping[Hashable, Hashable]


def judge_window(
    window: Sequence[Candidate], calls: Calls | None = None, hold_limit: int = HOLD_LIMIT
) -> Verdict:
    """Ranks the rollouts of a window, and says which of them wait.

    A rollout that the policy wants rolled back waits where a release of another service is
    likelier the cause, looks bad itself, and began before this one's trouble did; not where it
    fails beside an old version that does well, or without errors on either version, and not for
    more than `hold_limit` observations running. Where at most one release looks bad, nothing waits.

    Args:
        window: The rollouts, in an order that settles ties.
        calls: Which services each service calls, if known.
        hold_limit: Observations running at which a rollout waits at most, 0 or more.
    """
    scores = _scores(window, calls)
    # Of two that are as likely, the one that fails beside an old version that does well.
    place = {c.name: (scores[c.name], c.is_its_own) for c in window}
    order = sorted(window, key=lambda c: place[c.name], reverse=True)
    held = {}
    for candidate in window:
        # Most of a large window have gone back, and are not compared with each other.
        if not candidate.could_wait or candidate.holds >= hold_limit:
            continue
        likelier = (s for s in order if place[s.name] > place[candidate.name])
        cause = next((s for s in likelier if _can_have_caused(s, candidate)), None)
        if cause is not None:
            held[candidate.name] = cause.name
    onsets = sorted(c.onset for c in window if c.onset is not None)

    def say(suspect: Candidate) -> str:
        parts = [*_signs(suspect, window, calls, onsets), *_wait(suspect, held, hold_limit)]
        return f"{suspect.service}: {'; '.join(parts)}"

    ranking = [Suspect(s.name, scores[s.name], partial(say, s)) for s in order]
    return Verdict(tuple(ranking), held)


def _scores(window: Sequence[Candidate], calls: Calls | None) -> dict[Hashable, float]:
    """Returns how likely each release is the cause.

    One whose old version fails too is no likelier than one that fails alone and can have caused it,
    however sure the policy is: its errors are many because it calls many, and of few requests a
    single one is a high rate.
    """
    alone = {c.name: _score(c, window, calls) for c in window}
    scores = dict(alone)
    for candidate in window:
        if candidate.fails_with_its_old_version:
            causes = (s for s in window if s.is_its_own and _can_have_caused(s, candidate))
            most = max((alone[cause.name] for cause in causes), default=inf)
            scores[candidate.name] = min(alone[candidate.name], most)
    return scores


def _score(candidate: Candidate, window: Sequence[Candidate], calls: Calls | None) -> float:
    risk = min(max(candidate.risk, 0.01), 0.99)
    score = log(risk / (1.0 - risk)) - SHARED * candidate.shared
    return score - CALLED * (_called(candidate, window, calls) is not None)


def _can_have_caused(cause: Candidate, effect: Candidate) -> bool:
    # Of one service two versions are one change, or one that has taken the other's place.
    if cause.service == effect.service or cause.onset is None or effect.onset is None:
        return False
    return cause.started <= effect.onset


def _called(
    candidate: Candidate, window: Sequence[Candidate], calls: Calls | None
) -> Candidate | None:
    """Returns a release that this one calls and that looked bad no later, None without one."""
    if calls is None or candidate.onset is None:
        return None
    callees = calls.get(candidate.service, ())
    before = (s for s in window if s.onset is not None and s.onset <= candidate.onset)
    return next((other for other in before if other.service in callees), None)


def _signs(
    candidate: Candidate,
    window: Sequence[Candidate],
    calls: Calls | None,
    onsets: Sequence[float],
) -> Iterator[str]:
    yield f"risk {candidate.risk:.0%}"
    if isnan(candidate.errors):
        yield "it reports no error rate"
    if candidate.fails_with_its_old_version:
        yield f"its old version fails {'as well' if candidate.shared >= 0.5 else 'too, but less'}"
    elif candidate.is_its_own:
        yield "its old version does well beside it"
    called = _called(candidate, window, calls)
    if called is not None:
        when = "at the same time" if called.onset == candidate.onset else "before"
        yield f"it calls {called.service}, which failed {when}"
    if candidate.onset is not None:
        yield _place_of(candidate.onset, onsets)


def _place_of(onset: float, onsets: Sequence[float]) -> str:
    """Says how soon one failed among those that did, whose onsets are sorted."""
    after = onset - onsets[0]
    if after == 0:
        return "it failed first" if onsets.count(onset) == 1 else "it was among the first to fail"
    if after < 60:
        return "it failed within a minute of the first"
    return f"it failed {round(after / 60)} min after the first"


def _wait(candidate: Candidate, held: Mapping[Hashable, Hashable], limit: int) -> Iterator[str]:
    if candidate.gone_back:
        yield "it was told to go back"
    elif candidate.name in held:
        yield f"it waits, observation {candidate.holds + 1} of at most {limit}"
    elif candidate.holds >= limit > 0:
        yield f"it has waited for {candidate.holds} observations, and may no longer"
