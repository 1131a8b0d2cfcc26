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
"""What a decision service is told when it starts."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Literal

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.together import HOLD_LIMIT
from oumi_deploy.serving.auth import Tokens
from oumi_deploy.serving.exploration import check_epsilon


@dataclass(frozen=True)
class Limits:
    """What one caller, and all together, may ask for."""

    body_bytes: int = 1_000_000
    """Largest body of a request."""

    requests_per_second: float = 2_000.0
    """Requests of one caller, a second, on average; twice as many at once."""

    concurrent_requests: int = 256
    """Requests under way at once, of all callers."""

    def __post_init__(self) -> None:
        given = {
            "--max-body": self.body_bytes,
            "--max-rate": self.requests_per_second,
            "--max-concurrent": self.concurrent_requests,
        }
        for option, value in given.items():
            if not value >= 1:
                raise DeployError(f"{option} {value:g}: give a number of 1 or more")


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of the service; `oumi-deploy serve --help` tells them from the command line."""

    policy: Path
    """The policy file, calibrated; taken up again when it changes."""

    log: str = "sqlite:///oumi_deploy.db"
    """URL of the decision log, SQLite or PostgreSQL."""

    spool: Path | None = None
    """File for what cannot be logged while the database is away; without one, the answer is PAUSE
    then."""

    telemetry: Path | None = None
    """Settings of the collector, for questions that bring no observations."""

    interval: float = 60.0
    """Seconds between observations: a newest one older than two of them is missing telemetry."""

    shadow: bool = False
    """Whether to answer the caller's default and only log what would have been said."""

    hold_limit: int = HOLD_LIMIT
    """Observations running at which a rollout waits for another that is likelier the cause."""

    calls: Path | None = None
    """Which services each service calls, as JSON."""

    explore: float = 0.0
    """Probability with which a ROLLBACK becomes PAUSE."""

    seed: int = 0
    """Seed of the exploration: what is drawn for a question depends on it and the question."""

    tokens: Tokens = field(default_factory=Tokens)
    """Who may do what; without tokens anybody who reaches the service."""

    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_epsilon(self.explore)
        if self.hold_limit < 0:
            raise DeployError(f"--hold-limit {self.hold_limit}: give a number of 0 or more")
        if not 0 < self.interval < inf:
            raise DeployError(f"--interval {self.interval:g}: give seconds above 0")
        if self.shadow and self.explore:
            raise DeployError(
                "--explore: in shadow mode nothing is rolled back, so nothing is held"
            )


def check_address(host: str, tokens: Tokens) -> None:
    """Refuses to listen to the world without tokens.

    Raises:
        DeployError: If `host` is not the loopback interface and there are no tokens.
    """
    if not is_loopback(host) and not tokens:
        raise DeployError(
            f"--host {host}: anybody could ask and report there; set tokens (--tokens, or "
            "OUMI_DEPLOY_TOKEN_ASK and so on), or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Returns whether a host name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


Face = Literal["api", "argo", "flagger", "kayenta"]
"""Through which door a question came."""
