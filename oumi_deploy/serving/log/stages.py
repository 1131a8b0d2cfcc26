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
"""Which rollouts are on hold, wait for a review, go on or are past, by their latest decisions."""

from typing import Literal, NamedTuple

import sqlalchemy as sa

from oumi_deploy.serving.log.tables import decisions, outcomes

Stage = Literal["on_hold", "to_review", "going_on", "past"]
Condition = sa.ColumnElement[bool]


class Horizons(NamedTuple):
    """How far back to look, Unix seconds.

    Attributes:
        asked_since: A rollout that nobody has asked about since then is not under way any more.
        left_since: But if it was told to hold or to go back, it waits for a person until this long
            ago.
    """

    asked_since: float
    left_since: float


def is_of(stage: Stage, horizons: Horizons) -> Condition:
    """Selects, among the latest decisions on rollouts, those of a stage."""
    since = min(horizons)
    late = {
        "on_hold": _is_on_hold(horizons),
        "to_review": _is_to_review(horizons),
        "going_on": _is_going_on(horizons),
    }
    if stage == "past":
        # Of what is long past nothing else need be looked at.
        return sa.or_(decisions.c.at < since, sa.not_(sa.or_(*late.values())))
    return sa.and_(decisions.c.at >= since, late[stage])


def _is_on_hold(horizons: Horizons) -> Condition:
    # Whoever held it may have forgotten it.
    is_left = decisions.c.at >= horizons.left_since
    holds = decisions.c.answered == "PAUSE"
    return sa.and_(_is_open(), holds, sa.or_(_is_asked_about(horizons), is_left))


def _is_to_review(horizons: Horizons) -> Condition:
    reviewed = _is_told(outcomes.c.source == "review")
    return sa.and_(_was_rolled_back(), sa.not_(reviewed), decisions.c.at >= horizons.left_since)


def _is_going_on(horizons: Horizons) -> Condition:
    goes_on = decisions.c.answered != "PAUSE"
    return sa.and_(_is_open(), goes_on, _is_asked_about(horizons))


def _is_asked_about(horizons: Horizons) -> Condition:
    pauses = sa.and_(decisions.c.asks_again, decisions.c.answered == "PAUSE")
    follows = sa.or_(sa.not_(decisions.c.last), pauses)
    return sa.and_(decisions.c.at >= horizons.asked_since, follows)


def _is_open() -> Condition:
    """Selects what was neither rolled back nor labelled; any label tells of what went on."""
    return sa.and_(sa.not_(_was_rolled_back()), sa.not_(_is_told()))


def _was_rolled_back() -> Condition:
    return sa.and_(decisions.c.decision == "ROLLBACK", sa.not_(decisions.c.shadow))


def _is_told(*conditions: Condition) -> Condition:
    of_it = outcomes.c.rollout_key == decisions.c.rollout_key
    return sa.exists().where(of_it, outcomes.c.label.is_not(None), *conditions)
