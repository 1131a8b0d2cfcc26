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

"""What a report says of a policy on a set of episodes, as plain values.

Numbers are finite or None. A figure is `{"value", "low", "high"}`, with a `note` where one of them
is None; `low` and `high` are the ends of its 95 % interval from resampling groups.

- `policy`: `version` of its file, `kind` of its Q-function, `form`, `state`, `rewards`, `discount`,
  `training_data`, and `calibration` as in the policy file, None if it is not calibrated.
- `judged_on`: `n_episodes`, `n_groups`, `n_good`, `n_bad`, `n_held`, `n_unlabelled` and
  `n_censored` of what was judged; `n_in_file`; `n_trained_on` of these, of groups that the policy
  was trained on; `all_seen`, whether all are; `knows_groups`, whether the policy file tells;
  `calibrated_on_them`, whether it was calibrated on this file.
- `comparison`: `rows`, `notes` and `held_reward` of `compare`; the first row is the policy, and
  where it can pause and baselines were asked for, the second is what its Q-values alone would have
  done: ROLLBACK where that is worth more, else CONTINUE.
- `reliability`: what `reliability` returns, and `histogram` with the `edges` of its bins and the
  `good` and `bad` releases in them; None if the policy states no risk.
- `coverage`: see `risk_coverage`; None likewise.
- `watches`: of the `n_scored` releases, the `n_share_rose` in which the recording raised the share
  of traffic during a watch, or after it began.
- `false_alarms`, `delay` and `by` (for each text column that is there): see `outcomes`.
- `observations`: `n`, and the shares of them `out_of_range`, `silent` and with `few_requests`
  for its pauses; `untaught`, the features that the training split never had; `unreported`, those
  that it had and these episodes never have.
- `guardrails`: see `guardrails`; None where the policy has none.
- `vet`: see `vet`.
- `worst`: see `worst`.
- `warnings`: sentences on where the policy must not be trusted, see `trust`.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.compare import compare, held_out_baselines
from oumi_deploy.evaluation.evaluate import count_episodes, policy_answers, policy_evidence
from oumi_deploy.evaluation.folds import assign_folds
from oumi_deploy.evaluation.metrics import summarise
from oumi_deploy.evaluation.reliability import EndRisk, end_risk, reliability
from oumi_deploy.evaluation.report.guardrails import guardrail_contents
from oumi_deploy.evaluation.report.outcomes import BREAKDOWNS, breakdown, delay, false_alarms
from oumi_deploy.evaluation.report.trust import WITHOUT_PAUSES, what_speaks_against
from oumi_deploy.evaluation.report.vet import vet_contents
from oumi_deploy.evaluation.report.worst import worst_decisions
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.evaluation.seen_groups import of_seen_groups, without_digests
from oumi_deploy.evaluation.selective import risk_coverage
from oumi_deploy.policy.answers import Answers
from oumi_deploy.policy.attribution import says_risk
from oumi_deploy.policy.pauses import Evidence
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.encoder import encode_episodes
from oumi_deploy.problem.rewards import Action

_RISK_BINS = 20


def report_contents(
    policy: DeploymentPolicy,
    episodes: Episodes,
    *,
    n_folds: int = 5,
    baselines: bool = True,
    n_worst: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Judges a policy and gathers what an engineer should know of it.

    Episodes of groups that the policy was trained on are left out, unless there are no others.

    Args:
        policy: The policy.
        episodes: The episodes to judge on.
        n_folds: Grouped folds over which the baselines are fitted, 0 to leave one group out.
        baselines: Whether to fit them.
        n_worst: Decisions to show at most.
        seed: Seed of folds and intervals.

    Raises:
        DeployError: If no episode can be scored, the episodes lack a column, there are fewer
            groups than folds, or `n_worst` is below 0.
    """
    if n_worst < 0:
        raise DeployError(f"worst: {n_worst} is not 0 or more")
    seen = of_seen_groups(policy.training_data, episodes)
    judged = episodes if seen.all() else episodes.select(~seen)
    _require_labels(judged, int(seen.sum()))
    features = encode_episodes(policy.encoder.state, judged)
    evidence = policy_evidence(policy, judged, features=features)
    answers = policy_answers(policy, judged, evidence=evidence)
    scores = score(judged, answers.actions, policy.rewards, answers=answers)
    if not len(scores.bad):
        raise DeployError(
            "no episode can be scored: each labelled one was rolled back before the policy would "
            "have been; bring releases that ran to their end"
        )
    contents = {
        "policy": _describe_policy(policy),
        "judged_on": {
            **count_episodes(scores, judged),
            "n_in_file": len(episodes),
            "n_trained_on": int(seen.sum()),
            "all_seen": seen.all(),
            "knows_groups": policy.training_data.get("group_digests") is not None,
            "calibrated_on_them": _is_calibrated_on(policy, episodes),
        },
        "comparison": _compare(
            policy, judged, evidence, answers, n_folds if baselines else None, seed
        ),
        "reliability": _reliability(policy, judged, answers, scores, seed),
        "coverage": risk_coverage(scores, judged, answers.risk, policy.rewards, seed)
        if says_risk(policy)
        else None,
        "watches": {"n_scored": len(scores.bad), "n_share_rose": scores.share_rose.sum()},
        "false_alarms": false_alarms(policy, judged, scores, seed),
        "delay": delay(scores),
        "by": {k: rows for k in BREAKDOWNS if (rows := breakdown(judged, scores, k))},
        "observations": _describe_observations(policy, evidence, features),
        "guardrails": guardrail_contents(policy, judged, evidence, scores, seed),
        "vet": vet_contents(policy, judged),
        "worst": worst_decisions(policy, judged, evidence, answers, scores, n_worst),
    }
    return _plain({**contents, "warnings": what_speaks_against(contents)})


