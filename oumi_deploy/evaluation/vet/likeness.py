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

"""How like some releases are to those that a policy was made for.

They are held against what the policy's state knows of its training: which metrics have values, how
far these pass the range of training, and where they usually lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import BAD, GOOD
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.policy.answers import Answers
from oumi_deploy.policy.calibration import UNCALIBRATED
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.directions import is_counted
from oumi_deploy.problem.encoder import StateEncoder, encode_episodes
from oumi_deploy.problem.state import SHARES, telling_metrics

MADE_FOR, TRAIN_FIRST = "made for releases like these", "train on your own first"

LEAST = 10
"""Releases of fewer than these nothing is said."""

MOST_HELD = 0.2
"""Share of releases that end held or by the fallback of a pause, from which on a policy is not made
for them."""

MOST_OUTSIDE = 0.2
"""The same of releases with a value that is worse than all that training has seen."""

_OFTEN = 0.5
"""Share of observations with a value from which on a metric counts as reported."""

_AWAY = 3.0
"""Distance of a usual value from that of training, in units of the spread there, from which on it
is another level. Better levels count as well: there it takes more until a value looks bad."""

_LEAST_RIGHT = 0.5
"""Share of labelled bad releases caught, or good ones let go on, below which it does not serve."""

_LEAST_LABELLED = 5
_LEVELS = (("value", "mean"), ("baseline", "baseline_mean"), ("control", "control_mean"))
"""Kinds of features that tell where a metric lies; of those in one bracket the first that is there
is looked at."""

_BESIDE = {
    "baseline": "beside its baseline",
    "baseline_mean": "beside its baseline",
    "control": "beside the old version",
    "control_mean": "beside the old version",
}


@dataclass(frozen=True)
class Level:
    """Where a metric of the state usually lies.

    Attributes:
        feature: Name of the feature, as in `error_rate.control`.
        here: Median of it over the observations, None where it has no value.
        trained: Median of it in the training split, None where it had no value.
        apart: How far they are apart, in units of the spread in the training split; above 0 where
            it is higher here. 0 where one of them is not known.
    """

    feature: str
    here: float | None
    trained: float | None
    apart: float


@dataclass(frozen=True)
class Likeness:
    """How like releases are to those that a policy was made for.

    Attributes:
        n: Releases.
        verdict: MADE_FOR, TRAIN_FIRST, or empty where they are too few to say.
        reasons: What the verdict rests on, sentences.
        missing: Metrics that training had values of and that are hardly ever reported here.
        outside: Share of releases with a value worse than all that training has seen, by metric.
        share_outside: The same of any metric.
        levels: Of each metric that tells how the new version fares.
        share_held: Share of the releases that would end held for a person.
        share_fell_back: Share that would end by the fallback of a pause.
        share_rolled_back: Share that would be rolled back.
        caught: Share of the releases labelled bad that would be rolled back, None without enough.
        let_go_on: Share of the releases labelled good that would not be, None likewise.
    """

    n: int
    verdict: str
    reasons: tuple[str, ...]
    missing: tuple[str, ...]
    outside: Mapping[str, float]
    share_outside: float
    levels: tuple[Level, ...]
    share_held: float
    share_fell_back: float
    share_rolled_back: float
    caught: float | None
    let_go_on: float | None

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return asdict(self)

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if not self.verdict:
            return f"{self.n} releases: too few to say how like they are to those of its training"
        return f"{self.verdict} ({self.n} releases): {'; '.join(self.reasons)}"


def likeness(policy: DeploymentPolicy, episodes: Episodes) -> Likeness:
    """Holds releases against those that a policy was trained on.

    Args:
        policy: The policy.
        episodes: The releases, labelled or not; how they ended does not matter.

    Raises:
        DeployError: If the episodes lack all columns that the policy's state is made from.
    """
    encoder = policy.encoder
    features = encode_episodes(encoder.state, episodes)
    evidence = policy_evidence(policy, episodes, features=features)
    answers = policy_answers(policy, episodes, evidence=evidence)
    metrics = telling_metrics(encoder.metrics)
    ends = _as_if_labelled(policy, episodes, answers)
    outside = _share_outside(policy, episodes, features, metrics)
    told = {
        "n": len(episodes),
        "missing": tuple(m for m in metrics if _is_missing(encoder, features, m)),
        "outside": {m: share for m, (share, _) in outside.items() if share},
        "share_outside": float(np.any([marks for _, marks in outside.values()], axis=0).mean()),
        "levels": tuple(_level(encoder, features, at) for at in _telling(encoder, metrics)),
        "share_held": float(ends.held.mean()),
        "share_fell_back": float((ends.fell_back & ~ends.held).mean()),
        "share_rolled_back": float(ends.rolled_back.mean()),
        "caught": _share(ends.rolled_back[episodes.labels == BAD]),
        "let_go_on": _share(~ends.rolled_back[episodes.labels == GOOD]),
    }
    found = Likeness(verdict="", reasons=(), **told)
    if len(episodes) < LEAST:
        return found
    against = _against(policy, found, metrics)
    if against:
        return replace(found, verdict=TRAIN_FIRST, reasons=tuple(against))
    return replace(found, verdict=MADE_FOR, reasons=tuple(_in_favour(found)))


def _as_if_labelled(policy: DeploymentPolicy, episodes: Episodes, answers: Answers) -> Scores:
    """Returns how each release would end, whatever became of it."""
    all_good = np.full_like(episodes.labels, GOOD)
    whole = replace(episodes, labels=all_good, rolled_back=np.zeros_like(episodes.rolled_back))
    return score(whole, answers.actions, policy.rewards, answers=answers)


def _share(marks: np.ndarray) -> float | None:
    return float(marks.mean()) if len(marks) >= _LEAST_LABELLED else None


def _is_missing(encoder: StateEncoder, features: np.ndarray, metric: str) -> bool:
    """Returns whether no feature of a metric that training had values of has many here."""
    of = [
        at
        for at, f in enumerate(encoder.state)
        if f.metric == metric and f.kind not in SHARES and not np.isnan(encoder.low[at])
    ]
    return bool(of) and bool((np.isnan(features[:, of]).mean(axis=0) > 1 - _OFTEN).all())


def _share_outside(
    policy: DeploymentPolicy, episodes: Episodes, features: np.ndarray, metrics: Sequence[str]
) -> dict[str, tuple[float, np.ndarray]]:
    """Returns the share of releases with a value outside of training's range, and which."""
    encoder, rules = policy.encoder, (policy.calibration or UNCALIBRATED).pauses
    low, high = encoder.range_of_values(rules.range_margin)
    outside = (features < low) | (features > high)
    of = {m: [at for at, f in enumerate(encoder.state) if f.metric == m] for m in metrics}
    starts = episodes.canary_offsets[:-1]
    marks = {m: np.logical_or.reduceat(outside[:, at].any(axis=1), starts) for m, at in of.items()}
    return {m: (float(marked.mean()), marked) for m, marked in marks.items()}


