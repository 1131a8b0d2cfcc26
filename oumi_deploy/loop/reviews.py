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

New releases are of two kinds, those that were rolled back and those that went on. Of a kind of n
releases let m have a label that came without regard to what they turned out to be, as that of a
review does whose releases are drawn at random. Each of these stands for n / m, so that the weighted
mean of anything is, over all that could have been drawn, its mean over all n.

An incident is no draw: it speaks up because the release is bad. What it tells of stands for itself
alone, and is neither among the n nor among the m, also where somebody reviewed it as well: who is
among the n may not depend on who was drawn.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.serving.log.episodes import LoggedRollout


def is_told_by_incident(rollout: LoggedRollout, settings: LoopSettings) -> bool:
    """Returns whether a listed source of incidents labels a rollout, or would without a review."""
    sources = set(settings.incident_sources) & set(settings.trusted_sources)
    labels = (o for o in rollout.outcomes if o.label is not None and o.source in sources)
    # One that was rolled back never showed what it would have become: only a review labels it.
    return not rollout.was_rolled_back and any(labels)


def review_shares(new: Episodes, incidents: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Returns how many new releases of each kind are labelled, without those of incidents.

    Args:
        new: New releases, labelled or not.
        incidents: Ids of those that incidents told of.
    """
    labelled = new.labels != UNKNOWN
    return {
        name: {
            "n_releases": int(which.sum()),
            "n_labelled": int((which & labelled).sum()),
            "share": float(labelled[which].mean()),
        }
        for name, which in _kinds(new, incidents).items()
        if which.any()
    }


def review_weights(new: Episodes, incidents: Collection[str] = ()) -> np.ndarray:
    """Returns the releases that each labelled one stands for, 0 for one that is not labelled.

    Args:
        new: New releases, labelled or not.
        incidents: Ids of those that incidents told of.

    Returns:
        Shape (n_episodes,).
    """
    labelled = new.labels != UNKNOWN
    weights = labelled.astype(float)
    for which in _kinds(new, incidents).values():
        drawn = which & labelled
        weights[drawn] = which.sum() / max(drawn.sum(), 1)
    return weights


def are_enough(shares: Mapping[str, Mapping[str, Any]], least: float) -> bool:
    """Returns whether shares as of `review_shares` reach the least, for each kind there is."""
    return all(part["share"] >= least for part in shares.values())


def standing_for_all(new: Episodes, incidents: Collection[str] = ()) -> Episodes:
    """Returns the labelled releases, each as often as the number that it stands for.

    Where this is no whole number, some of a kind are there once more often than others, so that
    together they are as many as they stand for.
    """
    labelled = new.labels != UNKNOWN
    times = labelled.astype(np.int64)
    for which in _kinds(new, incidents).values():
        drawn = np.flatnonzero(which & labelled)
        so_far = np.arange(len(drawn) + 1) * which.sum() // max(len(drawn), 1)
        times[drawn] = np.diff(so_far)
    return new.select(np.repeat(np.arange(len(new)), times))


def waiting_for_review(new: Episodes) -> dict[str, list[str]]:
    """Returns the ids of the new releases that nobody labelled, by kind, sorted."""
    return {
        name: sorted(map(str, new.ids[which & (new.labels == UNKNOWN)]))
        for name, which in _kinds(new, ()).items()
    }


def _kinds(new: Episodes, incidents: Collection[str]) -> dict[str, np.ndarray]:
    told = np.isin(new.ids.astype(str), list(incidents))
    return {"rolled_back": new.rolled_back & ~told, "completed": ~new.rolled_back & ~told}
