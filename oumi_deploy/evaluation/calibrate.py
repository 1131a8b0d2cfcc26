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

"""Fitting a policy's calibration on releases that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, GOOD, UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence
from oumi_deploy.evaluation.false_alarms import least_rollback_risk
from oumi_deploy.evaluation.guarding import fired, guard_codes, require_read
from oumi_deploy.evaluation.reliability import EndRisk, reliability
from oumi_deploy.evaluation.scoring import end_of_rollouts
from oumi_deploy.evaluation.seen_groups import group_digests, of_seen_groups
from oumi_deploy.policy.calibration import UNCALIBRATED, Calibration, belief_log_odds, check_alpha
from oumi_deploy.policy.guardrails import Guardrails
from oumi_deploy.policy.pauses import Evidence, PauseRules
from oumi_deploy.policy.policy import FORMAT_VERSION, DeploymentPolicy
from oumi_deploy.problem.rewards import Rewards

PRIOR = 1.0
"""Weight, in releases, of the belief that Q-values mean what they say: slope 1, intercept 0."""

_FOLDS = 5
_FLAT = 1e-3


def calibrate(
    policy: DeploymentPolicy,
    episodes: Episodes,
    *,
    pauses: PauseRules | None = None,
    alpha: float | None = None,
    guardrails: Guardrails | None = None,
    seed: int = 0,
) -> DeploymentPolicy:
    """Returns the policy with a calibration fitted on these episodes.

    Each release counts once, half of it where its rollout ends and half spread over all of its
    observations: were those after the end left out, what is caught early would be missing from all
    later looks, and a first look that shows nothing would seem riskier than it is. Unlabelled
    releases, and groups that the policy was trained on, are left out. With both `alpha` and
    `max_doubt`, one half of the groups gives the risk and the other the bound, which would not hold
    for a rule that depends on the same releases.

    Args:
        policy: The policy; a calibration that it has is replaced.
        episodes: Episodes, labelled and of other groups than the training split.
        pauses: When the policy holds its answer back; the defaults if None.
        alpha: Bound on the expected share of healthy releases rolled back; None for no bound.
        guardrails: The team's own limits; those that the policy has already if None.
        seed: Seed of the folds and intervals of the figures, and of the halves.

    Raises:
        DeployError: If what is left is of one label or of one group, if risk does not rise with
            Q(ROLLBACK) on it, if it does not support alpha, or if a guardrail is on the better side
            of a metric or reads what no release reports.
    """
    check_alpha(alpha)
    policy = replace(policy, version=FORMAT_VERSION)
    pauses = PauseRules() if pauses is None else pauses
    guardrails = policy.guardrails if guardrails is None else guardrails
    guardrails.check_directions(policy.encoder.directions or {})
    require_read(guardrails, episodes)
    known = episodes.select(episodes.labels != UNKNOWN)
    seen = of_seen_groups(policy.training_data, known)
    known = known.select(~seen)
    _require_both(known, int(seen.sum()))
    for_risk, for_bound = _parts(known, alpha is not None and pauses.max_doubt is not None, seed)

    seen_so_far = _look(policy, for_risk, pauses, guardrails)
    fitted = fit_map([seen_so_far.points])
    calibration = replace(fitted, pauses=pauses, guardrails=guardrails)
    if alpha is not None:
        evidence = seen_so_far.evidence
        if for_bound is not for_risk:
            evidence = policy_evidence(replace(policy, calibration=calibration), for_bound)
        unbound = replace(policy, calibration=calibration)
        least = least_rollback_risk(unbound, for_bound, evidence, alpha)
        calibration = replace(calibration, alpha=alpha, rollback_from=least)
    about = {
        "fingerprint": episodes.fingerprint(),
        **_counted(known),
        "n_left_out_as_trained_on": int(seen.sum()),
        **_figures(seen_so_far, policy.rewards, for_risk, seed),
        **_on_guardrails(guardrails, pauses, [seen_so_far], [for_risk]),
    }
    return replace(policy, calibration=replace(calibration, fitted_on=about))


def _counted(episodes: Episodes) -> dict[str, Any]:
    """Returns of which releases a calibration is."""
    return {
        "n_groups": episodes.n_groups,
        "n_good": int((episodes.labels == GOOD).sum()),
        "n_bad": int((episodes.labels == BAD).sum()),
        "group_digests": group_digests(episodes),
    }


def _require_both(episodes: Episodes, n_left_out: int) -> None:
    left_out = f" ({n_left_out} are of groups that it was trained on)" * bool(n_left_out)
    if not all((episodes.labels == label).any() for label in (GOOD, BAD)):
        raise DeployError(
            "calibration needs good and bad releases that the policy was not trained on, and "
            f"these are not both{left_out}: bring other groups"
        )
    if episodes.n_groups < 2:
        raise DeployError(
            f"calibration needs two groups or more, and these are of one{left_out}: one group "
            "does not tell what another will do"
        )


def _parts(episodes: Episodes, split: bool, seed: int) -> tuple[Episodes, Episodes]:
    """Returns the episodes for the risk and those for the bound: all for both, or half each."""
    if not split:
        return episodes, episodes
    halves = GroupKFold(2, shuffle=True, random_state=seed)
    one, other = next(halves.split(episodes.labels, groups=episodes.group_codes()))
    first, second = episodes.select(one), episodes.select(other)
    _require_both(first, 0)
    return first, second


@dataclass(frozen=True, eq=False)
class Points:
    """What the map of belief onto risk is fitted to, one entry an observation.

    Attributes:
        log_odds: Belief, see `belief_log_odds`, shape (n,).
        bad: Whether the release is bad, shape (n,).
        weights: Shape (n,); those of a release sum to 1.
    """

    log_odds: np.ndarray
    bad: np.ndarray
    weights: np.ndarray

    def select(self, which: np.ndarray) -> "Points":
        """Returns some of the points."""
        return Points(self.log_odds[which], self.bad[which], self.weights[which])


@dataclass(frozen=True, eq=False)
class _Look:
    """What a policy makes of labelled episodes.

    Attributes:
        evidence: What their observations carry.
        ends: Decision at which each rollout ends before doubt has a say, int (n_episodes,).
        points: What the map of belief onto risk is fitted to.
    """

    evidence: Evidence
    ends: np.ndarray
    points: Points


def _look(
    policy: DeploymentPolicy,
    episodes: Episodes,
    pauses: PauseRules,
    guardrails: Guardrails | None = None,
) -> _Look:
    guardrails = Guardrails() if guardrails is None else guardrails
    as_is = Calibration(0.0, 1.0, replace(pauses, max_doubt=None), guardrails=guardrails)
    policy = replace(policy, calibration=as_is)
    evidence = policy_evidence(policy, episodes)
    actions = policy_answers(policy, episodes, evidence=evidence).actions
    ends = end_of_rollouts(actions, episodes)
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    weights = 0.5 / episodes.canary_lengths[of]
    weights[ends] += 0.5
    odds = belief_log_odds(evidence.q_values, policy.rewards)
    return _Look(evidence, ends, Points(odds, episodes.labels[of], weights))


def cross_fit(
    policies: Sequence[DeploymentPolicy],
    episodes: Episodes,
    folds: np.ndarray,
    pauses: PauseRules,
    guardrails: Guardrails | None = None,
    seed: int = 0,
) -> Calibration:
    """Returns a calibration from what policies say of the fold that each was not trained on.

    It is for the policy that is trained on all the folds as each of these was on the others, so
    that no release need be held out. It carries no bound on false alarms: that would hold for the
    policies that said this, not for the one that is used.

    Args:
        policies: One for each fold, in the order of the folds.
        episodes: The episodes; unlabelled ones are left out.
        folds: Fold of each episode, int of shape (n_episodes,); no group is in two folds.
        pauses: When the policy holds its answer back.
        guardrails: The team's own limits; none if None.
        seed: Seed of the intervals of the figures.

    Raises:
        DeployError: If risk does not rise with Q(ROLLBACK) on these.
    """
    guardrails = Guardrails() if guardrails is None else guardrails
    known = episodes.labels != UNKNOWN
    held_out = [episodes.select((folds == fold) & known) for fold in np.unique(folds)]
    judged = [(p, part) for p, part in zip(policies, held_out, strict=True) if len(part)]
    looks, parts = [_look(*one, pauses, guardrails) for one in judged], [e for _, e in judged]
    about = {
        "how": "cross-fitted",
        "n_folds": len(held_out),
        "fingerprint": episodes.fingerprint(),
        **_counted(episodes.select(known)),
        **_figures_of_folds(looks, parts, policies[0].rewards, seed),
        **_on_guardrails(guardrails, pauses, looks, parts),
    }
    fitted = fit_map([look.points for look in looks])
    return replace(fitted, pauses=pauses, fitted_on=about, guardrails=guardrails)


def _figures_of_folds(
    looks: Sequence[_Look], held_out: Sequence[Episodes], rewards: Rewards, seed: int
) -> dict[str, Any]:
    """Returns calibration error and Brier score where each fold's map is fitted on the others."""
    ends: list[EndRisk] = []
    for fold, (look, episodes) in enumerate(zip(looks, held_out, strict=True)):
        fitted = _map_or_belief([other.points for other in looks if other is not look])
        risk = fitted.risk(look.evidence.q_values[look.ends], rewards)
        groups = episodes.group_codes() + sum(e.n_groups for e in held_out[:fold])
        ends.append(EndRisk(risk, episodes.labels == BAD, groups))
    risk, bad, groups = (
        np.concatenate([getattr(one, f.name) for one in ends]) for f in fields(EndRisk)
    )
    return _held_figures(EndRisk(risk, bad, groups), seed)


