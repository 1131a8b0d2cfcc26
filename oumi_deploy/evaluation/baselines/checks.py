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

"""Counting failed checks, as Argo Rollouts and Flagger do.

Sources: Argo Rollouts, `failureLimit` and `consecutiveErrorLimit` of a metric in an
`AnalysisTemplate` (docs/features/analysis.md); Flagger, `threshold` of `spec.analysis` and
`runMetricChecks` (pkg/controller/scheduler_metrics.go). The check is that the error rate is not
above a limit; limit and count are picked on the training releases.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.baselines.evidence import running_sum
from oumi_deploy.evaluation.baselines.fitting import Context, Rule, best_setting
from oumi_deploy.evaluation.baselines.rules import error_rates
from oumi_deploy.policy.pauses import running_length

LIMITS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Error rates tried as the limit of a check."""

COUNTS = (1, 2, 3, 4, 5, 7, 10)
"""Numbers tried of failed checks that roll back."""

ERRORS_IN_A_ROW = 5
"""Argo Rollouts aborts at more than `consecutiveErrorLimit` (4) measurements without a value."""


def argo_check(episodes: Episodes, limit: float, failure_limit: int) -> np.ndarray:
    """Rolls back once more than `failureLimit` checks have failed in total.

    A missing error rate is a measurement in error, neither failed nor successful: the fifth in a
    row aborts the rollout. Argo would repeat it after 10 s; here it is repeated with the next
    observation.

    Args:
        episodes: The episodes.
        limit: Error rate above which a check fails.
        failure_limit: Failed checks that are still tolerated.
    """
    errors = error_rates(episodes)
    in_error = running_length(np.isnan(errors), episodes.canary_offsets[:-1])
    failed = running_sum(errors > limit, episodes.canary_offsets[:-1])
    return ((failed > failure_limit) | (in_error >= ERRORS_IN_A_ROW)).astype(int)


def consecutive_check(episodes: Episodes, limit: float, failures: int) -> np.ndarray:
    """Rolls back once so many checks in a row have failed.

    A missing error rate is handled as by `argo_check`; it ends a row of failures.
    """
    errors = error_rates(episodes)
    starts = episodes.canary_offsets[:-1]
    failed = running_length(errors > limit, starts) >= failures
    in_error = running_length(np.isnan(errors), starts) >= ERRORS_IN_A_ROW
    return (failed | in_error).astype(int)


def flagger_check(episodes: Episodes, limit: float, threshold: int) -> np.ndarray:
    """Rolls back once `threshold` checks have failed in total.

    A missing error rate is a failed check ("no values found").
    """
    errors = error_rates(episodes)
    failed = running_sum(np.isnan(errors) | (errors > limit), episodes.canary_offsets[:-1])
    return (failed >= threshold).astype(int)


def fit_argo(episodes: Episodes, context: Context) -> Rule:
    """Picks the limit and `failureLimit` for mean reward with delay."""
    tried = ((s, argo_check(episodes, *s)) for s in _settings(first_count=0))
    setting = best_setting(episodes, tried, context.rewards)
    return lambda others: argo_check(others, *setting)


def fit_consecutive(episodes: Episodes, context: Context) -> Rule:
    """Picks the limit and the length of a row for mean reward with delay."""
    tried = ((s, consecutive_check(episodes, *s)) for s in _settings(first_count=1))
    setting = best_setting(episodes, tried, context.rewards)
    return lambda others: consecutive_check(others, *setting)


def fit_flagger(episodes: Episodes, context: Context) -> Rule:
    """Picks the limit and `threshold` for mean reward with delay."""
    tried = ((s, flagger_check(episodes, *s)) for s in _settings(first_count=1))
    setting = best_setting(episodes, tried, context.rewards)
    return lambda others: flagger_check(others, *setting)


def _settings(first_count: int) -> Iterator[tuple[float, int]]:
    return product(LIMITS, (first_count - 1 + count for count in COUNTS))
