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

"""Champion and challenger on the same held-out releases, release by release.

Where one of them would have gone on after the log's ROLLBACK, the release is taken to stay as it
was last seen, see `persisting`: a policy that is a little slower on a bad release rolls it back a
little later, and one that is blind to the failure lets it through. One that is held for a person is
paid as held, and is neither rolled back nor let through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, UNKNOWN
from oumi_deploy.evaluation.evaluate import policy_answers
from oumi_deploy.evaluation.metrics import drawn_sets, make_metric
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.loop.persisting import persisting
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.rewards import Rewards

LEAST_GROUPS = 10
"""Groups below which resampling says little: no lower bound is given."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Both policies on n held-out releases, arrays of shape (n,).

    Attributes:
        groups: Codes from 0 of what may not be separated.
        weights: Releases that each stands for.
        bad: Whether it is bad.
        champion: What the champion earns, with delay.
        challenger: What the challenger earns.
        champion_stops: Whether the champion rolls it back.
        challenger_stops: Whether the challenger does.
        champion_holds: Whether the champion holds it for a person at its end.
        challenger_holds: Whether the challenger does.
    """

    groups: np.ndarray
    weights: np.ndarray
    bad: np.ndarray
    champion: np.ndarray
    challenger: np.ndarray
    champion_stops: np.ndarray
    challenger_stops: np.ndarray
    champion_holds: np.ndarray
    challenger_holds: np.ndarray


def pair(
    champion: DeploymentPolicy,
    challenger: DeploymentPolicy,
    episodes: Episodes,
    weights: np.ndarray,
) -> Paired:
    """Lets both decide on releases that neither was trained or calibrated on.

    Args:
        champion: The champion; its rewards are paid to both.
        challenger: The challenger.
        episodes: The releases.
        weights: Releases that each stands for, shape (n_episodes,).

    Returns:
        Both on the labelled ones.
    """
    labelled = episodes.labels != UNKNOWN
    shown = persisting(episodes.select(labelled))
    one, other = (_scores(policy, shown, champion.rewards) for policy in (champion, challenger))
    return Paired(
        shown.group_codes(),
        weights[labelled],
        shown.labels == BAD,
        one.reward_with_delay,
        other.reward_with_delay,
        one.rolled_back,
        other.rolled_back,
        one.held,
        other.held,
    )


def join(parts: Sequence[Paired]) -> Paired:
    """Joins releases of different sets, whose groups have nothing to do with each other."""
    apart, n_groups = [], 0
    for part in parts:
        apart.append(part.groups + n_groups)
        n_groups += int(part.groups.max(initial=-1)) + 1
    rest = [f.name for f in fields(Paired) if f.name != "groups"]
    return Paired(
        np.concatenate(apart),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in rest),
    )


def figures_of(paired: Paired, seed: int) -> dict[str, Any]:
    """Returns what the releases say of both, JSON-able.

    Returns:
        Counts; of both `reward` (mean, with delay), `recall` on the bad ones that they decide,
        the share of the bad ones that they `let_through` and of all that they `held`, None where
        undefined; and `gain`, the mean difference in reward: `value`, its 95 % interval `low` to
        `high`, and `lower_bound`, which the truth lies above 95 times in 100 (None below
        LEAST_GROUPS groups).
    """
    groups, weights = np.unique(paired.groups, return_inverse=True)[1], paired.weights
    n_groups = int(groups.max(initial=-1)) + 1

    def mean(values: np.ndarray, by: np.ndarray) -> float | None:
        return float(by @ values / by.sum()) if by.sum() > 0 else None

    def figures(name: str) -> dict[str, float | None]:
        stops, holds = getattr(paired, f"{name}_stops"), getattr(paired, f"{name}_holds")
        return {
            "reward": mean(getattr(paired, name), weights),
            "recall": mean(stops, weights * (paired.bad & ~holds)),
            "let_through": mean(~(stops | holds), weights * paired.bad),
            "held": mean(holds, weights),
        }

    return {
        "n_releases": len(weights),
        "n_groups": n_groups,
        "n_bad": int(paired.bad.sum()),
        **{name: figures(name) for name in ("champion", "challenger")},
        "gain": _gain(paired.challenger - paired.champion, weights, groups, n_groups, seed),
    }


def _gain(
    gain: np.ndarray, weights: np.ndarray, groups: np.ndarray, n_groups: int, seed: int
) -> dict[str, Any]:
    """Resamples groups; the mean of a drawn set is that of its weighted releases."""
    sums = np.stack([np.bincount(groups, weights * gain), np.bincount(groups, weights)], axis=1)
    drawn = [times @ sums for times in drawn_sets(n_groups, seed)()]
    above, below = np.concatenate(drawn).T if drawn else np.empty((2, 0))
    value = float(weights @ gain / weights.sum()) if len(gain) else float("nan")
    metric = dict(make_metric(value, above / below, "nothing is held out", n_groups))
    bound = float(np.quantile(above / below, 0.05)) if n_groups >= LEAST_GROUPS else None
    return {**metric, "lower_bound": bound}


def _scores(policy: DeploymentPolicy, episodes: Episodes, rewards: Rewards) -> Scores:
    """Returns what a policy comes to on labelled releases, none of them censored."""
    answers = policy_answers(policy, episodes)
    return score(episodes, answers.actions, rewards, answers=answers)
