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

"""What a learning loop is told: `loop.toml` in its folder.

    training_config = "finetune.yaml"
    trusted_episodes = "trusted.parquet"
    trusted_sources = ["review", "incident"]

    [pauses]
    range_margin = 0.5

Paths are relative to the folder.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.policy.calibration import check_alpha
from oumi_deploy.policy.pauses import PauseRules

SETTINGS_FILE = "loop.toml"

SOURCES = ("review", "pipeline", "incident", "other", "flagger", "cdevents", "github")
"""Whoever can tell the service of an outcome, by the names in its log."""

GROUP_PARTS = ("service", "environment", "version", "rollout", "day")

_PATHS = ("training_config", "trusted_episodes", "calibration_episodes")
_REQUIRED = ("training_config", "trusted_episodes", "trusted_sources")


@dataclass(frozen=True)
class LoopSettings:
    """What happens in a night of learning, and what a challenger must show."""

    training_config: Path
    """What `oumi train` is given. Its first training dataset becomes the new episodes; further
    ones stay, so that old failures are not forgotten."""

    trusted_episodes: Path
    """Fixed file of labelled episodes that every challenger is judged on. Nothing else may ever
    be trained or calibrated on their groups."""

    trusted_sources: tuple[str, ...]
    """Sources of SOURCES whose labels count. What others say neither teaches nor judges."""

    incident_sources: tuple[str, ...] = ("incident", "cdevents")
    """Which of the trusted sources speak up for what a release turned out to be, as incidents do.
    What they label stands for itself alone; of the rest, what the others label, `review` among
    them, stands for what nobody labelled. So a source that now and then says nothing may not be
    silent of one sort of releases, or belongs here."""

    calibration_episodes: Path | None = None
    """File of labelled episodes to calibrate on beside the new ones, of other groups than
    `trusted_episodes`; None for none. New releases alone calibrate only once enough of them are
    reviewed."""

    group_by: tuple[str, ...] = ("environment", "day")
    """What releases share that may not be separated, of GROUP_PARTS; `day` is the UTC day of the
    first decision."""

    window_days: float = 30.0
    """Age in days, above 0, up to which releases in the log are new."""

    recall_margin: float = 0.02
    """Share of the bad releases, 0..1, that a challenger may let through besides: neither rolled
    back nor held for a person."""

    least_reviewed: float = 0.2
    """Share of the new releases, above 0 and at most 1, whose label must be known, for them to
    judge or to calibrate: of the rolled-back ones of that side, and of the others."""

    calibrate_share: float = 0.2
    """Share of the groups to calibrate on, above 0."""

    judge_share: float = 0.2
    """Share of the groups to judge on, above 0; with `calibrate_share`, below 1."""

    alpha: float | None = None
    """Bound on the share of healthy releases rolled back, None for none."""

    pauses: PauseRules = field(default_factory=PauseRules)
    """When a challenger holds its answer back."""

    seed: int = 0
    """Seed of the split and of the intervals."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        _check_names("trusted_sources", self.trusted_sources, SOURCES)
        _check_names("incident_sources", self.incident_sources, SOURCES)
        if "review" in self.incident_sources:
            raise DeployError(
                "incident_sources: review is of releases drawn at random: what was reviewed "
                "because it failed is to be told by another source, such as incident"
            )
        _check_names("group_by", self.group_by, GROUP_PARTS)
        for name in ("window_days", "recall_margin", "least_reviewed"):
            value = getattr(self, name)
            most = float("inf") if name == "window_days" else 1
            above = value >= 0 if name == "recall_margin" else value > 0
            if not (above and value <= most):
                raise DeployError(f"{name}: {value:g} is out of range")
        shares = self.calibrate_share, self.judge_share
        if not (min(shares) > 0 and sum(shares) < 1):
            raise DeployError(
                f"calibrate_share, judge_share: {shares[0]:g} and {shares[1]:g} must be above 0, "
                "and together below 1: the rest is trained on"
            )

    def split(self) -> dict[str, Any]:
        """Returns what decides on which side a group is."""
        return {
            "group_by": list(self.group_by),
            "calibrate_share": self.calibrate_share,
            "judge_share": self.judge_share,
            "seed": self.seed,
        }


def read_settings(folder: Path) -> LoopSettings:
    """Reads the settings of the loop in a folder.

    Raises:
        DeployError: If the file cannot be read, or a setting is unknown, missing or impossible.
    """
    path = folder / SETTINGS_FILE
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeployError(
            f"{path}: {error.strerror}; recipes/loop/loop.toml is one to begin with"
        ) from error
    except ValueError as error:
        raise DeployError(f"{path}: cannot be read as TOML: {error}") from error
    try:
        settings = _settings_of(plain, folder)
    except DeployError as error:
        raise DeployError(f"{path}: {error}") from error
    for name in _PATHS:
        file = getattr(settings, name)
        if file is not None and not file.is_file():
            raise DeployError(f"{path}: {name}: {file}: no such file")
    return settings


def _settings_of(plain: Mapping[str, Any], folder: Path) -> LoopSettings:
    kinds = {f.name: f for f in fields(LoopSettings)}
    for name in plain:
        if name not in kinds:
            raise DeployError(f"unknown setting {name}: {near_name(name, kinds)}")
    missing = [name for name in _REQUIRED if name not in plain]
    if missing:
        raise DeployError(f"{', '.join(missing)}: not set")
    return LoopSettings(**{name: _value(name, value, folder) for name, value in plain.items()})


def _value(name: str, value: Any, folder: Path) -> Any:
    if name in _PATHS:
        return folder / _of_type(name, value, str, "a path")
    if name in ("trusted_sources", "incident_sources", "group_by"):
        return tuple(_of_type(name, word, str, "words") for word in _of_type(name, value, list))
    if name == "pauses":
        return _pauses(_of_type(name, value, dict, "a table"))
    if name == "seed":
        return _of_type(name, value, int, "a whole number")
    return float(_of_type(name, value, int | float, "a number"))


def _of_type(name: str, value: Any, kind: Any, called: str = "a list") -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise DeployError(f"{name}: expected {called}, got {value!r}")
    return value


def _pauses(plain: Mapping[str, Any]) -> PauseRules:
    names = [f.name for f in fields(PauseRules)]
    for name in plain:
        if name not in names:
            raise DeployError(f"unknown setting pauses.{name}: {near_name(name, names)}")
    try:
        return PauseRules(**plain)
    except DeployError as error:
        raise DeployError(f"pauses.{error}") from error


def _check_names(setting: str, words: tuple[str, ...], names: tuple[str, ...]) -> None:
    if not words:
        raise DeployError(f"{setting}: name one or more of {', '.join(names)}")
    for word in words:
        if word not in names:
            raise DeployError(f"{setting}: unknown {word}: {near_name(word, names)}")
