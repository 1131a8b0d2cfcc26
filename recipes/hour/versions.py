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

"""One version of a service: its pods, their counters and gauges, and how Prometheus reads them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

NAMESPACE = "shop"
PODS = 10
_MEMORY_LIMIT = 512 * 2**20
_CPU_LIMIT = 2.0


@dataclass
class Version:
    """A version that runs, pod by pod; arrays are (PODS,).

    Attributes:
        service: Name of its service.
        name: Its own name.
        succeeded: Counter of requests answered.
        failed: Counter of requests that failed.
        cpu_seconds: Counter of CPU time.
        memory: Bytes in use.
        ready: Whether a pod is ready.
    """

    service: str
    name: str
    succeeded: np.ndarray = field(default_factory=lambda: np.zeros(PODS, dtype=int))
    failed: np.ndarray = field(default_factory=lambda: np.zeros(PODS, dtype=int))
    cpu_seconds: np.ndarray = field(default_factory=lambda: np.zeros(PODS))
    memory: np.ndarray = field(default_factory=lambda: np.zeros(PODS))
    ready: np.ndarray = field(default_factory=lambda: np.ones(PODS, dtype=bool))

    def serve(self, requests: float, errors: float, rng: np.random.Generator) -> None:
        """Counts requests, `requests` of them on average, of which a share `errors` fails."""
        arrived = rng.poisson(requests / PODS, PODS)
        failed = rng.binomial(arrived, min(max(errors, 0.0), 0.99))
        self.failed += failed
        self.succeeded += arrived - failed

    def work(self, seconds: float, cpu: float, memory: float, unready: float) -> None:
        """Works for some seconds, with shares of the limits, and a share of pods not ready."""
        self.cpu_seconds += seconds * min(max(cpu, 0.01), 1.05) * _CPU_LIMIT
        self.memory[:] = max(memory, 0.01) * _MEMORY_LIMIT
        self.ready[:] = np.arange(PODS) >= round(PODS * unready)

    def lines(self) -> Iterator[str]:
        """Yields the samples in Prometheus' text format."""
        for pod in range(PODS):
            labels = f'namespace="{NAMESPACE}",pod="{self.service}-{self.name}-pod0{pod}"'
            traffic = f'{labels},service="{self.service}",version="{self.name}"'
            container = f'{labels},container="app",image="{self.service}:{self.name}"'
            limits = "kube_pod_container_resource_limits{" + labels
            yield f'http_requests_total{{{traffic},code="200"}} {self.succeeded[pod]}'
            yield f'http_requests_total{{{traffic},code="500"}} {self.failed[pod]}'
            yield f"container_cpu_usage_seconds_total{{{container}}} {self.cpu_seconds[pod]:.6f}"
            yield f"container_memory_working_set_bytes{{{container}}} {self.memory[pod]:.0f}"
            yield f'{limits},resource="cpu"}} {_CPU_LIMIT}'
            yield f'{limits},resource="memory"}} {_MEMORY_LIMIT}'
            yield f'kube_pod_status_ready{{{labels},condition="true"}} {self.ready[pod]:d}'
            yield f"kube_pod_info{{{labels}}} 1"
