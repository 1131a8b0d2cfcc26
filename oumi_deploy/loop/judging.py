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

"""Whether a challenger takes the champion's place."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence
from oumi_deploy.evaluation.offpolicy import estimate_policy, value_features
from oumi_deploy.evaluation.vet.vet import in_words
from oumi_deploy.loop.paired import LEAST_GROUPS, figures_of, join, pair
from oumi_deploy.loop.reviews import are_enough, review_shares, review_weights
from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.policy.policy import DeploymentPolicy

_KINDS = {"rolled_back": "rolled-back", "completed": "other"}


@dataclass(frozen=True)
class Verdict:
    """What judging came to.

    Attributes:
        promotes: Whether the challenger is to be champion.
        reason: Why, or why not, in a sentence.
        figures: `trusted` and `new`, each as of `figures_of`, and `together`, which decides;
            `reviewed`, how many of the new ones are labelled, without those that incidents told of;
            `new_count`, whether they count.
        log_alone: What the decision log alone says of the challenger; it never decides.
        vets: What is kept of the vets of `champion` and `challenger`; one that fails is never
            promoted.
    """

    promotes: bool
    reason: str
    figures: dict[str, Any]
    log_alone: dict[str, Any]
    vets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Releases that neither policy was trained or calibrated on, as far as their files tell.

    Attributes:
        trusted: Those of the trusted file, labelled or not.
        new: New ones, labelled or not.
        incidents: Ids of the new ones that incidents told of.
        not_listed: What may be among the new ones in spite of that, see `not_listed`; None where
            nothing can be.
    """

    trusted: Episodes
    new: Episodes
    incidents: Collection[str] = ()
    not_listed: str | None = None


def judge(
    champion: DeploymentPolicy,
    challenger: DeploymentPolicy,
    held_out: HeldOut,
    settings: LoopSettings,
) -> Verdict:
    """Judges both on releases held out.

    Args:
        champion: The champion.
        challenger: The challenger.
        held_out: The releases.
        settings: What the challenger must show.

    Raises:
        DeployError: If no labelled release of the trusted file is left, or a column of the state
            is missing.
    """
    trusted, new = held_out.trusted, held_out.new
    if not (trusted.labels != UNKNOWN).any():
        raise DeployError(
            "trusted_episodes: all of its groups were trained or calibrated on: name a file of "
            "others"
        )
    reviewed = review_shares(new, held_out.incidents)
    is_labelled = bool((new.labels != UNKNOWN).any())
    is_known = held_out.not_listed is None and are_enough(reviewed, settings.least_reviewed)
    counts = is_labelled and is_known
    parts = {"trusted": pair(champion, challenger, trusted, np.ones(len(trusted)))}
    if is_labelled:
        weights = review_weights(new, held_out.incidents)
        parts["new"] = pair(champion, challenger, new, weights)
    figures: dict[str, Any] = {
        name: figures_of(part, settings.seed) for name, part in parts.items()
    }
    if counts:
        figures["together"] = figures_of(join(list(parts.values())), settings.seed)
    else:
        figures["together"] = figures["trusted"]
    figures |= {"reviewed": reviewed, "new_count": counts}
    promotes, reason = decide(figures["together"], settings.recall_margin)
    return Verdict(
        promotes,
        "; ".join([reason, *_why_new_does_not_count(held_out, reviewed, settings)]),
        figures,
        ask_log(challenger, new, settings.seed),
    )


def with_vets(verdict: Verdict, vets: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Returns a verdict that promotes no challenger that fails its vet, and says who fails."""
    failing = [f"the {who} {in_words(vet)}" for who, vet in vets.items() if not vet["passes"]]
    reason = "; ".join([*failing, verdict.reason])
    if not vets["challenger"]["passes"] and verdict.promotes:
        reason = f"{'; '.join(failing)}; but for that it would be promoted: {verdict.reason}"
    promotes = verdict.promotes and bool(vets["challenger"]["passes"])
    return replace(verdict, promotes=promotes, reason=reason, vets=vets)


def decide(figures: Mapping[str, Any], recall_margin: float) -> tuple[bool, str]:
    """Returns whether figures as of `figures_of` promote, and why.

    Args:
        figures: The figures of all held-out releases that count.
        recall_margin: Share of the bad releases, 0..1, that may be let through besides. What is
            held for a person is not let through.
    """
    bound = figures["gain"]["lower_bound"]
    if bound is None:
        return False, f"{figures['n_groups']} held-out groups, and {LEAST_GROUPS} are the least"
    if not figures["n_bad"]:
        return False, "no bad release is held out"
    before, after = (figures[who]["let_through"] for who in ("champion", "challenger"))
    missed = f"of the bad releases {before:.3f} let through before, {after:.3f} after"
    if after > before + recall_margin:
        return False, f"{missed}: more than {recall_margin:g} is lost"
    if bound <= 0:
        return False, f"the gain's lower bound is {bound:.2f}, not above 0; {missed}"
    return True, f"the gain's lower bound is {bound:.2f}, above 0; {missed}"


def ask_log(policy: DeploymentPolicy, new: Episodes, seed: int) -> dict[str, Any]:
    """Estimates what a policy earns from the propensities of held-out releases.

    Returns:
        What `estimate_policy` does, or `{"refused": reason}` where the log cannot tell.
    """
    if not len(new):
        return {"refused": "no new release is held out"}
    evidence = policy_evidence(policy, new)
    answers = policy_answers(policy, new, evidence=evidence)
    told, features = {"answers": answers, "seed": seed}, value_features(evidence.q_values, new)
    try:
        return estimate_policy(new, answers.actions, policy.rewards, features, **told)
    except DeployError as error:
        return {"refused": str(error)}


def _why_new_does_not_count(
    held_out: HeldOut, reviewed: Mapping[str, Any], settings: LoopSettings
) -> list[str]:
    if not (held_out.new.labels != UNKNOWN).any():
        return ["no new release held out is labelled"]
    least, unknown = settings.least_reviewed, held_out.not_listed
    may_be_seen = [] if unknown is None else [f"they may be among {unknown}"]
    too_few = [
        f"of {part['n_releases']} {_KINDS[kind]} ones {part['n_labelled']} are labelled, less "
        f"than {least:g}"
        for kind, part in reviewed.items()
        if part["share"] < least
    ]
    return [f"new releases do not count: {why}" for why in (*may_be_seen, *too_few)]