def fit_map(parts: Sequence[Points]) -> Calibration:
    """Returns the map of belief onto risk, without anything else of a calibration.

    It minimises the weighted log loss, held towards risk as believed as if by PRIOR releases.

    Raises:
        DeployError: If risk does not rise with belief.
    """
    odds, bad, weights = (
        np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Points)
    )
    # What grows by itself where the belief is low, and where it is high; they sum to the log odds.
    inputs = np.stack([np.ones_like(odds), -np.logaddexp(0, -odds), np.logaddexp(0, odds)], axis=1)
    as_believed = np.array([0.0, 1.0, 1.0])

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        score = inputs @ line
        away = line - as_believed
        value = weights @ (np.logaddexp(0, score) - bad * score) + PRIOR / 2 * away @ away
        return float(value), (weights * (expit(score) - bad)) @ inputs + PRIOR * away

    bounds = [(None, None), (_FLAT, None), (_FLAT, None)]
    found = minimize(loss, as_believed, jac=True, bounds=bounds)
    intercept, low, high = (float(x) for x in found.x)
    if max(low, high) <= _FLAT:
        raise DeployError(
            "these releases are no worse where the policy expects more of ROLLBACK: it knows "
            "nothing of them that a risk could be read from; train it on more or other releases"
        )
    return Calibration(intercept, low, bend=high - low)


