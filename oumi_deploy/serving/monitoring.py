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
"""What the service tells Prometheus of itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Monitoring:
    """Counters of one service.

    Attributes:
        decisions: Answers, by decision, face, and whether they were in shadow mode.
        reasons: Why answers were not simply what the policy prefers, by reason.
        telemetry_failures: Questions for which the telemetry could not be collected.
        seconds: Time to an answer.
        outcomes: Reported outcomes that were new, by source and label.
        refused: Requests that were refused, by status.
        unlogged: Answers that could not be logged.
        clipped: Values of telemetry that the episode format does not allow, by metric.
        policy: 1 for the policy in use, by version.
        policy_refused: 1 while the policy file was refused.
        log_writable: Whether the decision log takes entries.
        log_spooled: Entries that wait for the database.
        rollouts: Rollouts held in memory.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.decisions = Counter(
            "oumi_deploy_decisions", "Answers", ["decision", "face", "shadow"], registry=own
        )
        self.reasons = Counter("oumi_deploy_reasons", "Reasons", ["reason"], registry=own)
        self.telemetry_failures = Counter(
            "oumi_deploy_telemetry_failures", "Failed collections", registry=own
        )
        self.seconds = Histogram(
            "oumi_deploy_decision_seconds", "Time to an answer", buckets=_SECONDS, registry=own
        )
        self.outcomes = Counter(
            "oumi_deploy_outcomes", "New outcomes", ["source", "label"], registry=own
        )
        self.refused = Counter("oumi_deploy_refused", "Refused requests", ["status"], registry=own)
        self.unlogged = Counter(
            "oumi_deploy_unlogged", "Answers that are not in the log", registry=own
        )
        self.clipped = Counter(
            "oumi_deploy_clipped", "Values outside of the format", ["metric"], registry=own
        )
        self.policy = Gauge("oumi_deploy_policy", "The policy in use", ["version"], registry=own)
        self.policy_refused = Gauge(
            "oumi_deploy_policy_refused", "1 while the policy file was refused", registry=own
        )
        self.log_writable = Gauge(
            "oumi_deploy_log_writable", "1 if the log takes entries", registry=own
        )
        self.log_spooled = Gauge(
            "oumi_deploy_log_spooled", "Entries that wait to be logged", registry=own
        )
        self.rollouts = Gauge("oumi_deploy_rollouts_held", "Rollouts in memory", registry=own)

    def text(self) -> bytes:
        """Returns all in Prometheus' text format."""
        return generate_latest(self.registry)
