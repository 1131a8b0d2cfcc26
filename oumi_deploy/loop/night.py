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

"""One night of learning, the beginning, and the way back."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.calibrate import calibrate
from oumi_deploy.loop.folder import POLICY, PRETRAINED, LoopFolder
from oumi_deploy.loop.judging import Verdict, judge
from oumi_deploy.loop.releases import Releases, gather, unseen
from oumi_deploy.loop.reviews import waiting_for_review
from oumi_deploy.loop.settings import SETTINGS_FILE, LoopSettings, read_settings
from oumi_deploy.loop.training import train_challenger
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.serving.log.export import NothingToExport
from oumi_deploy.serving.policies import read_versioned

_DAY = 86_400.0


def learn(
    folder: LoopFolder, log_url: str, *, since: float | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Trains a challenger on the new releases, judges it, and promotes it if it is better.

    Args:
        folder: The loop.
        log_url: URL of the decision log.
        since: Unix seconds from which on releases are new; by default `window_days` ago.
        dry_run: Whether to do all of it in a temporary folder and leave the loop as it is.

    Returns:
        JSON-able: `outcome` (`promoted`, `kept` or `skipped`; of a dry run what would be),
        `reason`, `champion` and `version`, and what they rest on.

    Raises:
        DeployError: If something cannot be read, or training fails. The champion stays.
    """
    settings = read_settings(folder.path)
    with folder.locked():
        _require_same_split(folder, settings)
        if not dry_run:
            folder.settle()
        with folder.workplace(elsewhere=dry_run) as work:
            night = _Night(folder, settings, work)
            start = time.time() - settings.window_days * _DAY if since is None else since
            try:
                with night.timed("export"):
                    releases = gather(settings, log_url, start, work)
            except NothingToExport as error:
                return night.skip(str(error), dry_run)
            lacking = releases.lacking()
            if lacking is not None:
                return night.skip(lacking, dry_run, releases)
            challenger = night.challenger(releases)
            verdict = night.verdict(challenger, releases)
            about = night.about(challenger, releases, verdict)
            if not dry_run:
                night.take_effect(about, verdict)
            return {**about, "dry_run": dry_run, "champion": folder.champion}


class _Night:
    """What the steps of one night share."""

    def __init__(self, folder: LoopFolder, settings: LoopSettings, work: Path):
        self.folder, self.settings, self.work = folder, settings, work
        self.parent = folder.champion
        self.champion = DeploymentPolicy.load(folder.version(self.parent) / POLICY)
        self.draft = work / "version"
        self.seconds: dict[str, float] = {}

    def challenger(self, releases: Releases) -> DeploymentPolicy:
        """Trains and calibrates a challenger, and leaves it in the draft of a version."""
        self.draft.mkdir()
        with self.timed("train"):
            train_challenger(
                self.settings.training_config,
                self.folder.version(self.parent),
                releases.train_file,
                self.draft,
            )
        with self.timed("calibrate"):
            challenger = calibrate(
                DeploymentPolicy.load(self.draft / POLICY),
                releases.calibrate,
                pauses=self.settings.pauses,
                alpha=self.settings.alpha,
                seed=self.settings.seed,
            )
        challenger.save(self.draft / POLICY)
        return challenger

    def verdict(self, challenger: DeploymentPolicy, releases: Releases) -> Verdict:
        """Judges champion and challenger on what no version of theirs was trained on."""
        taught = [about["training_data"] for about in self.folder.lineage()]
        taught.append(challenger.training_data)
        with self.timed("judge"):
            return judge(
                self.champion,
                challenger,
                unseen(releases.trusted, taught),
                unseen(releases.judge, taught),
                self.settings,
            )

    def about(
        self, challenger: DeploymentPolicy, releases: Releases, verdict: Verdict
    ) -> dict[str, Any]:
        """Returns all that is to be known of the challenger."""
        return {
            **_described(self.draft / POLICY, challenger, self.parent, self.settings),
            "outcome": "promoted" if verdict.promotes else "kept",
            "reason": verdict.reason,
            **_exported(releases),
            "figures": verdict.figures,
            "log_alone": verdict.log_alone,
            "seconds": self.seconds,
        }

    def take_effect(self, about: dict[str, Any], verdict: Verdict) -> None:
        """Keeps the version, and makes it champion if it is better."""
        about["version"] = self.folder.keep(self.draft, about)
        if verdict.promotes:
            self.folder.promote(about["version"])
        self.folder.note(about["outcome"], verdict.reason, version=about["version"])

    def skip(self, reason: str, dry_run: bool, releases: Releases | None = None) -> dict[str, Any]:
        """Notes that there is nothing to learn from."""
        if not dry_run:
            self.folder.note("skipped", reason)
        told = {} if releases is None else _exported(releases)
        basis = {"outcome": "skipped", "reason": reason, "dry_run": dry_run}
        return {**basis, "champion": self.parent, **told}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Notes how long a step takes."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - started, 1)


