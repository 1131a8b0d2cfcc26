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

"""Why a policy decided as it did, and what would turn the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from oumi_deploy.policy.attribution import MetricEffect, attribute, says_risk
from oumi_deploy.policy.counterfactual import Change, nearest_changes
from oumi_deploy.policy.rollout import Rollout
from oumi_deploy.policy.weighing import End
from oumi_deploy.policy.wording import sentence

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy


@dataclass(frozen=True)
class Explanation:
    """Why one decision came out as it did.

    Attributes:
        decision: `CONTINUE`, `ROLLBACK` or `PAUSE`, what `decide` answers.
        output: What the contributions add up in: `risk`, 0..1, or, of a policy file of version 1
            that is not calibrated, `q_difference`, Q(ROLLBACK) - Q(CONTINUE), in reward.
        calibrated: Whether the risk was fitted to releases that the policy was not trained on; else
            it is what the Q-values imply.
        value: The output, at the newest observation.
        reference_value: The output if every metric had stayed at the episode's own baseline, see
            `attribution.absent_features`. With the contributions it sums to `value`.
        method: `exact`, or `sampled` where the metrics are too many for all their subsets.
        standard_error: Largest standard error of the contributions, None where they are exact.
        metrics: Each metric's values and contribution, the largest (whatever its sign) first; no
            columns that tell of the traffic.
        change: Another newest value of one metric that would make a CONTINUE a ROLLBACK, and
            anything else a CONTINUE; where there is none, what `other_change` would be. It is of
            the metric that raised the risk most, if that can turn it, else the nearest. None if
            nothing would turn the decision.
        other_change: The one that would make it a PAUSE, and a PAUSE a ROLLBACK; None likewise.
        sentence: All this in one sentence.
    """

    decision: str
    output: str
    calibrated: bool
    value: float
    reference_value: float
    method: str
    standard_error: float | None
    metrics: tuple[MetricEffect, ...]
    change: Change | None
    other_change: Change | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the explanation as plain values."""
        return {**asdict(self), "metrics": [asdict(effect) for effect in self.metrics]}


def explain(
    policy: "DeploymentPolicy",
    observations: Sequence[Mapping[str, Any]],
    *,
    last: bool = False,
    asks_again: bool = False,
    seed: int = 0,
) -> Explanation:
    """Explains the decision on the newest of a rollout's observations.

    Args:
        policy: The policy.
        observations: As `DeploymentPolicy.decide` takes them.
        last: Whether no later observation will come.
        asks_again: Whether the caller asks again at its last look while the answer is PAUSE.
        seed: Seed of the sampled contributions, where they are not exact.

    Raises:
        DeployError: Where `decide` does.

    Example:
        >>> policy = DeploymentPolicy.load("deployment_policy_model.json")  # doctest: +SKIP
        >>> explain(policy, [{"error_rate": 0.12}]).sentence  # doctest: +SKIP
        'ROLLBACK: error_rate 0.120 raised the risk most (+0.70), in all from 0.18 to 0.93; ...'
    """
    rollout = policy.begin()
    rollout.observe_all(observations)
    return explain_rollout(rollout, End(last, asks_again), seed=seed)


def explain_rollout(rollout: Rollout, when: End | None = None, *, seed: int = 0) -> Explanation:
    """Explains the decision on the newest observation of a rollout under way, see `explain`.

    It costs the same however long the rollout is.

    Raises:
        DeployError: Where `Rollout.decide` does.
    """
    when = End() if when is None else when
    decision = rollout.decide(last=when.last, asks_again=when.asks_again).decision
    policy, newest = rollout.policy, rollout.newest
    assert newest is not None, "decide has refused a rollout without an observation"
    answers = newest.weighed.answers(policy, when)
    attribution = attribute(policy, newest, seed)
    changes = nearest_changes(policy, newest, when, attribution.suspect)
    return Explanation(
        decision=decision,
        output="risk" if says_risk(policy) else "q_difference",
        calibrated=policy.calibration is not None,
        value=attribution.value,
        reference_value=attribution.reference_value,
        method="exact" if attribution.standard_error is None else "sampled",
        standard_error=attribution.standard_error,
        metrics=attribution.effects,
        change=changes[0] if changes else None,
        other_change=changes[1] if len(changes) > 1 else None,
        sentence=sentence(policy, newest, answers, attribution, changes),
    )
