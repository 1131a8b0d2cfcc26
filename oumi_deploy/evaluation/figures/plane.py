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

"""The plane of two features that decision boundary and heat map are drawn on."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.figures.axis import FeatureAxis, make_axis
from oumi_deploy.evaluation.figures.judged import Judged
from oumi_deploy.policy.answers import PAUSED, prefer
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ, TreesQ
from oumi_deploy.problem.bins import cells
from oumi_deploy.problem.rewards import Action
from oumi_deploy.problem.state import BEFORE, HISTORY, SHARES, Feature

THIN = 20
"""Decisions below which the entries of a table are little more than chance."""

DOTS = ".."

_NAMED = 4
"""Held features that a caption names."""

_STILL = ("slope", "change", "control_change", *BEFORE, *SHARES)
_WITH_LEVEL = ("value", *(k for k in HISTORY if k not in _STILL))
"""Kinds of features that are as much higher where their metric has been so since the first look."""

_POINTS = 301
"""Points along an axis of the grid."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Answers and Q-margins over two features.

    Attributes:
        x: The horizontal axis.
        y: The vertical one.
        codes: What the policy answers there at a first look with requests enough, codes of ANSWERS,
            shape (n_y, n_x).
        margin: Q(ROLLBACK) - Q(CONTINUE) in reward units, shape (n_y, n_x).
        stepped: Whether the margin jumps from cell to cell, as that of a table or trees does.
        thin: Where a table has learnt from fewer than `THIN` decisions, bool of the same shape;
            nowhere for a network.
        moved: Names of features that move with the two, see `make_plane`.
        held: Values of the other features, by name, NaN where missing.
    """

    x: FeatureAxis
    y: FeatureAxis
    codes: np.ndarray
    margin: np.ndarray
    stepped: bool
    thin: np.ndarray
    moved: list[str]
    held: dict[str, float]

    @property
    def rolls_back(self) -> np.ndarray:
        """Whether the policy rolls back, bool of shape (n_y, n_x)."""
        return self.codes == Action.ROLLBACK

    @property
    def pauses(self) -> np.ndarray:
        """Whether it says PAUSE, bool of shape (n_y, n_x)."""
        return self.codes == PAUSED

    @property
    def surface(self) -> np.ndarray:
        """What is above 0 where ROLLBACK is worth more, and 0 on the boundary, (n_y, n_x).

        Between points a contour is drawn where the straight line between them crosses 0. A jump
        has no such slope, and the edge of a cell would lie elsewhere beside each neighbour.
        """
        return np.sign(self.margin) if self.stepped else self.margin

    @property
    def has_boundary(self) -> bool:
        """Whether either action is worth more somewhere."""
        return bool((self.margin > 0).any() and (self.margin <= 0).any())

    def draw_boundary(self, axes: Axes, colour: str, width: float) -> None:
        """Draws the line on which both actions are worth the same."""
        if self.has_boundary:
            x, y = self.x.points, self.y.points
            axes.contour(x, y, self.surface, levels=[0.0], colors=colour, linewidths=width)

    def draw_thin(self, axes: Axes, colour: str) -> None:
        """Dots the area in which a table has hardly learnt anything."""
        if self.thin.any():
            x, y, thin = self.x.points, self.y.points, self.thin.astype(float)
            dots = axes.contourf(x, y, thin, levels=[0.5, 1.5], colors="none", hatches=[DOTS])
            dots.set_edgecolor(colour)
            dots.set_linewidth(0)

    def apply_to(self, axes: Axes) -> None:
        """Sets limits, scale, ticks and labels."""
        self.x.apply_to(axes, "x")
        self.y.apply_to(axes, "y")

    def caption(self) -> str:
        """Says what the other features are held at, and what the dots mean."""
        dots = f" Dotted: learnt from fewer than {THIN} decisions." if self.thin.any() else ""
        if self.moved:
            dots = (
                " The histories and differences of these metrics move with them, as if they had "
                f"been so since the first look.{dots}"
            )
        if not self.held:
            return f"The policy's state has no other features.{dots}"
        values = ", ".join(
            f"{name} = {'missing' if np.isnan(value) else format(value, '.3g')}"
            for name, value in list(self.held.items())[:_NAMED]
        )
        unnamed = len(self.held) - _NAMED
        if unnamed > 0:
            # Then some follow from the two that move, and few releases look like this plane.
            values += f", and {unnamed} more; some could not stay there while these two move"
        return f"Other features held at their median over the canary observations: {values}.{dots}"


def pick_features(state: tuple[Feature, ...], asked: tuple[str, str] | None) -> list[int] | None:
    """Returns the numbers of the two features to draw, None where the state has only one.

    Args:
        state: The policy's state.
        asked: Names of features; None takes the first two current values of metrics, and where
            there are fewer, what comes first beside them.

    Raises:
        DeployError: If a name is no feature of the state, or the two are the same.
    """
    names = [feature.name for feature in state]
    if asked is None:
        order = sorted(range(len(state)), key=lambda i: state[i].kind != "value")
        return order[:2] if len(state) > 1 else None
    for name in asked:
        if name not in names:
            raise DeployError(
                f"features: the policy's state has no {name}; name two of {', '.join(names)}"
            )
    if len(asked) != 2 or asked[0] == asked[1]:
        raise DeployError(
            f"features: {', '.join(asked)} are not two features; name two of {', '.join(names)}"
        )
    return [names.index(name) for name in asked]


def make_plane(judged: Judged, picked: list[int]) -> Plane:
    """Asks the policy on a grid over two features, the others held at their medians.

    Of a metric that one of the two is of, what has its level moves as far from its median: a newest
    error rate of 0.3 beside a mean of 0.01 is no release that anybody meets for long.

    Args:
        judged: The policy and the episodes whose medians and ranges are taken.
        picked: Numbers of the two features.
    """
    labelled = judged.labels != UNKNOWN
    features = judged.features[labelled] if labelled.any() else judged.features
    encoder = judged.policy.encoder
    x, y = (make_axis(encoder, i, judged.features[:, i], _POINTS) for i in picked)
    medians = np.array([_median(column) for column in features.T])
    grid = np.tile(medians, (_POINTS * _POINTS, 1))
    grid[:, picked[0]] = np.tile(x.points, _POINTS)
    grid[:, picked[1]] = np.repeat(y.points, _POINTS)
    moved = {}
    for number in picked:
        moved |= dict.fromkeys(_moving_with(encoder.state, number, picked), number)
    for i, number in moved.items():
        grid[:, i] += grid[:, number] - medians[number]
    codes, margin = _ask(judged.policy, grid)
    thin = _is_thin(judged, grid)
    others = [i for i in range(len(medians)) if i not in picked and i not in moved]
    held = {encoder.names[i]: float(medians[i]) for i in others}
    shape = (_POINTS, _POINTS)
    stepped = isinstance(judged.policy.q_function, TableQ | TreesQ)
    return Plane(
        x=x,
        y=y,
        codes=codes.reshape(shape),
        margin=margin.reshape(shape),
        stepped=stepped,
        thin=thin.reshape(shape),
        moved=[encoder.names[i] for i in sorted(moved)],
        held=held,
    )


def _moving_with(state: tuple[Feature, ...], number: int, picked: list[int]) -> list[int]:
    """Returns the features that move with a picked one: of its metric, and at its level."""
    feature = state[number]
    if feature.kind not in _WITH_LEVEL or len({state[i].metric for i in picked}) < len(picked):
        return []
    return [
        i
        for i, other in enumerate(state)
        if other.metric == feature.metric and other.kind in _WITH_LEVEL and i != number
    ]


def _ask(policy: DeploymentPolicy, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the answers to states, codes of ANSWERS, and ROLLBACK's lead in Q, both (n,)."""
    reported, requests = np.zeros(len(states), dtype=bool), np.full(len(states), np.nan)
    evidence = policy.evidence(states, reported, reported, reported, requests)
    preferred = prefer(policy, evidence)
    q_continue, q_rollback = evidence.by_action
    codes = np.where(preferred.wants_pause, PAUSED, preferred.action)
    return codes, q_rollback - q_continue


def _is_thin(judged: Judged, states: np.ndarray) -> np.ndarray:
    """Returns where a table has learnt little, bool of shape (n,)."""
    q_function = judged.policy.q_function
    if not isinstance(q_function, TableQ):
        return np.zeros(len(states), dtype=bool)
    n_learnt = q_function.counts.max(axis=1)
    return n_learnt[cells(q_function.edges, states)] < THIN


def _median(column: np.ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else float("nan")
