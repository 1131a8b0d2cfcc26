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

"""Common sense, tried on a policy: what it answers where everybody knows the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from oumi_deploy.evaluation.vet import cases
from oumi_deploy.evaluation.vet.cases import FAILS, NOT_APPLICABLE, PASSES, Case, Effects, Run
from oumi_deploy.evaluation.vet.levels import read_levels
from oumi_deploy.evaluation.vet.trial import Trial, settings_of
from oumi_deploy.policy.policy import DeploymentPolicy

KEPT = "vet"
"""Name under which a policy file keeps a vet, in `calibration.fitted_on`."""


@dataclass(frozen=True)
class Finding:
    """What a case came to.

    Attributes:
        case: What is tried.
        result: PASSES, FAILS or NOT_APPLICABLE: that of the settings in which it applies, FAILS if
            it fails in one of them.
        answered: What the policy answered, of a case that fails where it does.
        why: Why it fails, and where; empty if it does not.
        runs: The case in each setting.
    """

    case: str
    result: str
    answered: str
    why: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Vet:
    """What a policy's common sense came to.

    Attributes:
        findings: Of each case.
        warnings: What could not be tried, and why, and what was assumed.
    """

    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """The cases that fail."""
        return tuple(f.case for f in self.findings if f.result == FAILS)

    @property
    def passes(self) -> bool:
        """Whether none fails."""
        return not self.failed

    @property
    def line(self) -> str:
        """The result in one line."""
        counts = {r: sum(f.result == r for f in self.findings) for r in (PASSES, NOT_APPLICABLE)}
        more = f", {counts[NOT_APPLICABLE]} not applicable" * bool(counts[NOT_APPLICABLE])
        line = f"{counts[PASSES]} of {len(self.findings)} cases pass{more}"
        return line + f"; FAILS: {', '.join(self.failed)}" * bool(self.failed)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values."""
        findings = [asdict(finding) for finding in self.findings]
        return {"passes": self.passes, "cases": findings, "warnings": list(self.warnings)}

    def kept(self) -> dict[str, Any]:
        """Returns what a policy file keeps of it."""
        return {
            "passes": self.passes,
            "failed": list(self.failed),
            "not_applicable": [f.case for f in self.findings if f.result == NOT_APPLICABLE],
        }


def vet(policy: DeploymentPolicy) -> Vet:
    """Tries the cases on a policy.

    Args:
        policy: Any policy, calibrated or not; without a risk of its own it is judged by the one
            that its Q-values imply.
    """
    levels = read_levels(policy, policy.guardrails.columns)
    trials = [Trial(policy, levels, setting) for setting in settings_of(policy)]
    metrics = trials[0].metrics
    effects = Effects({m: max(trial.effect(m) for trial in trials) for m in metrics})
    findings = [_finding(name, case, trials, effects) for name, case in _cases(metrics).items()]
    assumed = [
        f"{m} is taken to be {levels.usual[m]:g} as usual: the policy file tells no level of it"
        for m in levels.guessed
        if m in metrics
    ]
    return Vet(tuple(findings), (*_not_tried(findings), *assumed))


def _cases(metrics: Sequence[str]) -> dict[str, Case]:
    return {
        "outage": cases.outage,
        "tenfold errors that stay": cases.tenfold,
        **{f"{metric} worse and worse": cases.worse_and_worse(metric) for metric in metrics},
        "all as before": cases.as_before,
        "spike that heals": cases.healed_spike,
        "all missing": cases.all_missing,
        "one metric missing": cases.one_missing,
        "low traffic": cases.low_traffic,
    }


def _finding(name: str, case: Case, trials: Sequence[Trial], effects: Effects) -> Finding:
    runs = tuple(replace(case(trial, effects), setting=trial.setting.name) for trial in trials)
    results = [run.result for run in runs]
    result = next((r for r in (FAILS, PASSES) if r in results), NOT_APPLICABLE)
    shown = next(run for run in runs if run.result == result)
    answered = shown.answered
    if answered and shown.setting:
        answered = f"{shown.setting}: {answered}"
    failing = [run for run in runs if run.result == FAILS]
    where = f" ({_settings(failing)})" if 0 < len(failing) < len(runs) else ""
    return Finding(name, result, answered, failing[0].note + where if failing else "", runs)


def _settings(runs: Sequence[Run]) -> str:
    return "; ".join(run.setting or "with everything" for run in runs)


def _not_tried(findings: Sequence[Finding]) -> list[str]:
    """Returns why cases do not apply, each reason once, with the cases and settings."""
    cases: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        notes: dict[str, list[Run]] = {}
        for run in finding.runs:
            if run.result == NOT_APPLICABLE:
                notes.setdefault(run.note, []).append(run)
        for note, runs in notes.items():
            where = f" {_settings(runs)}" if len(runs) < len(finding.runs) else ""
            cases.setdefault((note, where), []).append(finding.case)
    return [
        f"not tried{where}: {', '.join(names)}: {note}" for (note, where), names in cases.items()
    ]


def vetted(policy: DeploymentPolicy) -> tuple[DeploymentPolicy, Vet]:
    """Returns a calibrated policy that keeps the result of its vet, and the vet."""
    found = vet(policy)
    if policy.calibration is None:
        return policy, found
    fitted_on = {**policy.calibration.fitted_on, KEPT: found.kept()}
    calibration = replace(policy.calibration, fitted_on=fitted_on)
    return replace(policy, calibration=calibration), found


def kept_vet(policy: DeploymentPolicy) -> Mapping[str, Any]:
    """Returns what a policy file keeps of its vet; where it keeps none, the cases are tried."""
    kept = None if policy.calibration is None else policy.calibration.fitted_on.get(KEPT)
    return kept if isinstance(kept, Mapping) else vet(policy).kept()


def in_words(kept: Mapping[str, Any]) -> str:
    """Returns what is kept of a vet in words, as in `fails its vet: outage, all missing`."""
    if kept.get("passes"):
        return "passes its vet"
    return f"fails its vet: {', '.join(kept.get('failed') or ())}"


def describe(found: Vet) -> str:
    """Returns a vet as a table to read."""
    heads = ("case", "result", "answered")
    rows = [heads, *((f.case, shown(f.result), f.answered) for f in found.findings)]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [
        f"{case:{widths[0]}}  {result:{widths[1]}}  {answered}".rstrip()
        for case, result, answered in rows
    ]
    failures = [f"{shown(FAILS)}: {f.case}: {f.why}" for f in found.findings if f.why]
    warnings = [f"warning: {warning}" for warning in found.warnings]
    return "\n".join([*lines, "", *warnings, *failures, found.line])


def shown(result: str) -> str:
    """Returns a result as a table shows it: a failure in capitals."""
    return result.upper() if result == FAILS else result
