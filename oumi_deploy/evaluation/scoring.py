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

"""The scoring rules, the same for every policy and rule.

Decisions are taken at canary observations; an episode is rolled back at its first ROLLBACK. A
PAUSE holds the rollout and counts as a CONTINUE. An episode is held, for a person to decide, from
the first time that a limit of pauses is reached and no later observation carries a decision; that
is paid once, beside what waiting cost until then. Unlabelled episodes are not scored. Where the log
ends in ROLLBACK, a policy that gets there without rolling back is counted as censored: nobody knows
what would have come of it.

A recording went on raising the traffic where a PAUSE would not have: what a policy sees after one
is more than it would have seen. `Scores.withheld` pays as if it had not.
"""

from dataclasses import dataclass

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, UNKNOWN
from oumi_deploy.policy.answers import PAUSED, Answers
from oumi_deploy.policy.pauses import Reason
from oumi_deploy.problem.rewards import Action, Rewards, step_costs


@dataclass(frozen=True, eq=False)
class Scores:
    """One row a scored thing: an episode, or with `per_observation` a canary observation.

    Attributes:
        episode: Number of the episode, int64 of shape (n,).
        end: Decision at which the rollout ended, int64 of shape (n,).
        bad: Whether it is bad, bool of shape (n,).
        rolled_back: Whether the policy rolled back, bool of shape (n,).
        delay_steps: Decisions before the ROLLBACK, float64, NaN without one.
        delay_minutes: Minutes from the first canary observation to the ROLLBACK, float64, NaN
            without one or without timestamps.
        held: Whether it ended held for a person, bool; then it is neither rolled back nor promoted.
        reward: The table's reward, float64.
        reward_with_delay: The same less the step costs, float64.
        share_rose: Whether the share of traffic rose in the recording during a watch or after it
            began, bool.
        withheld: `reward_with_delay`, where the share rose as if nothing had been seen after the
            watch began: it then ends at once, float64.
        paused: Whether an answer up to the end was a PAUSE or the fallback of one, bool.
        fell_back: Whether the fallback of a PAUSE ended the rollout, bool.
        n_censored: Things not scored because their end is unknown.
        n_unlabelled: Things not scored because nobody knows their label.
    """

    episode: np.ndarray
    end: np.ndarray
    bad: np.ndarray
    rolled_back: np.ndarray
    held: np.ndarray
    delay_steps: np.ndarray
    delay_minutes: np.ndarray
    reward: np.ndarray
    reward_with_delay: np.ndarray
    share_rose: np.ndarray
    withheld: np.ndarray
    paused: np.ndarray
    fell_back: np.ndarray
    n_censored: int
    n_unlabelled: int


def score(
    episodes: Episodes,
    actions: np.ndarray,
    rewards: Rewards,
    per_observation: bool = False,
    answers: Answers | None = None,
) -> Scores:
    """Scores the actions taken at every decision.

    Args:
        episodes: The episodes.
        actions: Action at each canary observation, int of shape (n_decisions,).
        rewards: What decisions pay.
        per_observation: Whether each canary observation counts as one decision of its own.
        answers: The answers behind the actions, for what was paused; without, nothing was.
    """
    starts, ends = episodes.canary_offsets[:-1], episodes.canary_offsets[1:]
    n_decisions = int(ends[-1])
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    if per_observation:
        episode, stop, begin, last = (
            of,
            np.arange(n_decisions),
            np.arange(n_decisions),
            ends[of] - 1,
        )
        rolled_back = actions == Action.ROLLBACK
    else:
        episode, begin, last = np.arange(len(episodes)), starts, ends - 1
        stop = end_of_rollouts(actions, episodes)
        rolled_back = actions[stop] == Action.ROLLBACK
    labels = episodes.labels[episode]
    known, bad = labels != UNKNOWN, labels == BAD
    censored = known & ~rolled_back & episodes.rolled_back[episode] & (stop == last)
    stop, held = _held(answers, begin, stop, rolled_back)
    table = rewards.table()[bad.astype(int)]
    reward = np.where(held, rewards.held, table[np.arange(len(stop)), rolled_back.astype(int)])
    paid = reward - _waiting_costs(episodes, rewards, begin, stop) * bad
    watched, rose = _share_rises(episodes, answers, begin, stop)
    at_once = (
        rewards.held
        if answers is None
        else np.where(
            rewards.of_rollback(answers.risk[watched]) > rewards.held, table[:, 1], rewards.held
        )
    )
    at_once = at_once - _waiting_costs(episodes, rewards, begin, watched) * bad
    minutes = episodes.column("timestamp")[episodes.canary_rows] / 60.0
    kept = known & ~censored
    paused, ended = _pauses(answers, begin, stop)

    def column(values: np.ndarray) -> np.ndarray:
        return values[kept]

    delay = np.where(rolled_back, stop - begin, np.nan)
    return Scores(
        episode=column(episode),
        end=column(stop),
        bad=column(bad),
        rolled_back=column(rolled_back),
        held=column(held),
        delay_steps=column(delay),
        delay_minutes=column(np.where(rolled_back, minutes[stop] - minutes[begin], np.nan)),
        reward=column(reward),
        reward_with_delay=column(paid),
        share_rose=column(rose),
        withheld=column(np.where(rose, at_once, paid)),
        paused=column(paused),
        fell_back=column(ended),
        n_censored=int(censored.sum()),
        n_unlabelled=int((~known).sum()),
    )


