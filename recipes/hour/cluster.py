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

"""The simulated cluster: what runs where, and what it reports when it is scraped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from clock import Clock
from releases import Release, column_of, natural_signals
from services import Service
from versions import Version

from oumi_deploy.episodes.faults import Signals

PASSED_ON = 0.6
"""Share of a callee's additional errors that its callers answer with errors of their own."""

DRAGGED = 0.01
"""Additional error rate from which a service counts as dragged along."""


@dataclass
class _Deployment:
    """What runs of one service.

    Attributes:
        service: The service.
        row: Its row in the signals of the usual versions.
        stable: The old version.
        canary: The new one, None between releases.
        release: What the new one does, None likewise.
        began: When the canary began, in simulated minutes.
        share: Share of the traffic that the canary gets.
        scraped: When the counters were last brought up to date, in simulated minutes.
        dragged: Minutes in which what it calls made it fail.
    """

    service: Service
    row: int
    stable: Version
    canary: Version | None = None
    release: Release | None = None
    began: float = 0.0
    share: float = 0.0
    scraped: float = 0.0
    dragged: float = 0.0


@dataclass(frozen=True)
class _Usage:
    """What a version does in a minute."""

    errors: float
    memory: float
    cpu: float
    unready: float


class Cluster:
    """Ten services or fewer; a scrape brings a service up to the moment."""

    def __init__(self, services: Sequence[Service], clock: Clock, rng: np.random.Generator):
        self._clock, self._rng = clock, rng
        self._usual = natural_signals(services, 240, rng)
        self._deployments = {
            service.name: _Deployment(service, row, Version(service.name, "v1"))
            for row, service in enumerate(services)
        }

    def begin(self, release: Release, share: float) -> None:
        """Starts the pods of a new version and sends them a share of the traffic."""
        mine = self._deployments[release.service.name]
        mine.canary = Version(release.service.name, release.version)
        mine.release, mine.began, mine.share = release, self._clock.now(), share
        mine.dragged = 0.0

    def shift(self, service: str, share: float) -> None:
        """Sends a share of the traffic to the new version."""
        self._deployments[service].share = share

    def promote(self, service: str) -> None:
        """Makes the new version the old one; from then on it does what is usual."""
        mine = self._deployments[service]
        assert mine.canary is not None
        mine.stable = mine.canary
        self.take_back(service)

    def take_back(self, service: str) -> None:
        """Ends the new version."""
        mine = self._deployments[service]
        mine.canary, mine.release, mine.share = None, None, 0.0

    def minutes_dragged(self, service: str) -> float:
        """Returns the minutes since the canary began in which what it calls made it fail."""
        return self._deployments[service].dragged

    def scrape(self, service: str) -> str | None:
        """Returns what a service reports now, in Prometheus' text format; None for nothing."""
        mine = self._deployments[service]
        now = self._clock.now()
        passed, mine.scraped = now - mine.scraped, now
        additional = sum(self._passed_on(callee, now) for callee in mine.service.calls)
        mine.dragged += passed * (additional > DRAGGED)
        load = float(np.exp(self._rng.normal(0, 0.05)))
        if mine.share < 1:
            usage = _plus(self._of_old(mine, now), additional)
            self._run(mine.stable, usage, mine.service.requests * load * (1 - mine.share), passed)
        if mine.canary is not None and mine.release is not None:
            usage = _plus(_usage(mine.release.new, column_of(now - mine.began)), additional)
            self._run(mine.canary, usage, mine.service.requests * load * mine.share, passed)
        return self._text(mine, now)

    def _run(self, version: Version, usage: _Usage, per_minute: float, minutes: float) -> None:
        version.serve(per_minute * minutes, usage.errors, self._rng)
        seconds = minutes * self._clock.minute
        version.work(seconds, usage.cpu, usage.memory, usage.unready)

    def _text(self, mine: _Deployment, now: float) -> str | None:
        column = column_of(now - mine.began)
        if mine.release is not None and mine.release.lost[column]:
            return None
        # At 100 % the old version is scaled down; a crashed one has nobody to answer.
        shown = [mine.stable] if mine.share < 1 else []
        if mine.canary is not None and mine.release and not mine.release.silent[column]:
            shown.append(mine.canary)
        return "".join(f"{line}\n" for version in shown for line in version.lines())

    def _of_old(self, mine: _Deployment, now: float) -> _Usage:
        usual = Signals(*(part[mine.row] for part in vars(self._usual).values()))
        usage = _usage(usual, int(now) % usual.errors.shape[0])
        if mine.release is None:
            return usage
        more = _usage(mine.release.beside, column_of(now - mine.began))
        return _Usage(
            usage.errors + more.errors,
            usage.memory + more.memory,
            usage.cpu + more.cpu,
            usage.unready + more.unready,
        )

    def _passed_on(self, callee: str, now: float) -> float:
        """Returns the error rate that a caller has because of a service that it calls."""
        other = self._deployments[callee]
        if other.release is None:
            return 0.0
        errors = other.release.new.errors[column_of(now - other.began)]
        return PASSED_ON * other.share * max(0.0, float(errors) - other.service.errors)


def _usage(signals: Signals, column: int) -> _Usage:
    return _Usage(
        errors=float(signals.errors[column]),
        memory=float(signals.memory[column]),
        cpu=float(signals.cpu[column]),
        unready=float(signals.unready[column]),
    )


def _plus(usage: _Usage, errors: float) -> _Usage:
    return _Usage(usage.errors + errors, usage.memory, usage.cpu, usage.unready)