def _figures(look: _Look, rewards: Rewards, episodes: Episodes, seed: int) -> dict[str, Any]:
    """Returns calibration error and Brier score where each group's map is fitted on the others."""
    folds = GroupKFold(min(_FOLDS, episodes.n_groups), shuffle=True, random_state=seed)
    groups, q_values = episodes.group_codes(), look.evidence.q_values[look.ends]
    of = np.repeat(np.arange(len(episodes)), episodes.canary_lengths)
    risk = np.empty(len(episodes))
    for others, held_out in folds.split(risk, groups=groups):
        fitted = _map_or_belief([look.points.select(np.isin(of, others))])
        risk[held_out] = fitted.risk(q_values[held_out], rewards)
    return _held_figures(EndRisk(risk, episodes.labels == BAD, groups), seed)


def _map_or_belief(parts: Sequence[Points]) -> Calibration:
    try:
        return fit_map(parts)
    except DeployError:
        return UNCALIBRATED


def _held_figures(ends: EndRisk, seed: int) -> dict[str, Any]:
    held = reliability(ends, seed)
    return {name: held[name] for name in ("calibration_error", "brier")}


def _on_guardrails(
    guardrails: Guardrails,
    pauses: PauseRules,
    looks: Sequence[_Look],
    parts: Sequence[Episodes],
) -> dict[str, Any]:
    """Returns on how many good and bad releases each guardrail fired; nothing without one."""
    if not guardrails.rails:
        return {}
    on = []
    for look, episodes in zip(looks, parts, strict=True):
        codes = guard_codes(guardrails, episodes, look.evidence.requests < pauses.min_requests)
        on.append(fired(codes, look.ends, episodes))
    is_on = np.concatenate(on)
    labels = np.concatenate([episodes.labels for episodes in parts])
    counts = {
        name: [int(found.sum()) for found in is_on[labels == label].T]
        for name, label in (("fired_on_good", GOOD), ("fired_on_bad", BAD))
    }
    return {"guardrails": {"names": list(guardrails.names), **counts}}
