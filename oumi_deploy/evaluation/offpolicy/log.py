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

"""What a log says of a target policy: who decided what, with which probability, for what reward.

A decision is one canary row. What is logged there is CONTINUE (or PAUSE, which goes on as well),
but for the last row of a rolled-back release, which is ROLLBACK. Metrics do not depend on the
decisions; a CONTINUE only reveals the next observation.

A target policy that holds a release for a person goes on looking, and may still decide. So what
waiting costs meanwhile is charged once it does; a release that is held at its end is paid as held.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.policy.answers import PAUSED, Answers
from oumi_deploy.problem.rewards import Action, Rewards, step_costs

Floats = NDArray[np.floating]

METRICS = ("mean_reward", "mean_reward_with_delay")
"""What is estimated: the last axis of rewards and values throughout."""


@dataclass(frozen=True, eq=False)
class DecisionLog:
    """A log beside a deterministic target policy; n releases, n_decisions canary rows.

    Attributes:
        ids: Names of the releases, object of shape (n,).
        groups: Codes from 0 of what must not be separated, int64 of shape (n,).
        offsets: First decision of each release, int64 of shape (n + 1,).
        propensity: Probability of the logged action, above 0 and at most 1, (n_decisions,).
        went_on: Whether the logged action was not ROLLBACK, bool of shape (n_decisions,).
        target_stops: Whether the target policy says ROLLBACK, bool of shape (n_decisions,).
        completed: Whether the release went on to its end, bool of shape (n,).
        labelled: Whether its label is known, bool of shape (n,).
        rewards: What each logged decision paid, shape (n_decisions, 2), by METRICS; 0 where the
            label is unknown. Where the target policy holds a release, what that pays.
        rollback_rewards: What a ROLLBACK would pay, shape (n,); 0 where the label is unknown.
        returns: What the target policy earns where replaying it on the log shows it, shape (n, 2):
            the label is known, and the release was completed or the target stops before the log
            does. 0 on others.
        label_weights: 1 for a rolled-back release. A completed one that is labelled also stands
            for those that are not: completed / completed and labelled; the others have 0. (n,).
    """

    ids: NDArray[np.object_]
    groups: NDArray[np.int64]
    offsets: NDArray[np.int64]
    propensity: Floats
    went_on: NDArray[np.bool_]
    target_stops: NDArray[np.bool_]
    completed: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    rewards: Floats
    rollback_rewards: Floats
    returns: Floats
    label_weights: Floats

    def __len__(self) -> int:
        """Returns the number of releases."""
        return len(self.ids)

    @property
    def release(self) -> NDArray[np.int64]:
        """Number of the release of each decision, shape (n_decisions,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def is_last(self) -> NDArray[np.bool_]:
        """Whether a decision is its release's last, shape (n_decisions,)."""
        last = np.zeros(len(self.propensity), dtype=bool)
        last[self.offsets[1:] - 1] = True
        return last


def read_log(
    episodes: Episodes, actions: np.ndarray, rewards: Rewards, answers: Answers | None = None
) -> DecisionLog:
    """Lays the target policy's actions beside what was logged.

    Args:
        episodes: The log, with a column `propensity`. In a row that went on, it must be the
            probability of going on: of CONTINUE and PAUSE together, where the log knows both.
        actions: The target policy's action at each decision, int of shape (n_decisions,); all
            but ROLLBACK go on.
        rewards: What decisions pay.
        answers: The answers behind the actions, for what is held; without, nothing is.

    Raises:
        DeployError: If a propensity is missing.
    """
    actions = np.asarray(actions)
    n_decisions = int(episodes.canary_offsets[-1])
    if actions.shape != (n_decisions,):
        raise DeployError(f"actions: expected one for each of the {n_decisions} decisions")
    propensity = _propensity(episodes)
    offsets, last = episodes.canary_offsets, episodes.canary_offsets[1:] - 1
    went_on = np.ones(n_decisions, dtype=bool)
    went_on[last] = ~episodes.rolled_back
    labelled = episodes.labels != UNKNOWN
    bad = episodes.labels == BAD
    pays = rewards.table()[bad.astype(int)] * labelled[:, None]
    share = episodes.column("canary_share")[episodes.canary_rows]
    costs = step_costs(rewards, share) * np.repeat(bad, episodes.canary_lengths)
    costs[last] = 0.0
    ends = pays[np.arange(len(episodes)), episodes.rolled_back.astype(int)]
    if answers is not None:
        costs, is_held = _with_holds(episodes, costs, answers)
        ends = np.where(is_held[last] & ~episodes.rolled_back, rewards.held * labelled, ends)
    logged = np.stack([np.zeros(n_decisions), -costs], axis=1)
    logged[last] += ends[:, None]
    return DecisionLog(
        ids=episodes.ids,
        groups=episodes.group_codes(),
        offsets=offsets,
        propensity=propensity,
        went_on=went_on,
        target_stops=actions == Action.ROLLBACK,
        completed=~episodes.rolled_back,
        labelled=labelled,
        rewards=logged,
        rollback_rewards=pays[:, Action.ROLLBACK],
        returns=_replayed_returns(episodes, actions, rewards, answers),
        label_weights=_label_weights(~episodes.rolled_back, labelled),
    )


def steps_of(offsets: NDArray[np.int64]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the releases that have a t-th decision and its row, for t = 0, 1, and so on."""
    lengths = np.diff(offsets)
    for t in range(int(lengths.max(initial=0))):
        going = np.flatnonzero(lengths > t)
        yield going, offsets[going] + t


def _propensity(episodes: Episodes) -> Floats:
    propensity = episodes.column("propensity")[episodes.canary_rows]
    missing = np.flatnonzero(np.isnan(propensity))
    if len(missing) == len(propensity):
        raise DeployError(
            "propensity: the log does not say with which probability each action was chosen; "
            "have your rollout tool write it in every canary row"
        )
    if len(missing):
        name = episodes.ids[np.searchsorted(episodes.canary_offsets, missing[0], "right") - 1]
        raise DeployError(
            f"propensity: missing in {len(missing)} canary rows, first in release {name}; fill "
            "it in, or leave out all releases of the time when it was not written"
        )
    return propensity


def _with_holds(
    episodes: Episodes, costs: Floats, answers: Answers
) -> tuple[Floats, NDArray[np.bool_]]:
    """Returns what waiting costs, charged late where a release was held, and where it is held."""
    at = np.arange(len(costs))
    begin = np.repeat(episodes.canary_offsets[:-1], episodes.canary_lengths)
    paused = answers.decision == PAUSED
    since = np.maximum(begin, np.maximum.accumulate(np.where(paused, -1, at)) + 1)
    n_held = np.concatenate([[0], np.cumsum(answers.held)])
    is_held = paused & (n_held[at + 1] > n_held[np.minimum(since, at)])
    open_costs = np.concatenate([[0.0], np.cumsum(costs * is_held)])
    decides = np.flatnonzero(~is_held[1:] & is_held[:-1] & (begin[1:] == begin[:-1])) + 1
    charged = costs * ~is_held
    charged[decides] += open_costs[decides] - open_costs[since[decides - 1]]
    return charged, is_held


def _replayed_returns(
    episodes: Episodes, actions: np.ndarray, rewards: Rewards, answers: Answers | None
) -> Floats:
    returns = np.zeros((len(episodes), len(METRICS)))
    scores = score(episodes, actions, rewards, answers=answers)
    returns[scores.episode] = np.stack([scores.reward, scores.reward_with_delay], axis=1)
    return returns


def _label_weights(completed: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> Floats:
    share = labelled[completed].mean() if (completed & labelled).any() else 1.0
    return np.where(completed, labelled / share, 1.0)
