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

"""One night of learning."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.calibrate import calibrate
from oumi_deploy.evaluation.vet.vet import kept_vet, vetted
from oumi_deploy.loop.about import about_policy, about_releases
from oumi_deploy.loop.dry_run import left_alone
from oumi_deploy.loop.folder import POLICY, LoopFolder
from oumi_deploy.loop.judging import HeldOut, Verdict, judge, with_vets
from oumi_deploy.loop.releases import Releases, gather
from oumi_deploy.loop.settings import SETTINGS_FILE, LoopSettings, read_settings
from oumi_deploy.loop.training import train_challenger
from oumi_deploy.loop.unseen import not_listed, taught, trained_on, unseen
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.serving.log.export import NothingToExport

_DAY = 86_400.0


def learn(
    folder: LoopFolder, log_url: str, *, since: float | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Trains a challenger on the new releases, judges it, and promotes it if it is better.

    Args:
        folder: The loop.
        log_url: URL of the decision log.
        since: Unix seconds from which on releases are new; by default `window_days` ago.
        dry_run: Whether to do all of it in a temporary folder, and leave the loop and the log as
            they are.

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
                with night.timed("export"), left_alone(log_url) if dry_run else nullcontext():
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
                guardrails=self.champion.guardrails,
                seed=self.settings.seed,
            )
        with self.timed("vet"):
            challenger, _ = vetted(challenger)
        challenger.save(self.draft / POLICY)
        return challenger

    def verdict(self, challenger: DeploymentPolicy, releases: Releases) -> Verdict:
        """Judges champion and challenger on what taught neither of them."""
        known = taught(self.champion, f"version {self.parent}")
        known |= taught(challenger, "the challenger")
        for number in self.folder.lineage():
            # Training went on from there; its calibration left no trace.
            ancestor = DeploymentPolicy.load(self.folder.version(number) / POLICY)
            known |= trained_on(ancestor, f"version {number}")
        held_out = HeldOut(
            unseen(releases.trusted, known),
            unseen(releases.judge, known),
            releases.incidents,
            not_listed(known),
        )
        with self.timed("judge"):
            verdict = judge(self.champion, challenger, held_out, self.settings)
        vets = {"champion": kept_vet(self.champion), "challenger": kept_vet(challenger)}
        verdict = with_vets(verdict, vets)
        return _held(verdict) if verdict.promotes and self.folder.is_held else verdict

    def about(
        self, challenger: DeploymentPolicy, releases: Releases, verdict: Verdict
    ) -> dict[str, Any]:
        """Returns all that is to be known of the challenger."""
        return {
            **about_policy(self.draft / POLICY, challenger, self.parent, self.settings),
            "outcome": "promoted" if verdict.promotes else "kept",
            "reason": verdict.reason,
            **about_releases(releases),
            "figures": verdict.figures,
            "log_alone": verdict.log_alone,
            "vets": verdict.vets,
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
        told = {} if releases is None else about_releases(releases)
        basis = {"outcome": "skipped", "reason": reason, "dry_run": dry_run}
        return {**basis, "champion": self.parent, **told}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Notes how long a step takes."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - started, 1)


def _held(verdict: Verdict) -> Verdict:
    held = "somebody went back, and nothing is promoted until --resume"
    return replace(verdict, promotes=False, reason=f"{held}; it would be: {verdict.reason}")


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
