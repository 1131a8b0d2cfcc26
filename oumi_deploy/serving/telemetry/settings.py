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

"""Settings of the collector: one place for each name, its default and its meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from urllib.parse import urlsplit

from oumi_deploy.episodes.schema import CONTROL, NEVER_STATE
from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.serving.telemetry.queries import (
    DEFAULT_CANARY,
    DEFAULT_QUERIES,
    DEFAULT_STABLE,
    ReleaseName,
    Selector,
    queries_of_new,
    queries_of_old,
)

PER_REQUEST = ("error_rate", "latency")
"""Metrics of the episode format that are told of requests."""


@dataclass(frozen=True)
class TelemetrySettings:
    """Settings of the collector. Durations are whole seconds here and text such as 1m30s in TOML.

    Raises:
        DeployError: At a value out of its range, settings that do not go together, and a template
            that cannot be filled in.
    """

    url: str
    """Address of Prometheus, or of what answers its HTTP API, up to where `/api` begins."""

    token_file: Path | None = None
    """File with a bearer token, read anew for every query; relative to the TOML file there."""

    timeout: int = 5
    """Seconds that one query may take."""

    scrape_interval: int = 30
    """Seconds between samples, of the slowest job whose series are asked for."""

    window: int = 60
    """Seconds that a rate looks back, and after which a sample is stale; at least two scrape
    intervals, else a rate has one sample only. A wide window smears the onset of a fault."""

    step: int = 60
    """Seconds from one observation to the next; at least a scrape interval, else one sample would
    be shown as two."""

    baseline: int = 900
    """Seconds before the start that are the baseline; 0 for none."""

    settle: int = 5
    """Seconds a step must be over before it is asked for: its last sample is still on its way."""

    min_requests: float = 0
    """Requests in a step below which the metrics of `per_request` are missing, of either version:
    an error rate of so few says nothing."""

    per_request: tuple[str, ...] = PER_REQUEST
    """Metrics that are shares of requests or means over them."""

    canary: Selector = DEFAULT_CANARY
    """What tells the new version's series."""

    stable: Selector = DEFAULT_STABLE
    """What tells the old version's series."""

    queries: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_QUERIES))
    """PromQL template of each metric."""

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_times(self)
        _check_queries(self)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid, parts = False, urlsplit("")
    if not valid or parts.query or parts.fragment:
        raise DeployError("url: expected an address such as http://host:9090")
    if parts.username is not None or parts.password is not None:
        raise DeployError("url: it holds a password, which would show in messages; use token_file")


def _check_times(settings: TelemetrySettings) -> None:
    for name in ("timeout", "scrape_interval", "window", "step"):
        if getattr(settings, name) < 1:
            raise DeployError(f"{name}: give at least 1s")
    scrape = settings.scrape_interval
    if settings.window < 2 * scrape:
        raise DeployError(
            f"window: {settings.window}s is less than two scrape intervals of {scrape}s, so that a "
            f"rate may have a single sample: give at least {2 * scrape}s, or a shorter "
            "scrape_interval if that is not yours"
        )
    if settings.step < scrape:
        raise DeployError(
            f"step: {settings.step}s is less than the scrape interval of {scrape}s, so that one "
            f"sample would be shown as several observations: give at least {scrape}s"
        )
    if min(settings.baseline, settings.settle) < 0:
        raise DeployError("baseline, settle: give 0s or more")


def _check_queries(settings: TelemetrySettings) -> None:
    if not settings.queries:
        raise DeployError("queries: all are switched off; keep one")
    for metric in settings.queries:
        if not metric.isidentifier() or metric in NEVER_STATE or metric.startswith(CONTROL):
            raise DeployError(
                f"queries.{metric}: not the name of a metric: give letters, digits and _, no "
                f"column that a policy may not see, and nothing that begins with {CONTROL}"
            )
    if not (isfinite(settings.min_requests) and settings.min_requests >= 0):
        raise DeployError(f"min_requests: {settings.min_requests:g} is not a number of 0 or more")
    if settings.min_requests and "requests" not in settings.queries:
        raise DeployError("min_requests has no effect without queries.requests")
    unknown = {*settings.per_request} - {*settings.queries, *PER_REQUEST}
    if unknown:
        hint = near_name(min(unknown), settings.queries)
        raise DeployError(f"per_request: there is no query {min(unknown)}: {hint}")
    if settings.canary.traffic == settings.stable.traffic:
        raise DeployError("canary and stable have the same traffic: tell the versions apart")
    # Any release will do to see whether the templates can be filled in.
    sample = ReleaseName("service", "environment", "version")
    queries_of_new(settings, sample)
    queries_of_old(settings, sample)
