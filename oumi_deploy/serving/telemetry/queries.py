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

"""What is asked of Prometheus: one query per metric, for the new and for the old version.

The defaults are those of a Deployment or a rollout on Kubernetes, with the usual names of HTTP
counters, cAdvisor and kube-state-metrics. Placeholders outside quotes:

  {traffic} {pods}              label matchers of the version asked for, see `Selector`
  {other_traffic} {other_pods}  those of the other version
  {window}                      the window of a rate, such as 60s
  {step}                        seconds that a row stands for

and between quotes `{service}`, `{namespace}` (the environment) and `{version}` (the new one).
`fresh(SELECTOR)` leaves out samples older than the window.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from oumi_deploy.episodes.schema import CONTROL, ROLLOUT_COLUMNS
from oumi_deploy.serving.telemetry.template import expand_fresh, fill

if TYPE_CHECKING:
    from oumi_deploy.serving.telemetry.settings import TelemetrySettings

_ERRORS = 'sum(rate(http_requests_total{{traffic},code=~"5.."}[{window}]))'
_REQUESTS = "sum(rate(http_requests_total{{traffic}}[{window}]))"
_OTHER_REQUESTS = "sum(rate(http_requests_total{{other_traffic}}[{window}]))"
_MEMORY = 'sum(fresh(container_memory_working_set_bytes{{pods},container!="",image!=""}))'
_CPU = 'sum(rate(container_cpu_usage_seconds_total{{pods},container!="",image!=""}[{window}]))'
_LIMIT = 'sum(fresh(kube_pod_container_resource_limits{{pods},resource="%s"}))'
_READY = 'sum(fresh(kube_pod_status_ready{{pods},condition="true"}))'
_PODS = "count(fresh(kube_pod_info{{pods}}))"

DEFAULT_QUERIES: Mapping[str, str] = MappingProxyType(
    {
        # A version that never failed has no series of failures: then 0, if it had requests.
        "error_rate": f"({_ERRORS} or 0 * {_REQUESTS}) / {_REQUESTS}",
        "requests": f"{_REQUESTS} * {{step}}",
        "memory_usage": f"{_MEMORY} / {_LIMIT % 'memory'}",
        "cpu_usage": f"{_CPU} / {_LIMIT % 'cpu'}",
        "health_score": f"{_READY} / {_PODS}",
        # Without `or 0`: an old version that is not measured is not one without traffic.
        "canary_share": f"{_REQUESTS} / ({_REQUESTS} + {_OTHER_REQUESTS})",
        "n_pods": _PODS,
    }
)

_NEW_ONLY = frozenset(ROLLOUT_COLUMNS) - {"requests"}
"""Columns that say something of the new version only."""


class ReleaseName(NamedTuple):
    """What names a release: texts that a caller chose."""

    service: str
    environment: str
    """Where it runs: a namespace, on Kubernetes."""
    version: str
    """The new version."""


@dataclass(frozen=True)
class Selector:
    """Label matchers that tell one version's series from the other's.

    Attributes:
        traffic: For the series of requests.
        pods: For the series of pods and containers.
    """

    traffic: str
    pods: str


# A pod's name ends in the hash of its template and five characters of its own. The hash is the
# version, as Argo Rollouts hands it over (`podTemplateHashValue: Latest`).
_NEW_PODS = 'namespace="{namespace}",pod=~"{service}-{version}-[a-z0-9]{5}"'
_OLD_PODS = (
    'namespace="{namespace}",pod=~"{service}-[a-z0-9]+-[a-z0-9]{5}",'
    'pod!~"{service}-{version}-[a-z0-9]{5}"'
)
DEFAULT_CANARY = Selector(traffic=_NEW_PODS, pods=_NEW_PODS)
DEFAULT_STABLE = Selector(traffic=_OLD_PODS, pods=_OLD_PODS)


def queries_of_new(settings: "TelemetrySettings", name: ReleaseName) -> dict[str, str]:
    """Returns the PromQL of each metric of the new version.

    Raises:
        DeployError: If a name that a query needs is empty, or a template is malformed.
    """
    return _queries(settings, name, settings.canary, settings.stable)


def queries_of_old(settings: "TelemetrySettings", name: ReleaseName) -> dict[str, str]:
    """Returns the PromQL of each metric of the old version, see `queries_of_new`."""
    queries = _queries(settings, name, settings.stable, settings.canary)
    return {metric: query for metric, query in queries.items() if metric not in _NEW_ONLY}


def columns_of(settings: "TelemetrySettings") -> set[str]:
    """Returns the columns that the queries give, of the new version and of the old one."""
    return {*settings.queries, *(CONTROL + m for m in settings.queries if m not in _NEW_ONLY)}


def _queries(
    settings: "TelemetrySettings", name: ReleaseName, own: Selector, other: Selector
) -> dict[str, str]:
    names = {"service": name.service, "namespace": name.environment, "version": name.version}
    code = {
        "traffic": fill(own.traffic, names, {}, "traffic"),
        "pods": fill(own.pods, names, {}, "pods"),
        "other_traffic": fill(other.traffic, names, {}, "traffic"),
        "other_pods": fill(other.pods, names, {}, "pods"),
        "window": f"{settings.window}s",
        "step": str(settings.step),
    }
    queries = {}
    for metric, template in settings.queries.items():
        where = f"queries.{metric}"
        template = expand_fresh(template, settings.window, where)
        queries[metric] = fill(template, names, code, where)
    return queries
