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

"""The releases of an hour: which are bad, with which of the generator's faults, and when they show.

A release is drawn whole before the hour begins: what its new version will do in each minute that
it may live, and what befalls the old one beside it. The faults and disturbances are those of
`oumi-deploy generate`.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from services import Service

from oumi_deploy.episodes.faults import (
    DISTURBANCES,
    FAULTS,
    Array,
    Cases,
    FaultParameters,
    Signals,
    add_disturbances,
    add_faults,
)

LIFE = 60
"""Minutes of a canary that are drawn; one that lives longer stays as in the last."""

PLANNED = (10, 16)
QUIET = (7, 12)
"""Fewest and most minutes of a canary without pauses, and between two releases of a service."""

_BAD_SHARE = 0.35
_REVIEWED_SHARE = 0.1
_PARAMETERS = FaultParameters(late_onset=(0.4, 0.7))
_HAPPENING = tuple(name for name in DISTURBANCES if name != "low_traffic")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Release:
    """One release; arrays are (LIFE,), by the minute since the canary began.

    Attributes:
        service: What is released.
        version: Its name, as in the names of pods.
        planned: Minutes that the canary lasts without a pause.
        quiet: Minutes without a release before it.
        fault: One of FAULTS, None for a good release.
        onset: First minute of the canary in which the fault shows, None for a good release.
        disturbance: The first of DISTURBANCES that hits it, None for none.
        is_reviewed: Whether a person will look at it, whatever becomes of it.
        new: Signals of the new version.
        beside: What adds to the old version's signals.
        silent: Where the crashed new version reports nothing.
        lost: Where nothing of the service can be scraped.
    """

    service: Service
    version: str
    planned: int
    quiet: int
    fault: str | None
    onset: int | None
    disturbance: str | None
    is_reviewed: bool
    new: Signals
    beside: Signals
    silent: Mask
    lost: Mask

    @property
    def kind(self) -> str:
        """What is the matter with it, for a table."""
        return self.fault or self.disturbance or "nothing"


def column_of(minute: float) -> int:
    """Returns the column of a moment, in minutes since the canary began."""
    return min(max(int(minute), 0), LIFE - 1)


def natural_signals(services: Sequence[Service], minutes: int, rng: np.random.Generator) -> Signals:
    """Returns undisturbed signals with natural noise, arrays of (services, minutes)."""

    def noise(size: float) -> Array:
        return rng.standard_normal((len(services), minutes)) * size

    def usual(what: str) -> Array:
        return np.array([[getattr(service, what)] for service in services])

    return Signals(
        errors=usual("errors") * np.exp(noise(0.25)),
        memory=usual("memory") + noise(0.012),
        cpu=usual("cpu") + noise(0.025),
        unready=noise(0.0),
        slowdown=noise(0.06),
    )


def draw_releases(
    services: Sequence[Service], minutes: int, rng: np.random.Generator
) -> dict[str, list[Release]]:
    """Returns more releases of each service than fit into `minutes`, in order, by its name."""
    each = minutes // (PLANNED[0] + QUIET[0]) + 1
    of = [service for service in services for _ in range(each)]
    n = len(of)
    planned = rng.integers(*PLANNED, (n, 1), endpoint=True)
    since = np.broadcast_to(np.arange(LIFE, dtype=float), (n, LIFE))
    cases = Cases(since, planned.astype(float), _PARAMETERS, rng)
    disturbed = {
        name: rng.random(n) < getattr(_PARAMETERS, f"{name}_probability") for name in _HAPPENING
    }
    fault = _draw_faults(n, rng)
    new = natural_signals(of, LIFE, rng)
    beside = Signals(*(np.zeros(since.shape) for _ in dataclasses.fields(Signals)))
    add_disturbances(new, beside, disturbed, cases)
    healthy = copy.deepcopy(new)
    silent = add_faults(new, fault, cases)
    onset = _onsets(healthy, new)
    lost = _lost(disturbed["lost_telemetry"], cases)
    quiet = rng.integers(*QUIET, n, endpoint=True)
    reviewed = rng.random(n) < _REVIEWED_SHARE
    releases = [
        Release(
            service=service,
            version=f"v{i % each + 2}",
            planned=int(planned[i, 0]),
            quiet=int(quiet[i]),
            fault=FAULTS[fault[i]] if fault[i] >= 0 else None,
            onset=int(onset[i]) if fault[i] >= 0 else None,
            disturbance=next((name for name in _HAPPENING if disturbed[name][i]), None),
            is_reviewed=bool(reviewed[i]),
            new=_row(new, i),
            beside=_row(beside, i),
            silent=silent[i],
            lost=lost[i],
        )
        for i, service in enumerate(of)
    ]
    return {
        service.name: releases[first : first + each]
        for service, first in zip(services, range(0, n, each), strict=True)
    }


def _draw_faults(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns an index into FAULTS for each release, -1 for a good one.

    A share of a hat, not chance by chance: an hour has few releases, and is to show each fault.
    """
    n_bad = max(1, round(n * _BAD_SHARE))
    hat = np.full(n, -1)
    hat[:n_bad] = np.arange(n_bad) % len(FAULTS)
    return rng.permutation(hat)


def _row(signals: Signals, i: int) -> Signals:
    return Signals(*(getattr(signals, f.name)[i] for f in dataclasses.fields(signals)))


def _onsets(before: Signals, after: Signals) -> NDArray[np.intp]:
    """Returns the first minute of each canary in which its fault changes a signal."""
    changed = np.zeros(before.errors.shape, dtype=bool)
    for part in dataclasses.fields(before):
        changed |= np.abs(getattr(after, part.name) - getattr(before, part.name)) > 1e-6
    return changed.argmax(axis=1)


def _lost(disturbed: Mask, cases: Cases) -> Mask:
    """Returns the one stretch in which a disturbed release cannot be scraped."""
    since = cases.starting(cases.draw((0.0, 1.0))).since
    length = cases.draw(cases.parameters.lost_telemetry_steps)
    return (since >= 0) & (since < length) & disturbed[:, None]
