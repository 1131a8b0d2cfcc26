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

"""What a caller states of its rollout, where it knows better than the observations do."""

from collections.abc import Mapping, Sequence
from typing import Any

from oumi_deploy.policy.observation import is_baseline
from oumi_deploy.serving.schema import Ask

Observations = Sequence[Mapping[str, Any]]


def as_stated(observations: Observations, ask: Ask) -> Observations:
    """Returns the observations with the caller's plan in them.

    Args:
        observations: The rollout so far, oldest first, the newest a canary one.
        ask: The question.

    Raises:
        DeployError: If a phase is none.
    """
    if ask.planned_steps is None and not ask.last:
        return observations
    begin = _length_of_baseline(observations)
    canary = [dict(observation) for observation in observations[begin:]]
    if ask.planned_steps is not None:
        for observation in canary:
            if observation.get("planned_steps") is None:
                observation["planned_steps"] = ask.planned_steps
    if ask.last:
        # All that was planned is seen now, so that the policy's own value of waiting knows that
        # nothing follows.
        canary[-1]["planned_steps"] = len(canary)
    return [*observations[:begin], *canary]


def _length_of_baseline(observations: Observations) -> int:
    phases = (is_baseline(observation, i + 1) for i, observation in enumerate(observations))
    return next((i for i, before in enumerate(phases) if not before), len(observations))
