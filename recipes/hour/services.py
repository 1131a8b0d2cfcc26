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

"""The services of the simulated platform, and who calls whom."""

from dataclasses import dataclass

import numpy as np

CALLS = {
    "web": ("cart", "search"),
    "cart": ("inventory", "pricing"),
    "checkout": ("payments", "shipping"),
    "search": (),
    "inventory": (),
    "pricing": (),
    "payments": ("identity",),
    "shipping": (),
    "identity": (),
    "reviews": ("identity",),
}
"""Callees by caller."""


@dataclass(frozen=True)
class Service:
    """One service, and what is usual for it.

    Attributes:
        name: Its name.
        requests: Requests per simulated minute, to all versions together; even a canary of 5 %
            gets enough of them to tell an error rate.
        errors: Share 0..1 of requests that fail.
        memory: Share of the memory limit in use.
        cpu: Share of the CPU limit in use.
        calls: Names of the services that it calls.
    """

    name: str
    requests: float
    errors: float
    memory: float
    cpu: float
    calls: tuple[str, ...]


def draw_services(count: int, rng: np.random.Generator) -> list[Service]:
    """Returns the first `count` services, 1..10, those they call among them where that fits."""
    names = list(CALLS)[:count]
    return [
        Service(
            name=name,
            requests=float(np.exp(rng.uniform(np.log(5_000), np.log(10_000)))),
            errors=float(np.exp(rng.uniform(np.log(0.0005), np.log(0.01)))),
            memory=float(rng.uniform(0.35, 0.6)),
            cpu=float(rng.uniform(0.2, 0.42)),
            calls=tuple(callee for callee in CALLS[name] if callee in names),
        )
        for name in names
    ]
