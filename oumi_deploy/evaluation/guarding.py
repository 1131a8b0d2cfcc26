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

"""What a policy's guardrails make of whole data sets, as a `Rollout` does look by look."""

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError, near_name
from oumi_deploy.policy.guardrail import BASELINE, CONTROLS, MISSING, Guardrail, Streak
from oumi_deploy.policy.guardrails import Guardrails


def guard_codes(guardrails: Guardrails, episodes: Episodes, few: np.ndarray) -> np.ndarray:
    """Returns what each guardrail asks for at every decision.

    Args:
        guardrails: The guardrails.
        episodes: The episodes.
        few: Whether the requests that an answer rests on are too few, bool of shape (n_decisions,).

    Returns:
        Codes of `pauses.Guard`, int of shape (n_decisions, n_guardrails).
    """
    values = [episodes.column(column) for column in guardrails.columns]
    codes = np.zeros((len(few), len(guardrails.rails)), dtype=int)
    starts, before = episodes.offsets[:-1], episodes.baseline_lengths
    streaks = tuple(
        Streak(*(np.zeros(len(episodes), dtype=np.array(x).dtype) for x in streak))
        for streak in guardrails.begin()
    )
    for t in range(int(before.max(initial=0))):
        going = np.flatnonzero(before > t)
        rows = starts[going] + t
        seen = guardrails.observe_baseline(_some(streaks, going), [v[rows] for v in values])
        _put(streaks, going, seen)
    decisions, lengths = episodes.canary_offsets[:-1], episodes.canary_lengths
    for t in range(int(lengths.max(initial=0))):
        going = np.flatnonzero(lengths > t)
        rows, at = starts[going] + before[going] + t, decisions[going] + t
        seen, asked = guardrails.observe(_some(streaks, going), [v[rows] for v in values], few[at])
        _put(streaks, going, seen)
        codes[at] = np.stack(asked, axis=1)
    return codes


def fired(codes: np.ndarray, ends: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Returns which guardrails asked for something in each rollout, up to its end.

    Args:
        codes: See `guard_codes`.
        ends: Decision at which each rollout ends, int of shape (n_episodes,).
        episodes: The episodes.

    Returns:
        Bool of shape (n_episodes, n_guardrails).
    """
    goes_on = np.arange(len(codes)) <= ends.repeat(episodes.canary_lengths)
    asks = (codes > 0) & goes_on[:, None]
    return np.logical_or.reduceat(asks, episodes.canary_offsets[:-1], axis=0)


def _some(streaks: tuple[Streak, ...], which: np.ndarray) -> tuple[Streak, ...]:
    return tuple(Streak(*(x[which] for x in streak)) for streak in streaks)


def _put(streaks: tuple[Streak, ...], which: np.ndarray, new: tuple[Streak, ...]) -> None:
    for streak, now in zip(streaks, new, strict=True):
        for kept, x in zip(streak, now, strict=True):
            kept[which] = x


def not_read(guardrails: Guardrails, episodes: Episodes) -> dict[str, tuple[str, ...]]:
    """Returns the guardrails that no release gives anything to read, with what they lack.

    Returns:
        By name of the guardrail, the columns without a value: its metric, `control_` and its
        metric, or `baseline`.
    """
    lacks = {rail.name: _lacks(rail, episodes) for rail in guardrails.rails}
    return {name: lacking for name, lacking in lacks.items() if lacking}


def _lacks(rail: Guardrail, episodes: Episodes) -> tuple[str, ...]:
    rows = episodes.canary_rows
    known = ~np.isnan(episodes.column(rail.metric)[rows])
    if not known.any():
        return (rail.metric,)
    if rail.compared_with == CONTROLS:
        control = rail.columns[1]
        paired = known & ~np.isnan(episodes.column(control)[rows])
        return () if paired.any() else (control,)
    if rail.compared_with == BASELINE:
        everywhere = np.concatenate([[0], (~np.isnan(episodes.column(rail.metric))).cumsum()])
        starts = episodes.offsets[:-1]
        based = everywhere[starts + episodes.baseline_lengths] > everywhere[starts]
        return () if (known & based.repeat(episodes.canary_lengths)).any() else (BASELINE,)
    return ()


def said_of_unread(guardrails: Guardrails, episodes: Episodes) -> list[str]:
    """Returns a sentence for each guardrail that no release gives anything to read."""
    lacking = not_read(guardrails, episodes)
    return [
        f"the guardrail {rail.name} was not read: no release here reports "
        f"{_what(rail, lacking[rail.name])}"
        + "; so it held every one"
        * (rail.side == MISSING and rail.compared_with is None)
        for rail in guardrails.rails
        if rail.name in lacking
    ]


def without_unread(guardrails: Guardrails, episodes: Episodes) -> tuple[Guardrails, list[str]]:
    """Returns the guardrails that some release can be read by, and a sentence for each other."""
    lacking = not_read(guardrails, episodes)
    read = [rail for rail in guardrails.rails if rail.name not in lacking]
    left_out = [
        f"guardrails: {rail.name}: left out, for no release here reports "
        f"{_what(rail, lacking[rail.name])}"
        for rail in guardrails.rails
        if rail.name in lacking
    ]
    return Guardrails(tuple(read)), left_out


def require_read(guardrails: Guardrails, episodes: Episodes) -> None:
    """Raises DeployError if a guardrail reads what no release reports, or what is no number."""
    for rail in guardrails.rails:
        for column in rail.columns:
            if column in episodes.texts:
                raise DeployError(
                    f"guardrails: {rail.name}: {column} is text; only a numeric column has a limit"
                )
        lacking = _lacks(rail, episodes)
        if lacking:
            is_column = BASELINE not in lacking and lacking[0] not in episodes.numbers
            hint = f" ({near_name(lacking[0], sorted(episodes.numbers))})" if is_column else ""
            raise DeployError(
                f"guardrails: {rail.name}: none of these releases reports {_what(rail, lacking)}"
                f"{hint}; bring releases that do, or leave it out"
            )


def _what(rail: Guardrail, lacking: tuple[str, ...]) -> str:
    return f"{rail.metric} before its canary" if BASELINE in lacking else " or ".join(lacking)