def end_of_rollouts(actions: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Returns where each rollout ends: at its first ROLLBACK, else at its last decision.

    Args:
        actions: Action at every decision, int of shape (n_decisions,).
        episodes: The episodes.

    Returns:
        Number of a decision, int64 of shape (n_episodes,).
    """
    starts, ends = episodes.canary_offsets[:-1], episodes.canary_offsets[1:]
    rollbacks = np.where(actions == Action.ROLLBACK, np.arange(len(actions)), len(actions))
    return np.minimum(np.minimum.reduceat(rollbacks, starts), ends - 1)


def _held(
    answers: Answers | None, begin: np.ndarray, stop: np.ndarray, rolled_back: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where rollouts end, those that are held earlier among them, and which are held."""
    if answers is None:
        return stop, np.zeros(len(stop), dtype=bool)
    at = np.arange(len(answers.decision))
    decided = np.maximum.accumulate(np.where(answers.decision == PAUSED, -1, at))
    after = np.maximum(begin, decided[stop] + 1)
    held_from = np.minimum.accumulate(np.where(answers.held, at, len(at))[::-1])[::-1]
    first = np.append(held_from, len(at))[after]
    held = ~rolled_back & (first <= stop)
    return np.where(held, first, stop), held


def _share_rises(
    episodes: Episodes, answers: Answers | None, begin: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns after which watch the recording raised the share first, and whether one did.

    A watch is a PAUSE above break-even; where none is followed by a higher share, `stop` stands.
    """
    if answers is None:
        return stop, np.zeros(len(stop), dtype=bool)
    share = episodes.column("canary_share")[episodes.canary_rows]
    watching = (answers.decision == PAUSED) & ((answers.reasons & Reason.WATCHING.value) > 0)
    rises = watching & (np.append(share[1:], np.nan) > share)
    at = np.where(rises, np.arange(len(rises)), len(rises))
    first = np.minimum.accumulate(at[::-1])[::-1][begin]
    # The observation after the last of a rollout is another rollout's.
    rose = first < stop
    return np.where(rose, first, stop), rose


def _pauses(
    answers: Answers | None, begin: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether a pause came from `begin` to `stop`, and whether its fallback was the end."""
    if answers is None:
        return np.zeros(len(stop), dtype=bool), np.zeros(len(stop), dtype=bool)
    held = (answers.decision == PAUSED) | answers.fell_back
    before = np.concatenate([[0], np.cumsum(held)])
    return before[stop + 1] > before[begin], answers.fell_back[stop]


def _waiting_costs(
    episodes: Episodes, rewards: Rewards, begin: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """Returns the cost on a bad release of every CONTINUE from `begin` until before `stop`."""
    costs = step_costs(rewards, episodes.column("canary_share")[episodes.canary_rows])
    paid = np.concatenate([[0.0], np.cumsum(costs)])
    return paid[stop] - paid[begin]
