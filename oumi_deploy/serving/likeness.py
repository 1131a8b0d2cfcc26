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

"""How like the latest releases are to those that the policy was made for, from the decision log.

It is reckoned now and then beside the answers, from a bounded number of releases, and kept.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from oumi_deploy.episodes.packed import Episodes, episodes_of_frame
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.vet.likeness import likeness
from oumi_deploy.serving.log.episodes import LoggedRollout, Row, episode_rows
from oumi_deploy.serving.log.overview import Standing, Wanted
from oumi_deploy.serving.log.stages import Horizons
from oumi_deploy.serving.log.writer import DecisionLog
from oumi_deploy.serving.policies import PolicyFile

MOST = 100
"""Releases that are looked at, the latest."""

MOST_ROWS = 20_000
"""Observations that are looked at; of releases that have more of them, fewer."""

EVERY, AFTER_FAILURE = 600.0, 60.0
"""Seconds between looks, and after one that failed."""

QUIET_AFTER = 2.0
"""Intervals without a question after which a rollout is over."""

_SHARE = 0.01
"""Share of the time that goes into looking at most."""

_PAGES = 5
"""Pages of the log that are read at most: of many rollouts under way none is over."""

_ALL = Wanted(None, None, Horizons(0.0, 0.0))

_log = logging.getLogger(__name__)


class LikenessWatch:
    """Keeps what the latest releases look like beside those of the policy's training.

    Attributes:
        state: JSON-able: when it was looked (`at`, Unix seconds), the policy's `version`, and what
            `Likeness.as_dict` says with its `line`, or the `problem`; None before the first look.
    """

    def __init__(self, log: DecisionLog, policies: PolicyFile, interval: float):
        self._log, self._policies = log, policies
        self._quiet_after = QUIET_AFTER * interval
        self._due, self._asked_for = 0.0, ""
        self.state: dict[str, Any] | None = None

    async def refresh(self) -> None:
        """Looks again, if it is time to or the policy is another."""
        version = self._policies.current.version
        is_same = version == self._asked_for
        if is_same and time.monotonic() < self._due:
            return
        self._asked_for = version
        started = time.monotonic()
        # First, so that one that fails is not tried again at once.
        self._due = started + AFTER_FAILURE
        self.state = await asyncio.to_thread(self.look)
        if self.state["problem"] is None:
            took = time.monotonic() - started
            self._due = time.monotonic() + max(EVERY, took / _SHARE)

    def look(self) -> dict[str, Any]:
        """Holds the latest releases against the policy's training now."""
        current, now = self._policies.current, time.time()
        told: dict[str, Any] = {"at": now, "version": current.version}
        try:
            episodes = self._latest(now - self._quiet_after)
            if episodes is None:
                return {**told, "n": 0, "line": "no release is over yet", "problem": None}
            found = likeness(current.policy, episodes)
        except DeployError as error:
            return {**told, "n": 0, "line": "", "problem": str(error)}
        return {**told, **found.as_dict(), "line": found.line, "problem": None}

    def _latest(self, until: float) -> Episodes | None:
        """Returns the latest releases that nobody has asked about since then; None if none."""
        found: list[list[Row]] = []
        n_rows, cursor = 0, None
        for _ in range(_PAGES):
            page = self._log.standings(_ALL, cursor, MOST)
            for standing in page.standings:
                if len(found) == MOST or n_rows >= MOST_ROWS:
                    return self._pack(found)
                if standing.latest.at < until and (rows := self._rows(standing)):
                    found.append(rows)
                    n_rows += len(rows)
            cursor = page.next
            if cursor is None:
                break
        return self._pack(found)

    def _rows(self, standing: Standing) -> list[Row]:
        """Returns a release as rows of the episode format; none where it is no episode."""
        inputs = self._log.inputs(standing.latest.id)
        latest = replace(standing.latest, base=None, kept=0, observations=inputs)
        try:
            rollout = LoggedRollout(latest.name, [latest], standing.outcomes)
            rows = episode_rows(rollout, standing.key)
        except DeployError:
            return []
        return rows if any(row.get("phase") != "baseline" for row in rows) else []

    def _pack(self, releases: Sequence[list[Row]]) -> Episodes | None:
        """Returns releases as episodes, without those that are against the format."""
        if not releases:
            return None
        metrics = self._policies.current.policy.encoder.metrics
        try:
            return _packed(releases, metrics)
        except DeployError:
            valid = [rows for rows in releases if _is_valid(rows)]
            return _packed(valid, metrics) if valid else None


def _packed(releases: Sequence[list[Row]], metrics: Sequence[str] = ()) -> Episodes:
    """Returns releases as episodes with a column for each metric, also where nobody reported it."""
    frame = pd.DataFrame([row for rows in releases for row in rows])
    return episodes_of_frame(frame.reindex(columns=list(dict.fromkeys([*frame.columns, *metrics]))))


def _is_valid(rows: list[Row]) -> bool:
    try:
        _packed([rows])
    except DeployError:
        return False
    return True
