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
"""Why the policy decided as it did, reckoned again from what the log holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.policy.explain import explain
from oumi_deploy.serving.dashboard.schema import Explained
from oumi_deploy.serving.log.entries import DecisionEntry
from oumi_deploy.serving.policies import Versioned


def explain_decision(
    decision: DecisionEntry, observations: Sequence[Mapping[str, Any]], current: Versioned
) -> Explained:
    """Explains a decision on a rollout by itself, whatever others are under way.

    Args:
        decision: The decision.
        observations: All that it rests on, oldest first.
        current: The policy in use; no other one is at hand.
    """
    if decision.policy_version != current.version:
        problem = f"policy {decision.policy_version} decided it, and is not in use any more"
        return Explained(decision_id=decision.id, explanation=None, problem=problem)
    ends = {"last": decision.last, "asks_again": decision.asks_again}
    found = explain(current.policy, observations, **ends)
    return Explained(decision_id=decision.id, explanation=found.as_dict(), problem=None)
