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

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.observation import as_last, length_of_baseline
from oumi_deploy.serving.held import HeldRollouts
from oumi_deploy.serving.log.entries import RolloutName
from oumi_deploy.serving.log.writer import DecisionLog
from oumi_deploy.serving.schema import Ask

Observations = Sequence[Mapping[str, Any]]

Shares = Mapping[tuple[int, Any], float]
"""Shares of the traffic, by a canary observation's number from 0 and its timestamp."""


async def shares_before(
    name: RolloutName, held: HeldRollouts, log: DecisionLog, observations: Observations
) -> Shares:
    """Returns the shares that were stated of a rollout before.

    Of a rollout that is not held, as after a restart, the log knows which shares it was decided
    with, and not who stated them: those that are measured otherwise now count as stated.

    Args:
        name: The rollout.
        held: The rollouts under way.
        log: The decision log; one that is away knows nothing.
        observations: The rollout so far, oldest first, as it is sent or measured.

    Raises:
        DeployError: If a phase is none.
    """
    known = held.shares_of(name)
    if known is not None:
        return known
    logged = await asyncio.to_thread(_logged_shares, log, name)
    known = held.shares_of(name)
    if known is not None:  # Another question has brought it back meanwhile.
        return known
    measured = _shares_in(observations)
    return {key: share for key, share in logged.items() if measured.get(key) != share}


def as_stated(observations: Observations, before: Shares, ask: Ask) -> tuple[Observations, Shares]:
    """Returns the observations with the caller's plan and its share of the traffic in them.

    Args:
        observations: The rollout so far, oldest first, the newest a canary one.
        before: The shares that were stated when it was asked about before.
        ask: The question.

    Returns:
        The observations, and the shares that were stated, now or before.

    Raises:
        DeployError: If a phase is none.
    """
    says_nothing = ask.planned_steps is None and ask.canary_share is None and not ask.last
    if says_nothing and not before:
        return observations, {}
    begin = length_of_baseline(observations)
    canary = [dict(observation) for observation in observations[begin:]]
    shares = _put_in_shares(canary, before, ask.canary_share)
    if ask.planned_steps is not None:
        for observation in canary:
            if observation.get("planned_steps") is None:
                observation["planned_steps"] = ask.planned_steps
    told = [*observations[:begin], *canary]
    return as_last(told) if ask.last else told, shares


def _put_in_shares(canary: list[dict[str, Any]], before: Shares, newest: float | None) -> Shares:
    """Gives each observation the share that was stated with it, and the newest that of now.

    A tool asks, raises the share and asks again, perhaps before the next observation: that of the
    last one stays what it was.
    """
    keys = _keys_of(canary)
    stated = dict(before)  # Also of what is not seen now, as while the telemetry is away.
    if newest is not None:
        stated.setdefault(keys[-1], newest)
    for key, observation in zip(keys, canary, strict=True):
        if key in stated:
            observation["canary_share"] = stated[key]
    return stated


def _keys_of(canary: Observations) -> list[tuple[int, Any]]:
    return [(i, observation.get("timestamp")) for i, observation in enumerate(canary)]


def _logged_shares(log: DecisionLog, name: RolloutName) -> Shares:
    with suppress(DeployError):
        latest = log.latest(name)
        return {} if latest is None else _shares_in(log.inputs(latest.id))
    return {}


def _shares_in(observations: Observations) -> Shares:
    canary = observations[length_of_baseline(observations) :]
    told = zip(_keys_of(canary), canary, strict=True)
    shares = ((key, observation.get("canary_share")) for key, observation in told)
    return {key: share for key, share in shares if share is not None}
