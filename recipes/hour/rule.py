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

"""What a threshold on the error rate would have done with the same releases."""

from collections.abc import Sequence
from math import nan

from releases import Release, column_of

THRESHOLD = 0.05
RUNNING = 2
"""The rule rolls back where the error rate was above the threshold this many times running."""


def rolls_back_after(release: Release, seen: Sequence[float]) -> int | None:
    """Returns the minute of the canary after which the rule rolls back, None if it never does.

    It sees what the policy saw, and where the policy had ended the release before the plan was
    through, what the simulation holds for the minutes that did not come about any more.

    Args:
        release: The release.
        seen: Error rate of the new version in each minute as it was collected, NaN where missing.
    """
    followed = [_error_rate(release, minute) for minute in range(len(seen), release.planned)]
    running = 0
    for minute, rate in enumerate([*seen[: release.planned], *followed], start=1):
        running = running + 1 if rate > THRESHOLD else 0
        if running == RUNNING:
            return minute
    return None


def _error_rate(release: Release, minute: int) -> float:
    column = column_of(minute)
    is_missing = release.silent[column] or release.lost[column]
    return nan if is_missing else float(release.new.errors[column])
