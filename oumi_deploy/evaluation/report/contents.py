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

Keys: `policy` (what it is and was trained on), `judged_on`, `warnings` (where it must not be
trusted), `comparison` (rows and notes of `compare`), `reliability` (None if uncalibrated),
`false_alarms`, `delay`, `by` (a table for each of fault_type, service and telemetry) and `worst`
(decisions with their timeline and explanation). Numbers are finite or None.
"""

from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, GOOD, UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.compare import compare, held_out_baselines
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence
from oumi_deploy.evaluation.folds import assign_folds
from oumi_deploy.evaluation.metrics import Metric, drawn_sets, make_metric
from oumi_deploy.evaluation.reliability import end_risk, reliability
from oumi_deploy.evaluation.report.worst import worst_decisions
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.evaluation.seen_groups import of_seen_groups
from oumi_deploy.policy.answers import Answers
from oumi_deploy.policy.policy import DeploymentPolicy

BREAKDOWNS = ("fault_type", "service", "telemetry")
FEW = 5
"""Bad releases below which a breakdown says nothing."""


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
        n_folds: Grouped folds over which the baselines are fitted.
        baselines: Whether to fit them.
        n_worst: Decisions to show.
        seed: Seed of folds and intervals.

    Raises:
        DeployError: If no episode is labelled, or there are fewer groups than folds.
    """
    seen = of_seen_groups(policy.training_data, episodes)
    judged = episodes if seen.all() else episodes.select(~seen)
    if not (judged.labels != UNKNOWN).any():
        raise DeployError("no episode is labelled: there is nothing to report on")
    answers = policy_answers(policy, judged)
    scores = score(judged, answers.actions, policy.rewards, answers=answers)
    state = policy.encoder.names
    fitted = {}
    if baselines:
        folds = assign_folds(judged.group_codes(), n_folds, seed)
        fitted = held_out_baselines(judged, folds, policy.rewards, state, seed)
    table = compare(judged, {"policy": answers}, fitted, policy.rewards, state, seed)
    held = None
    if policy.calibration is not None:
        held = reliability(end_risk(scores, judged, answers.risk), seed)
    contents = {
        "policy": _describe_policy(policy),
        "judged_on": {**_count(judged), "n_trained_on": int(seen.sum()), "all_seen": seen.all()},
        "comparison": table,
        "reliability": held,
        "false_alarms": _false_alarms(policy, judged, scores, seed),
        "delay": _delay(scores),
        "by": {k: _breakdown(judged, scores, k) for k in BREAKDOWNS if k in judged.texts},
        "worst": worst_decisions(policy, judged, answers, scores, n_worst),
    }
    contents["warnings"] = _warnings(policy, judged, answers, contents)
    return _plain(contents)


def _describe_policy(policy: DeploymentPolicy) -> dict[str, Any]:
    calibration = policy.calibration
    training = {k: v for k, v in policy.training_data.items() if k != "group_digests"}
    return {
        "kind": policy.q_function.as_dict()["kind"],
        "form": policy.form,
        "state": list(policy.encoder.names),
        "rewards": policy.rewards.as_dict(),
        "discount": policy.discount,
        "training_data": training,
        "calibration": None if calibration is None else calibration.as_dict(),
    }


def _count(episodes: Episodes) -> dict[str, int]:
    return {
        "n_episodes": len(episodes),
        "n_groups": int(episodes.group_codes().max()) + 1,
        "n_good": int((episodes.labels == GOOD).sum()),
        "n_bad": int((episodes.labels == BAD).sum()),
        "n_unlabelled": int((episodes.labels == UNKNOWN).sum()),
    }


def _false_alarms(
    policy: DeploymentPolicy, episodes: Episodes, scores: Scores, seed: int
) -> dict[str, Any]:
    """Returns the mean over groups of their healthy releases' share rolled back."""
    good = ~scores.bad
    codes = episodes.group_codes()[scores.episode][good]
    _, groups = np.unique(codes, return_inverse=True)
    n_groups = int(groups.max(initial=-1)) + 1
    alpha = None if policy.calibration is None else policy.calibration.alpha
    return {
        "alpha": alpha,
        "n_groups": n_groups,
        "smallest_alpha": 1 / (n_groups + 1),
        "share": _mean_over_groups(scores.rolled_back[good], groups, n_groups, seed),
        "share_by_fallback": _mean_over_groups(
            (scores.rolled_back & scores.fell_back)[good], groups, n_groups, seed
        ),
    }


