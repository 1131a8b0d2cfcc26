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

"""How much of what new releases turned out to be is known, and what those that are known stand for.

A release that was rolled back has a label only where a person reviewed it. To count the others
alone would be to forget what the champion catches.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN


def review_shares(new: Episodes) -> dict[str, dict[str, Any]]:
    """Returns how many of the new releases are labelled, rolled back and not; empty if none is."""
    labelled = new.labels != UNKNOWN
    if not labelled.any():
        return {}
    kinds = {"rolled_back": new.rolled_back, "completed": ~new.rolled_back}
    return {
        name: {
            "n_releases": int(which.sum()),
            "n_labelled": int((which & labelled).sum()),
            "share": float(labelled[which].mean()),
        }
        for name, which in kinds.items()
        if which.any()
    }


def review_weights(new: Episodes) -> np.ndarray:
    """Returns the releases that each labelled one stands for, 0 for one that is not labelled.

    Those that were rolled back and labelled stand for all that were; likewise the others. Shape
    (n_episodes,).
    """
    labelled = new.labels != UNKNOWN
    weights = np.zeros(len(new))
    for which in (new.rolled_back, ~new.rolled_back):
        chosen = which & labelled
        weights[chosen] = which.sum() / max(chosen.sum(), 1)
    return weights


def are_enough(shares: Mapping[str, Mapping[str, Any]], least: float) -> bool:
    """Returns whether shares as of `review_shares` reach the least, for each kind there is."""
    return bool(shares) and all(part["share"] >= least for part in shares.values())


def standing_for_all(new: Episodes) -> Episodes:
    """Returns the labelled releases, each as often as the number that it stands for, rounded."""
    times = np.rint(review_weights(new)).astype(np.int64)
    return new.select(np.repeat(np.arange(len(new)), times))


def waiting_for_review(new: Episodes) -> list[str]:
    """Returns the rolled-back releases held out that nobody has reviewed, by episode id."""
    return sorted(map(str, new.ids[new.rolled_back & (new.labels == UNKNOWN)]))
