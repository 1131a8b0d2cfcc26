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

"""Few features for the models of off-policy evaluation: what the policy thinks, and the clock.

The policy's Q-values already sum up what its state says of the release, so a linear model on
them and on the time left is small enough for a log of a few hundred releases.
"""

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.offpolicy.log import Floats


def value_features(q_values: Floats, episodes: Episodes) -> Floats:
    """Returns features of every decision from the target policy's Q-values.

    Args:
        q_values: Q-values of CONTINUE and ROLLBACK, shape (n_decisions, 2).
        episodes: The log.

    Returns:
        Shape (n_decisions, 15): Q of ROLLBACK, its margin over CONTINUE, the margin above 0 and
        above its median, each alone and times the share of the plan left (0 where no plan is
        known); that share, its square, and the square times the margin; whether the plan is at
        its end, alone and times the margin; `canary_share` (1 where unknown); and the logarithm
        of the steps so far.
    """
    rows = episodes.canary_rows
    steps = episodes.canary_steps + 1.0
    left = 1 - steps / episodes.column("planned_steps")[rows]
    at_end = (left <= 0).astype(float)
    left = np.where(np.isnan(left), 0.0, np.maximum(left, 0.0))
    share = episodes.column("canary_share")[rows]
    margin = q_values[:, 1] - q_values[:, 0]
    bends = np.maximum(margin[:, None] - [0.0, np.median(margin)], 0.0)
    beliefs = np.column_stack([q_values[:, 1], margin, bends])
    clock = [left, left**2, left**2 * margin, at_end, at_end * margin]
    return np.column_stack(
        [
            beliefs,
            beliefs * left[:, None],
            *clock,
            np.where(np.isnan(share), 1.0, share),
            np.log(steps),
        ]
    )


def standardised(features: Floats) -> Floats:
    """Returns a column of ones and each column less its mean, over its standard deviation."""
    spread = features.std(axis=0)
    centred = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.concatenate([np.ones((len(features), 1)), centred], axis=1)
