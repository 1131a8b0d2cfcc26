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


def as_stated(observations: Observations, before: Observations, ask: Ask) -> Observations:
    """Returns the observations with the caller's plan and its share of the traffic in them.

    Args:
        observations: The rollout so far, oldest first, the newest a canary one.
        before: The same as it was when it was asked about last; empty if it was not.
        ask: The question.

    Raises:
        DeployError: If a phase is none.
    """
    if ask.planned_steps is None and ask.canary_share is None and not ask.last:
        return observations
    begin = _length_of_baseline(observations)
    canary = [dict(observation) for observation in observations[begin:]]
    if ask.canary_share is not None:
        _put_in_share(canary, before[_length_of_baseline(before) :], ask.canary_share)
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


def _put_in_share(canary: list[dict[str, Any]], before: Observations, share: float) -> None:
    """Gives the newest observation the share that is stated, and others what was stated with them.

    A tool asks, raises the share and asks again, perhaps before the next observation: that of the
    last one stays what it was.
    """
    stood = {(i, old.get("timestamp")): old for i, old in enumerate(before)}
    for i, observation in enumerate(canary):
        old = stood.get((i, observation.get("timestamp")), observation)
        if old.get("canary_share") not in (None, observation.get("canary_share")):
            observation["canary_share"] = old["canary_share"]
        elif i == len(canary) - 1:
            observation["canary_share"] = share