def _require_labels(episodes: Episodes, n_left_out: int) -> None:
    if (episodes.labels != UNKNOWN).any():
        return
    of = f" among the {len(episodes)} of groups that it was not trained on" * bool(n_left_out)
    raise DeployError(
        f"no episode{of} is labelled: there is nothing to report on; set `label` to good or bad"
    )


def _compare(
    policy: DeploymentPolicy,
    episodes: Episodes,
    evidence: Evidence,
    answers: Answers,
    n_folds: int | None,
    seed: int,
) -> dict[str, Any]:
    if n_folds is None:
        scores = score(episodes, answers.actions, policy.rewards, answers=answers)
        metrics = summarise(scores, episodes, seed)
        alone = {"name": "policy", "online": True, "metrics": metrics, "gains": None}
        notes = ["Baselines were not asked for."]
        return {"rows": [alone], "notes": notes, "held_reward": policy.rewards.held}
    state = policy.encoder.names
    try:
        folds = assign_folds(episodes.group_codes(), n_folds, seed)
        fitted = held_out_baselines(episodes, folds, policy.rewards, state, seed)
    except DeployError as error:
        raise DeployError(f"{error}; --no-baselines reports on the policy alone") from error
    if says_risk(policy):
        q_continue, q_rollback = evidence.by_action
        alone = np.where(q_rollback > q_continue, Action.ROLLBACK, Action.CONTINUE)
        fitted = {WITHOUT_PAUSES: alone, **fitted}
    return compare(episodes, {"policy": answers}, fitted, policy.rewards, state, seed)


def _describe_policy(policy: DeploymentPolicy) -> dict[str, Any]:
    calibration = policy.calibration
    if calibration is not None:
        calibration = replace(calibration, fitted_on=without_digests(calibration.fitted_on))
    return {
        "version": policy.version,
        "kind": policy.q_function.as_dict()["kind"],
        "form": policy.form,
        "state": list(policy.encoder.names),
        "rewards": policy.rewards.as_dict(),
        "discount": policy.discount,
        "training_data": without_digests(policy.training_data),
        "calibration": None if calibration is None else calibration.as_dict(),
    }


def _is_calibrated_on(policy: DeploymentPolicy, episodes: Episodes) -> bool:
    calibration = policy.calibration
    return (
        calibration is not None
        and calibration.fitted_on.get("fingerprint") == episodes.fingerprint()
    )


def _reliability(
    policy: DeploymentPolicy, episodes: Episodes, answers: Answers, scores: Scores, seed: int
) -> dict[str, Any] | None:
    if not says_risk(policy):
        return None
    ends = end_risk(scores, episodes, answers.risk)
    return {**reliability(ends, seed), "histogram": _histogram(ends)}


def _histogram(ends: EndRisk) -> dict[str, np.ndarray]:
    edges = np.linspace(0.0, 1.0, _RISK_BINS + 1)
    good, bad = (np.histogram(ends.risk[ends.bad == is_bad], edges)[0] for is_bad in (False, True))
    return {"edges": edges, "good": good, "bad": bad}


def _describe_observations(
    policy: DeploymentPolicy, evidence: Evidence, features: np.ndarray
) -> dict[str, Any]:
    encoder, least = policy.encoder, policy.least_requests if says_risk(policy) else 0.0
    return {
        "n": len(evidence.q_values),
        "out_of_range": evidence.is_outside.mean(),
        "silent": evidence.is_silent.mean(),
        "few_requests": (evidence.requests < least).mean(),
        "untaught": list(encoder.untaught),
        "unreported": encoder.unreported(features),
    }


def _plain(value: Any) -> Any:
    """Returns nested values with numpy's types and NaN taken out."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