def begin(folder: LoopFolder, policy_file: Path, pretrained: Path | None) -> dict[str, Any]:
    """Makes a policy the first champion.

    Args:
        folder: The loop, with its settings.
        policy_file: A calibrated policy.
        pretrained: Folder of its model, for training to go on from; None to train anew each time.

    Raises:
        DeployError: If there is a champion already, or something cannot be used.
    """
    settings = read_settings(folder.path)
    policy = read_versioned(policy_file).policy
    if pretrained is not None and not (pretrained / "config.json").is_file():
        raise DeployError(f"{pretrained}: not a saved model: it has no config.json")
    with folder.locked():
        if folder.is_begun:
            raise DeployError(f"{folder.path}: version {folder.champion} is champion already")
        with folder.workplace() as work:
            draft = work / "version"
            draft.mkdir()
            shutil.copyfile(policy_file, draft / POLICY)
            if pretrained is not None:
                shutil.copytree(pretrained, draft / PRETRAINED)
            reason = "the loop begins with it"
            about = {
                **_described(draft / POLICY, policy, None, settings),
                "outcome": "promoted",
                "reason": reason,
            }
            number = folder.keep(draft, about)
            folder.promote(number)
            folder.note("begun", reason, version=number)
    return {**about, "champion": number}


def go_back(folder: LoopFolder) -> dict[str, Any]:
    """Makes the version that the champion took the place of champion again.

    Raises:
        DeployError: If there is none.
    """
    with folder.locked():
        folder.settle()
        left = folder.champion
        parent = folder.about(left)["parent"]
        if parent is None:
            raise DeployError(f"{folder.path}: version {left} is the first: nothing to go back to")
        folder.promote(parent)
        reason = f"somebody went back from version {left}"
        folder.note("back", reason, version=left)
    return {"outcome": "back", "reason": reason, "champion": parent}


def _described(
    path: Path, policy: DeploymentPolicy, parent: int | None, settings: LoopSettings
) -> dict[str, Any]:
    return {
        "parent": parent,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy_version": read_versioned(path).version,
        "split": settings.split(),
        "training_config": hashlib.sha256(settings.training_config.read_bytes()).hexdigest(),
        "training_data": dict(policy.training_data),
    }


def _exported(releases: Releases) -> dict[str, Any]:
    exported = releases.exported
    return {
        "exported": {
            "n_releases": exported.n_rollouts,
            "n_labelled": exported.n_labelled,
            "n_untold": exported.n_untold,
            "labelled_by": dict(exported.labelled_by),
            "left_out": dict(exported.left_out),
        },
        "data": releases.described(),
        "waiting_for_review": waiting_for_review(releases.judge),
    }


def _require_same_split(folder: LoopFolder, settings: LoopSettings) -> None:
    """Raises DeployError if a group could be on another side than it was before."""
    before, now = folder.about(folder.champion)["split"], settings.split()
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise DeployError(
            f"{folder.path / SETTINGS_FILE}: {', '.join(changed)}: no longer what the champion "
            "was made with, so a group it was trained on could judge: set it back, or begin a new "
            "loop"
        )
