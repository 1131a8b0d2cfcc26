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

"""The calibration at the end of a training: on a validation split, or cross-fitted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.evaluation.calibrate import calibrate
from oumi_deploy.evaluation.guarding import without_unread
from oumi_deploy.policy.calibration import check_alpha
from oumi_deploy.policy.guardrails import Guardrails, read_guardrails
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.policy import DeploymentPolicy

SETTING = "calibration"
"""Name in `trainer_kwargs` under which these settings stand."""


@dataclass(frozen=True)
class CalibrationSettings:
    """What a config says of calibration.

    Attributes:
        alpha: Bound on the expected share of healthy releases rolled back, None for none.
        pauses: When the policy holds its answer back.
        folds: Folds of the training split for a calibration without a validation split, 0 for as
            many as groups; None for none.
        guardrails: Hard limits beside the policy, as in recipes/service/guardrails.yaml.
    """

    alpha: float | None = None
    pauses: PauseRules = field(default_factory=PauseRules)
    folds: int | None = None
    guardrails: Guardrails = field(default_factory=Guardrails)

    def readable_guardrails(self, episodes: Episodes) -> Guardrails:
        """Returns the guardrails that releases give something to read.

        A config is made for many teams, so what one of them does not report is left out, with a
        warning: kept, it would have each calibration refused.
        """
        # Imported here: whoever reads settings need not wait for Oumi, nor be told that it has
        # loaded.
        from oumi.utils.logging import logger

        read, left_out = without_unread(self.guardrails, episodes)
        for sentence in left_out:
            logger.warning(f"{SETTING}.{sentence}")
        return read

    def require_no_bound(self) -> None:
        """Raises DeployError if a bound is asked for that cross-fitting cannot give."""
        if self.alpha is not None:
            raise DeployError(
                f"{SETTING}.alpha: a bound on false alarms takes releases that the very policy was "
                "not trained on, so folds cannot give it: hold some out for `oumi-deploy "
                "calibrate --alpha`, or take it out"
            )


def read_calibration_settings(trainer_kwargs: Mapping[str, Any]) -> CalibrationSettings:
    """Reads `trainer_kwargs.calibration`, the defaults where it is absent.

    Raises:
        DeployError: If a name is unknown or a value impossible.
    """
    plain = trainer_kwargs.get(SETTING) or {}
    if not isinstance(plain, Mapping):
        raise DeployError(f"{SETTING}: expected names and values, got {plain!r}")
    own = ("alpha", "folds", "guardrails")
    names = [*own, *(f.name for f in fields(PauseRules))]
    for name in plain:
        if name not in names:
            raise DeployError(f"unknown setting {SETTING}.{name}: {near_name(name, names)}")
    try:
        check_alpha(plain.get("alpha"))
        pauses = PauseRules(**{str(k): v for k, v in plain.items() if k not in own})
        guardrails = Guardrails()
        if plain.get("guardrails") is not None:
            guardrails = read_guardrails(plain["guardrails"])
            guardrails.check_directions(trainer_kwargs.get("directions") or {})
        folds = plain.get("folds")
        if folds is not None and (type(folds) is not int or folds < 0 or folds == 1):
            raise DeployError(f"folds: {folds!r} is not a whole number of 2 or more, or 0")
    except DeployError as error:
        raise DeployError(f"{SETTING}.{error}") from error
    settings = CalibrationSettings(plain.get("alpha"), pauses, folds, guardrails)
    if folds is not None:
        settings.require_no_bound()
    return settings


def algorithm_kwargs(trainer_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what of `trainer_kwargs` is for the algorithm: not the plugin's name, nor this."""
    return {k: v for k, v in trainer_kwargs.items() if k not in ("trainer", SETTING)}


def calibrated(
    policy: DeploymentPolicy, validation: Episodes, settings: CalibrationSettings, seed: int
) -> DeploymentPolicy:
    """Returns the policy calibrated on the validation split, or as it is where that cannot be.

    What cannot be is said in a warning: a training is not lost for it.

    Raises:
        DeployError: If it cannot be and the config asks for a bound on false alarms.
    """
    # Imported here: whoever reads settings need not wait for Oumi, nor be told that it has loaded.
    from oumi.utils.logging import logger

    try:
        return calibrate(
            policy,
            validation,
            pauses=settings.pauses,
            alpha=settings.alpha,
            guardrails=settings.readable_guardrails(validation),
            seed=seed,
        )
    except DeployError as error:
        if settings.alpha is not None:
            raise
        logger.warning(f"The policy stays uncalibrated: {error}")
        return policy
