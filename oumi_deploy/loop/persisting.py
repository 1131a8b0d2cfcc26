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

"""What would have followed a ROLLBACK, had the release stayed as it was last seen.

A log that ends in ROLLBACK does not show what came next, and whoever judges a policy that would
have gone on there must say what it meets. Left out, such releases would flatter a policy that has
forgotten a failure; taken for lost, they would condemn one that is slower by a minute.
"""

from dataclasses import replace

import numpy as np

from oumi_deploy.episodes.packed import Episodes

PATIENCE = 5
"""Observations for which a release stays as it was last seen; a policy that goes on through all of
them has let it through."""


def persisting(episodes: Episodes) -> Episodes:
    """Returns the episodes, none of them rolled back: the last row of one that was is repeated.

    It stands PATIENCE times more, and time goes on in steps of the episode's last interval. Where
    the plan has fewer observations left, fewer follow.
    """
    starts, ends = episodes.offsets[:-1], episodes.offsets[1:]
    left = episodes.column("planned_steps")[ends - 1] - episodes.canary_lengths
    left = np.where(np.isnan(left), PATIENCE, np.clip(left, 0, PATIENCE)).astype(np.int64)
    lengths = episodes.lengths + left * episodes.rolled_back
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    lasts = np.repeat(episodes.lengths - 1, lengths)
    rows = np.repeat(starts, lengths) + np.minimum(within, lasts)
    numbers = {name: values[rows] for name, values in episodes.numbers.items()}
    if "timestamp" in numbers:
        times = episodes.numbers["timestamp"]
        interval = times[ends - 1] - times[np.maximum(ends - 2, starts)]
        numbers["timestamp"] = numbers["timestamp"] + np.maximum(within - lasts, 0) * np.repeat(
            interval, lengths
        )
    went_on = np.zeros(len(episodes), dtype=bool)
    return replace(episodes, rolled_back=went_on, offsets=offsets, numbers=numbers)
