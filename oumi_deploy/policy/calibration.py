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

"""From Q-values to the probability that a release is bad.

ROLLBACK ends a rollout, so its Q-value is the reward to expect of ending it now,

    Q(ROLLBACK) = p correct_rollback + (1 - p) unnecessary_rollback,

and what the Q-function believes of the release follows by solving for p. A logistic map of its
log odds z, fitted on releases the policy was not trained on, turns belief into risk:

    log odds of risk = intercept + slope z + bend log(1 + exp(z))

With slopes of their own where the belief is low and where it is high, what the policy stops at can
be overconfident without making a first look, at which nothing is known yet, riskier than it is.
That is Platt's map (1999) without the bend, and the beta calibration of Kull et al. (2017) with it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.guardrails import Guardrails, read_guardrails
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.problem.arithmetic import Number, choose
from oumi_deploy.problem.rewards import Action, Rewards

SOFT = 0.01
"""Belief within which of 0 and 1 the log odds bend off, so that they stay finite and rising."""


@dataclass(frozen=True)
class Calibration:
    """What turns Q-values into an answer with a confidence.

    Attributes:
        intercept: Of the logistic map.
        slope: Of the logistic map where the belief is low, above 0.
        pauses: When the policy holds its answer back.
        alpha: Bound on the expected share of healthy releases rolled back, None without one.
        rollback_from: Risk below which a ROLLBACK of the policy is not let through, for alpha;
            above 1 where none is.
        guardrails: The team's own limits, beside the policy.
        fitted_on: What the calibration was fitted on, and its figures, free-form.
        bend: What the slope gains, or loses, where the belief is high; slope and bend together are
            above 0.
    """

    intercept: float
    slope: float
    pauses: PauseRules = field(default_factory=PauseRules)
    alpha: float | None = None
    rollback_from: float = 0.0
    guardrails: Guardrails = field(default_factory=Guardrails)
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    bend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("intercept", "slope", "rollback_from", "bend"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not isfinite(value):
                raise DeployError(f"calibration.{name}: {value!r} is not a finite number")
        if self.slope <= 0:
            raise DeployError(f"calibration.slope: {self.slope:g} is not above 0")
        if self.slope + self.bend <= 0:
            raise DeployError(f"calibration.bend: {self.bend:g} turns the risk round")
        check_alpha(self.alpha)

    def risk(self, q_values: np.ndarray, rewards: Rewards) -> np.ndarray:
        """Returns P(bad | seen so far), shape (n,), for Q-values of shape (n, n_actions)."""
        return self.risk_of(q_values[..., Action.ROLLBACK], rewards)

    def risk_of(self, q_rollback: Number, rewards: Rewards) -> Number:
        """Returns P(bad | seen so far) for one Q-value of ROLLBACK, or for an array of them."""
        belief = _log_odds(q_rollback, rewards)
        odds = self.intercept + self.slope * belief
        if self.bend:
            odds = odds + self.bend * np.logaddexp(0.0, belief)
        risk = 0.5 * (1.0 + np.tanh(0.5 * odds))
        # A number of numpy's would slow down all that is reckoned with it.
        return risk if isinstance(q_rollback, np.ndarray) else float(risk)

    def as_dict(self) -> dict[str, Any]:
        """Returns the calibration as plain values."""
        plain = {**asdict(self), "guardrails": self.guardrails.as_dict()}
        if not self.guardrails.rails:
            del plain["guardrails"]
        return {**plain, "fitted_on": dict(self.fitted_on)}


def check_alpha(alpha: float | None) -> None:
    """Raises DeployError if alpha is neither None nor between 0 and 1."""
    if alpha is None:
        return
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise DeployError(
            f"alpha: {alpha!r} is not between 0 and 1; it is a share of healthy releases, as in "
            "0.05"
        )


UNCALIBRATED = Calibration(0.0, 1.0)
"""What stands for a calibration that is not there: the risk that Q(ROLLBACK) implies."""


def belief_log_odds(q_values: np.ndarray, rewards: Rewards) -> np.ndarray:
    """Returns the log odds of "bad" that Q(ROLLBACK) implies, rising in it.

    Learnt Q-values can lie a little outside what rewards allow; there the log odds go on rising,
    slower and slower: log s(p) - log s(1 - p) with s(x) = (x + sqrt(x^2 + SOFT^2)) / 2.

    Args:
        q_values: Shape (n, n_actions).
        rewards: What decisions paid in training.

    Returns:
        Shape (n,), finite.
    """
    return _log_odds(q_values[..., Action.ROLLBACK], rewards)


def _log_odds(q_rollback: Number, rewards: Rewards) -> Number:
    best, worst = rewards.correct_rollback, rewards.unnecessary_rollback
    belief = (q_rollback - worst) / (best - worst)
    return np.log(_positive(belief)) - np.log(_positive(1.0 - belief))


def _positive(x: Number) -> Number:
    root = np.hypot(x, SOFT)
    # For negative x, x + root loses its digits; the conjugate does not.
    return 0.5 * choose(x >= 0, x + root, SOFT**2 / (root - choose(x >= 0, 0.0, x)))


def read_calibration(plain: Mapping[str, Any] | None) -> Calibration | None:
    """Reads what `Calibration.as_dict` returned; None stays None.

    Raises:
        DeployError: If an entry is missing, unknown or impossible.
    """
    if plain is None:
        return None
    try:
        read: dict[str, Any] = {"pauses": PauseRules(**plain["pauses"])}
        if "guardrails" in plain:
            read["guardrails"] = read_guardrails(plain["guardrails"])
        return Calibration(**{**plain, **read})
    except (KeyError, TypeError) as error:
        raise DeployError(f"calibration: {error} is missing or malformed") from error
