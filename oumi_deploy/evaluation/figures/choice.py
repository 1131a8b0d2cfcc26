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

"""Which episode the timeline shows."""

import logging

import numpy as np

from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.figures.judged import Judged
from oumi_deploy.evaluation.scoring import score

logger = logging.getLogger(__name__)

_NAMED = 3


def choose_episode(judged: Judged, episode_id: str | None) -> int:
    """Returns the number of the episode to show.

    Args:
        judged: The policy's answers.
        episode_id: An episode's id; None takes the bad episode that was rolled back after the
            most decisions, and where none was, the first episode.

    Raises:
        DeployError: If no episode has that id.
    """
    if episode_id is None:
        return _latest_caught(judged)
    ids = judged.episodes.ids
    matches = np.flatnonzero([str(name) == episode_id for name in ids])
    if not len(matches):
        known = ", ".join(map(str, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")
        raise DeployError(f"episode_id: no episode is called {episode_id}; there are {known}")
    if len(matches) > 1:
        logger.warning("%d episodes are called %s: showing the first", len(matches), episode_id)
    return int(matches[0])


def _latest_caught(judged: Judged) -> int:
    actions, answers = judged.actions, judged.answers
    scores = score(judged.episodes, actions, judged.policy.rewards, answers=answers)
    caught = np.flatnonzero(scores.bad & scores.rolled_back)
    if not len(caught):
        return 0
    return int(scores.episode[caught[np.argmax(scores.delay_steps[caught])]])
