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

"""The releases of one night: new ones from the log by their side, and the fixed files."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes, concatenate, read_episodes
from oumi_deploy.episodes.schema import BAD, GOOD, UNKNOWN
from oumi_deploy.episodes.table import read_frame, write_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.seen_groups import names_of_groups
from oumi_deploy.loop.reviews import (
    are_enough,
    is_told_by_incident,
    review_shares,
    standing_for_all,
)
from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.loop.split import SIDES, Side, group_of, side_of
from oumi_deploy.serving.log.episodes import LoggedRollout, episode_id
from oumi_deploy.serving.log.export import Exported, export_episodes

_NEW = "new.parquet"
_TRAIN = "train.parquet"

_WENT_ON = "some that went on"
_ROLLED_BACK = "some that were rolled back"
_REVIEW = "(recipes/loop/README.md, section 3)"


@dataclass(frozen=True, eq=False)
class Releases:
    """The releases of a night.

    Attributes:
        exported: What the export came to.
        train_file: Episode file of the labelled releases to train on.
        train: The same.
        calibrate: Labelled releases to calibrate on, the fixed file's and, where enough of them are
            reviewed, new ones.
        judge: New releases held out, labelled or not.
        trusted: Releases of the trusted file, labelled or not.
        incidents: Ids of the new releases that incidents told of.
    """

    exported: Exported
    train_file: Path
    train: Episodes
    calibrate: Episodes
    judge: Episodes
    trusted: Episodes
    incidents: frozenset[str]

    def lacking(self) -> str | None:
        """Returns what is missing for a challenger, None if nothing is."""
        n_good, n_bad = _kinds(self.train)
        if not n_good or not n_bad:
            lacking = [_WENT_ON] * (not n_good) + [_ROLLED_BACK] * (not n_bad)
            return (
                f"{n_good} good and {n_bad} bad releases of {self.train.n_groups} groups to train "
                f"on: both kinds must be there: have {' and '.join(lacking)} reviewed {_REVIEW}"
            )
        n_good, n_bad = _kinds(self.calibrate)
        if not n_good or not n_bad or self.calibrate.n_groups < 2:
            return (
                f"{n_good} good and {n_bad} bad releases of {self.calibrate.n_groups} groups to "
                "calibrate on: both kinds must be there, of two groups or more: name "
                f"calibration_episodes, or have more of both reviewed, {_WENT_ON} and "
                f"{_ROLLED_BACK} {_REVIEW}"
            )
        return None

    def described(self) -> dict[str, Any]:
        """Returns fingerprints and counts, JSON-able."""
        sets = {side: getattr(self, side) for side in ("train", "calibrate", "judge", "trusted")}
        return {name: _described(episodes) for name, episodes in sets.items()}


def gather(settings: LoopSettings, log_url: str, since: float, work: Path) -> Releases:
    """Exports the new releases and deals them out.

    Args:
        settings: What the loop was told.
        log_url: URL of the decision log.
        since: Unix seconds of the first decision of the oldest release that is new.
        work: Folder to write to.

    Raises:
        NothingToExport: If there is no new release.
        DeployError: If the log or a file cannot be read, or the fixed files share a group.
    """
    incidents: set[str] = set()

    def group(rollout: LoggedRollout) -> str:
        # Here the export shows each rollout; of who labelled it the file says nothing.
        if is_told_by_incident(rollout, settings):
            incidents.add(episode_id(rollout.name))
        return group_of(rollout, settings)

    exported = export_episodes(
        log_url, work / _NEW, since=since, group=group, sources=settings.trusted_sources
    )
    # Whole, as its fingerprint is of the whole.
    trusted = read_episodes(settings.trusted_episodes)
    if not len(_labelled(trusted)):
        raise DeployError(f"{settings.trusted_episodes}: no episode is labelled")
    fixed = _calibrated_on(settings, trusted)
    new = read_episodes(work / _NEW)
    # What stands in a fixed file has its side already, whatever the hash of its group says.
    known = [*names_of_groups(trusted), *names_of_groups(fixed)]
    new = new.select(~np.isin(new.groups.astype(str), known) & ~np.isin(new.ids.astype(str), known))
    sides = np.array([side_of(str(group), settings) for group in new.groups], dtype=object)
    dealt: dict[Side, Episodes] = {side: new.select(sides == side) for side in SIDES}
    train = _labelled(dealt["train"])
    if len(train):
        frame = read_frame(work / _NEW)
        chosen = frame.loc[frame["episode_id"].isin(train.ids.tolist())]
        write_frame(chosen.reset_index(drop=True), work / _TRAIN)
    return Releases(
        exported,
        work / _TRAIN,
        train,
        _to_calibrate_on(dealt["calibrate"], incidents, settings, fixed),
        dealt["judge"],
        trusted,
        frozenset(incidents),
    )


def _to_calibrate_on(
    new: Episodes, incidents: Collection[str], settings: LoopSettings, fixed: Episodes
) -> Episodes:
    """Returns the fixed releases, and the new ones where enough of them are reviewed.

    Without what was rolled back, new releases look better than they are, and so would the risk.
    """
    enough = are_enough(review_shares(new, incidents), settings.least_reviewed)
    counting = new if enough else new.select(np.zeros(len(new), dtype=bool))
    new = standing_for_all(counting, incidents)
    return concatenate([fixed, new]) if len(fixed) else new


def _calibrated_on(settings: LoopSettings, trusted: Episodes) -> Episodes:
    """Returns the labelled releases of the fixed file to calibrate on, none without such a file."""
    if settings.calibration_episodes is None:
        return trusted.select(np.zeros(len(trusted), dtype=bool))
    fixed = _labelled(read_episodes(settings.calibration_episodes))
    shared = names_of_groups(fixed) & names_of_groups(trusted)
    if shared:
        raise DeployError(
            f"calibration_episodes: {settings.calibration_episodes} and trusted_episodes share "
            f"{len(shared)} groups or ids, {min(shared)} among them: what judges may not calibrate"
        )
    return fixed


def _kinds(episodes: Episodes) -> tuple[int, int]:
    """Returns how many are good, and how many bad."""
    return int((episodes.labels == GOOD).sum()), int((episodes.labels == BAD).sum())


def _labelled(episodes: Episodes) -> Episodes:
    return episodes.select(episodes.labels != UNKNOWN)


def _described(episodes: Episodes) -> dict[str, Any]:
    n_good, n_bad = _kinds(episodes)
    return {
        "fingerprint": episodes.fingerprint(),
        "n_releases": len(episodes),
        "n_groups": episodes.n_groups,
        "n_good": n_good,
        "n_bad": n_bad,
    }