def _mean_over_groups(values: np.ndarray, groups: np.ndarray, n_groups: int, seed: int) -> Metric:
    note = "no good release was scored"
    if not n_groups:
        return make_metric(np.nan, np.empty(0), note, 0)
    shares = np.bincount(groups, values) / np.bincount(groups)
    drawn = [weights @ shares / n_groups for weights in drawn_sets(n_groups, seed)()]
    return make_metric(shares.mean(), np.concatenate(drawn), note, n_groups)


def _delay(scores: Scores) -> dict[str, Any]:
    """Returns the share of bad releases caught within each delay."""
    caught = scores.bad & scores.rolled_back
    timed = bool(np.isfinite(scores.delay_minutes[caught]).any())
    delays = (scores.delay_minutes if timed else scores.delay_steps)[caught]
    delays = np.sort(delays[np.isfinite(delays)])
    share = np.arange(1, len(delays) + 1) / max(int(scores.bad.sum()), 1)
    return {"unit": "minutes" if timed else "steps", "delays": delays, "share": share}


def _breakdown(episodes: Episodes, scores: Scores, column: str) -> list[dict[str, Any]]:
    words = episodes.texts[column][scores.episode]
    rows = []
    for word in sorted({str(w) for w in words if w is not None}):
        of = words.astype(str) == word
        bad, good = of & scores.bad, of & ~scores.bad
        delays = scores.delay_steps[bad & scores.rolled_back]
        rows.append(
            {
                "name": word,
                "n_bad": int(bad.sum()),
                "caught": int((bad & scores.rolled_back).sum()),
                "n_good": int(good.sum()),
                "disturbed": int((good & scores.rolled_back).sum()),
                "median_delay_steps": float(np.median(delays)) if len(delays) else None,
                "mean_reward": float(scores.reward[of].mean()),
            }
        )
    return rows


def _warnings(
    policy: DeploymentPolicy, episodes: Episodes, answers: Answers, contents: dict[str, Any]
) -> list[str]:
    """Says where the policy must not be trusted."""
    said, counts = [], contents["judged_on"]
    if counts["all_seen"]:
        said.append("Every release here is of a group that the policy was trained on: flattering.")
    if policy.calibration is None:
        said.append("It is not calibrated: no risk, no PAUSE. `oumi-deploy calibrate` fits that.")
    if counts["n_groups"] < 20:
        said.append(f"{counts['n_groups']} groups: the intervals themselves are rough.")
    if counts["n_bad"] < 20:
        said.append(f"{counts['n_bad']} bad releases: recall and delay are rough.")
    for column, rows in contents["by"].items():
        for row in rows:
            where = f"{column} {row['name']}"
            if 0 < row["n_bad"] < FEW:
                said.append(f"{where}: {row['n_bad']} bad releases are too few to say.")
            elif row["n_bad"] and row["caught"] < row["n_bad"] / 2:
                said.append(f"{where}: {row['caught']} of {row['n_bad']} bad releases caught.")
    for row in contents["comparison"]["rows"]:
        gain = row["gains"] and row["gains"]["mean_reward_with_delay"]
        if row["online"] and gain and gain["low"] is not None and gain["low"] <= 0:
            said.append(f"On these releases it is not shown to be better than: {row['name']}.")
    low = policy.encoder.low
    never = [n for n, x in zip(policy.encoder.names, low, strict=True) if np.isnan(x)]
    if never:
        said.append(f"Its training never had {', '.join(never)}: nothing was learnt from them.")
    evidence = policy_evidence(policy, episodes)
    for what, share in (("outside its training range", evidence.is_outside.mean()),
                        ("without telemetry", evidence.is_silent.mean())):  # fmt: skip
        if share > 0.01:
            said.append(f"{share:.1%} of the observations here are {what}.")
    return said


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
