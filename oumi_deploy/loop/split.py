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

"""Which groups are trained on, calibrated on and judged on, once and for all.

A side follows from the group's name alone, so no group changes it from one night to the next, and
whoever looks at a release cannot choose it.
"""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

from oumi_deploy.loop.settings import LoopSettings
from oumi_deploy.serving.log.episodes import LoggedRollout

Side = Literal["train", "calibrate", "judge"]
SIDES: tuple[Side, ...] = ("train", "calibrate", "judge")

_BYTES = 8


def side_of(group: str, settings: LoopSettings) -> Side:
    """Returns the side of a group.

    Args:
        group: Its name, as of `group_of`.
        settings: Their shares and seed.
    """
    digest = sha256(f"{settings.seed}\n{group}".encode()).digest()
    place = int.from_bytes(digest[:_BYTES]) / 256**_BYTES
    if place < settings.judge_share:
        return "judge"
    return "calibrate" if place < settings.judge_share + settings.calibrate_share else "train"


def group_of(rollout: LoggedRollout, settings: LoopSettings) -> str:
    """Returns the name of a rollout's group."""
    parts = []
    for part in settings.group_by:
        if part == "day":
            parts.append(f"{datetime.fromtimestamp(rollout.decisions[0].at, UTC):%Y-%m-%d}")
        else:
            parts.append(getattr(rollout.name, part))
    return " ".join(parts).strip()
