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

"""The learning curve: what the run logged against its steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, Locator, MaxNLocator

from oumi_deploy.evaluation.figures.run import Run
from oumi_deploy.evaluation.figures.style import (
    FIRST,
    SECOND,
    add_grid,
    add_title,
    marker_every,
    new_figure,
)
from oumi_deploy.policy.qfunctions import TableQ, TreesQ

_PANEL = 1.45
_WIDE_LOSS = 50.0
"""Ratio of the largest to the smallest loss from which on the axis is logarithmic."""


def draw_learning_curve(run: Run) -> Figure:
    """Draws loss, reward, accuracy and, where the run explored, epsilon against the step."""
    steps = _series(run.curve, "global_step")
    place = _place(run.curve)
    explored = any("train/epsilon" in entry for entry in run.curve)
    figure = new_figure(_PANEL * (3 + explored) + 0.9)
    panels: Sequence[Axes] = figure.subplots(3 + explored, 1, sharex=True)
    _draw_loss(panels[0], steps, _series(run.curve, "train/loss"))
    _draw_rewards(panels[1], steps, run.curve, place)
    _draw(panels[2], steps, _series(run.curve, f"{place}/accuracy"), FIRST, "-", "o")
    panels[2].set_ylabel("accuracy\n(share right)")
    panels[2].set_ylim(-0.03, 1.03)
    if explored:
        _draw(panels[3], steps, _series(run.curve, "train/epsilon"), FIRST, "-", "o")
        panels[3].set_ylabel("epsilon (share\nof random acts)")
        panels[3].set_ylim(-0.03, 1.03)
    panels[-1].set_xlabel(f"training step ({_meaning_of_step(run, explored)})")
    add_title(figure, _title(run.curve, place))
    figure.align_ylabels(panels)
    return figure


def _draw_loss(axes: Axes, steps: np.ndarray, loss: np.ndarray) -> None:
    _draw(axes, steps, loss, FIRST, "-", "o")
    known = loss[np.isfinite(loss)]
    if len(known) and known.min() > 0 and known.max() > _WIDE_LOSS * known.min():
        axes.set_yscale("log")
    axes.set_ylabel("loss")


def _draw_rewards(axes: Axes, steps: np.ndarray, curve: list[dict[str, Any]], place: str) -> None:
    watched = _series(curve, f"{place}/mean_reward_with_delay")
    label = f"with delay, on {_episodes_of(place)}"
    _draw(axes, steps, watched, FIRST, "-", "o", label)
    paid = _series(curve, "train/reward")
    if np.isfinite(paid).any():
        _draw(axes, steps, paid, SECOND, "--", "s", "while exploring, in the environment")
    axes.set_ylabel("mean reward\n(reward units)")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=2, frameon=False)


def _draw(
    axes: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    colour: str,
    line: str,
    marker: str,
    label: str | None = None,
) -> None:
    every = marker_every(len(steps))
    axes.plot(
        steps, values, color=colour, linestyle=line, marker=marker, markevery=every, label=label
    )
    add_grid(axes)
    # A short run has few steps, and none between them.
    axes.xaxis.set_major_locator(_step_ticks(steps))


def _step_ticks(steps: np.ndarray) -> Locator:
    if len(np.unique(steps)) == 1:
        return FixedLocator(steps[:1].tolist())
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def _series(curve: list[dict[str, Any]], name: str) -> np.ndarray:
    """Returns what was logged under a name, float64 of shape (n_logged,), NaN where nothing."""
    return np.array([entry.get(name, np.nan) for entry in curve], dtype=np.float64)


def _place(curve: list[dict[str, Any]]) -> str:
    return "val" if any("val/accuracy" in entry for entry in curve) else "train"


def _episodes_of(place: str) -> str:
    return {"val": "validation episodes", "train": "training episodes"}[place]


def _meaning_of_step(run: Run, explored: bool) -> str:
    if explored:
        return "episodes of the environment"
    if isinstance(run.policy.q_function, TableQ):
        return "passes over the training episodes"
    if isinstance(run.policy.q_function, TreesQ):
        return "iterations over the training episodes"
    return "gradient steps"


def _title(curve: list[dict[str, Any]], place: str) -> str:
    reward = _series(curve, f"{place}/mean_reward_with_delay")[-1]
    accuracy = _series(curve, f"{place}/accuracy")[-1]
    if not np.isfinite([reward, accuracy]).all():
        return "Learning curve"
    return (
        f"Training ends at mean reward {reward:.1f} and accuracy {accuracy:.2f} on "
        f"{_episodes_of(place)}"
    )