def _telling(encoder: StateEncoder, metrics: Sequence[str]) -> list[int]:
    """Returns the features that tell where the metrics lie."""
    at = {(f.metric, f.kind): i for i, f in enumerate(encoder.state)}
    found = [[at[m, k] for k in kinds if (m, k) in at] for m in metrics for kinds in _LEVELS]
    return [features[0] for features in found if features]


def _level(encoder: StateEncoder, features: np.ndarray, at: int) -> Level:
    name, known = encoder.names[at], features[:, at][~np.isnan(features[:, at])]
    is_taught = not np.isnan(encoder.low[at])
    here = float(np.median(known)) if len(known) else None
    trained = float(encoder.center[at]) if is_taught else None
    if here is None or trained is None:
        return Level(name, here, trained, 0.0)
    return Level(name, here, trained, (here - trained) / float(encoder.scale[at]))


def _against(policy: DeploymentPolicy, found: Likeness, metrics: Sequence[str]) -> list[str]:
    """Returns what speaks against asking a policy about these releases."""
    said = []
    errors = [m for m in found.missing if is_counted(m)]
    if errors or 2 * len(found.missing) > len(metrics):
        named = ", ".join(errors or found.missing)
        said.append(f"{named} hardly ever reported here, and the policy was trained with it")
    stopped = found.share_held + found.share_fell_back
    if stopped > MOST_HELD:
        said.append(f"{stopped:.0%} of them would end held for a person or by a pause's fallback")
    if found.share_outside > MOST_OUTSIDE:
        worst = max(found.outside, key=lambda m: found.outside[m])
        said.append(
            f"{found.share_outside:.0%} of them have a value that is worse than all of its "
            f"training, {worst} most often"
        )
    apart = max(found.levels, key=lambda level: abs(level.apart), default=None)
    if apart is not None and abs(apart.apart) > _AWAY:
        said.append(
            f"{_of(policy, apart.feature)} is usually {apart.here:.3g} here, and was "
            f"{apart.trained:.3g} in training"
        )
    if found.caught is not None and found.caught < _LEAST_RIGHT:
        said.append(f"it would catch {found.caught:.0%} of those labelled bad")
    if found.let_go_on is not None and found.let_go_on < _LEAST_RIGHT:
        said.append(f"it would roll back {1 - found.let_go_on:.0%} of those labelled good")
    return said


def _of(policy: DeploymentPolicy, feature: str) -> str:
    """Names what a feature tells, for a person."""
    at = policy.encoder.names.index(feature)
    metric, kind = policy.encoder.state[at].metric, policy.encoder.state[at].kind
    return f"{metric} {_BESIDE[kind]}" if kind in _BESIDE else str(metric)


def _in_favour(found: Likeness) -> list[str]:
    stopped = found.share_held + found.share_fell_back
    said = [
        f"{stopped:.1%} of them would end held or by a pause's fallback",
        f"{found.share_outside:.1%} have a value that is worse than all of its training",
        "its metrics lie where they did in training",
    ]
    return said


def describe_likeness(found: Likeness) -> str:
    """Returns it as lines to read."""
    lines = [f"like its training data? {found.line}"]
    if not found.verdict:
        return lines[0]
    lines.append(
        f"of {found.n}: {found.share_rolled_back:.1%} would be rolled back, {found.share_held:.1%} "
        f"held, {found.share_fell_back:.1%} end by the fallback of a pause"
    )
    if found.missing:
        lines.append(f"hardly ever reported here: {', '.join(found.missing)}")
    lines += [
        f"{'metric':28}{'usual here':>12}{'in training':>13}{'apart':>8}",
        *(
            f"{level.feature:28}{_number(level.here):>12}{_number(level.trained):>13}"
            f"{level.apart:>8.1f}"
            for level in found.levels
        ),
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
