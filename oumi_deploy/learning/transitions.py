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

"""Logged episodes as transitions: what each action at each decision is known to lead to."""

from dataclasses import dataclass, replace

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, UNKNOWN
from oumi_deploy.problem.rewards import Action, Rewards, step_costs


@dataclass(frozen=True, eq=False)
class Transitions:
    """Both actions' outcomes at every decision, n = number of canary observations.

    The backup of a decision i is

        Q(i, CONTINUE) <- continue_reward[i] + continue_discount[i] * max_a Q(next_decision[i], a)
        Q(i, ROLLBACK) <- rollback_reward[i]

    Attributes:
        continue_reward: Discounted reward until `next_decision`, float64 of shape (n,).
        continue_discount: Discount of what follows, 0 where CONTINUE ends it, shape (n,).
        next_decision: Decision that follows; i itself where none does, int64 of shape (n,).
        learn_continue: Whether the outcome of CONTINUE is known, bool of shape (n,).
        rollback_reward: Reward of ROLLBACK, float64 of shape (n,).
        learn_rollback: Whether it is known, bool of shape (n,).
        logged_action: The action of the log, int64 of shape (n,); CONTINUE where unknown or held.
    """

    continue_reward: np.ndarray
    continue_discount: np.ndarray
    next_decision: np.ndarray
    learn_continue: np.ndarray
    rollback_reward: np.ndarray
    learn_rollback: np.ndarray
    logged_action: np.ndarray

    def __len__(self) -> int:
        """Returns the number of decisions."""
        return len(self.continue_reward)


def make_transitions(
    episodes: Episodes, rewards: Rewards, form: str, discount: float = 1.0, n_steps: int = 1
) -> Transitions:
    """Derives the transitions of a set of episodes.

    Where the label is known, so are both actions' outcomes. CONTINUE at the last observation of
    a logged ROLLBACK is censored. Without a label only a CONTINUE that another observation
    follows teaches, at the step cost times the share of bad among the labelled episodes.

    Args:
        episodes: The episodes.
        rewards: What decisions pay.
        form: `single` or `sequential`.
        discount: Factor on what follows, 0..1.
        n_steps: CONTINUEs in a row before the backup looks at the Q-values again, 1 or more.
    """
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    labels, censored = episodes.labels[of], episodes.rolled_back[of]
    known = labels != UNKNOWN
    decisions = np.arange(len(of))
    last = np.zeros(len(of), dtype=bool)
    last[episodes.canary_offsets[1:] - 1] = True
    ends = last | (form == "single")
    pays = rewards.table()[np.maximum(labels, 0)]
    costs = step_costs(rewards, episodes.column("canary_share")[episodes.canary_rows])
    one_step = Transitions(
        continue_reward=np.where(ends, pays[:, Action.CONTINUE], -costs * p_bad(episodes)[of]),
        continue_discount=np.where(ends, 0.0, discount),
        next_decision=np.where(ends, decisions, decisions + 1),
        learn_continue=(known | ~ends) & ~(last & censored),
        rollback_reward=pays[:, Action.ROLLBACK],
        learn_rollback=known,
        logged_action=np.where(last & censored, Action.ROLLBACK, Action.CONTINUE),
    )
    return _look_ahead(one_step, n_steps)


def p_bad(episodes: Episodes) -> np.ndarray:
    """Returns 1 for bad, 0 for good, and the labelled episodes' share of bad for unknown."""
    labelled = episodes.labels[episodes.labels != UNKNOWN]
    share = float((labelled == BAD).mean()) if len(labelled) else 0.0
    return np.where(episodes.labels == UNKNOWN, share, episodes.labels == BAD)


def _look_ahead(one_step: Transitions, n_steps: int) -> Transitions:
    """Lengthens CONTINUE to n steps, stopping where the outcome of the next one is unknown."""
    result = one_step
    for _ in range(n_steps - 1):
        following = result.next_decision
        goes_on = (result.continue_discount > 0) & one_step.learn_continue[following]
        if not goes_on.any():
            break
        factor = np.where(goes_on, result.continue_discount, 0.0)
        result = replace(
            result,
            continue_reward=result.continue_reward + factor * one_step.continue_reward[following],
            continue_discount=np.where(
                goes_on,
                factor * one_step.continue_discount[following],
                result.continue_discount,
            ),
            next_decision=np.where(goes_on, one_step.next_decision[following], following),
        )
    return result
