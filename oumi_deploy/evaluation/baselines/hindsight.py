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

"""References that no rule asked during the rollout can match in kind.

A model that sees the whole canary phase decides once, at its end: it shows what can be told in
hindsight, and never saves a user from a bad release. The best achievable value is optimal stopping
over a risk that is fitted to other groups, see `evaluation/reference.py`.
"""

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, UNKNOWN
from oumi_deploy.evaluation.baselines.fitting import Context, Rule, some_episodes
from oumi_deploy.evaluation.baselines.models import (
    MOST_EPISODES,
    Examples,
    MakeModel,
    encode,
    fit_risk,
    require_state,
)
from oumi_deploy.evaluation.reference import best_achievable_value
from oumi_deploy.problem.encoder import encode_episodes
from oumi_deploy.problem.rewards import step_costs
from oumi_deploy.problem.state import parse_state

FEWEST_EPISODES, FEWEST_GROUPS = 300, 100
"""From which on the best achievable value is fitted well enough to be called that."""


def fit_hindsight(make_model: MakeModel, episodes: Episodes, context: Context) -> Rule:
    """Fits a model of the last observation's state, which rolls back there where that pays."""
    episodes = some_episodes(episodes, MOST_EPISODES, context.seed)
    encoder = require_state(episodes, context)
    inputs = encode(encoder, episodes)[_ends(episodes)]
    examples = Examples(inputs, episodes.labels == BAD, np.ones(len(episodes)))
    risk = fit_risk(make_model, examples, context.seed)

    def rule(others: Episodes) -> np.ndarray:
        ends, actions = _ends(others), np.zeros(int(others.canary_offsets[-1]), dtype=int)
        actions[ends] = risk(encode(encoder, others)[ends]) > context.rewards.break_even()
        return actions

    return rule


def best_achievable(episodes: Episodes, context: Context) -> np.ndarray | str:
    """Returns the actions of optimal stopping over a cross-fitted risk, or why there are none.

    It makes folds of its own from the groups of all episodes.
    """
    if len(episodes) < FEWEST_EPISODES or len(np.unique(episodes.group_codes())) < FEWEST_GROUPS:
        return (
            f"the best achievable value is left out: it needs {FEWEST_EPISODES} releases in "
            f"{FEWEST_GROUPS} groups or more"
        )
    if (episodes.labels == UNKNOWN).any() or len(np.unique(episodes.labels)) < 2:
        return "the best achievable value is left out: it needs good and bad releases only"
    share = episodes.column("canary_share")[episodes.canary_rows]
    value = best_achievable_value(
        encode_episodes(parse_state(context.state), episodes),
        episodes.canary_offsets,
        episodes.labels.astype(np.int64),
        episodes.group_codes(),
        step_costs(context.rewards, share),
        context.rewards.table(),
        context.seed,
    )
    return value.roll_back.astype(int)


def _ends(episodes: Episodes) -> np.ndarray:
    """Returns the last decision of each episode."""
    return episodes.canary_offsets[1:] - 1
