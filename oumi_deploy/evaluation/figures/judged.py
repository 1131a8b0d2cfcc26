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

"""A policy's answers on a set of episodes, worked out once for all pictures."""

from dataclasses import dataclass

import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence, warn_of_unreported
from oumi_deploy.evaluation.scoring import Scores, score
from oumi_deploy.policy.answers import ANSWERS, PAUSED, Answers
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.encoder import encode_episodes
from oumi_deploy.problem.rewards import Action


@dataclass(frozen=True, eq=False)
class Judged:
    """A policy on episodes.

    Attributes:
        policy: The policy.
        episodes: The episodes.
        features: State at each decision, (n_decisions, n_features), NaN where missing.
        q_values: Of each decision, (n_decisions, n_actions), in reward units.
        answers: What the policy answers at each decision, pauses and fallbacks included.
        per_observation: Whether each observation is scored as one decision.
        scores: By the scoring rules.
    """

    policy: DeploymentPolicy
    episodes: Episodes
    features: np.ndarray
    q_values: np.ndarray
    answers: Answers
    per_observation: bool
    scores: Scores

    @property
    def actions(self) -> np.ndarray:
        """What is done at each decision, a PAUSE going on, int of shape (n_decisions,)."""
        return self.answers.actions

    def decisions(self, number: int) -> slice:
        """Returns where the decisions of episode `number` stand."""
        offsets = self.episodes.canary_offsets
        return slice(int(offsets[number]), int(offsets[number + 1]))

    def end(self, number: int) -> tuple[str, int | None]:
        """Returns how episode `number` ends, one of ANSWERS, and at which of its decisions.

        At its first ROLLBACK; or, where no decision follows any more, where it is held for a
        person; else with the recording, at None.
        """
        codes = self.answers.decision[self.decisions(number)]
        rollbacks = np.flatnonzero(codes == Action.ROLLBACK)
        if len(rollbacks):
            return ANSWERS[Action.ROLLBACK], int(rollbacks[0])
        held = np.flatnonzero(self.answers.held[self.decisions(number)])
        decided = np.flatnonzero(codes != PAUSED)
        held = held[held > decided.max(initial=-1)]
        return (ANSWERS[PAUSED], int(held[0])) if len(held) else (ANSWERS[Action.CONTINUE], None)

    @property
    def labels(self) -> np.ndarray:
        """Label of the episode of each decision, int8 of shape (n_decisions,)."""
        return np.repeat(self.episodes.labels, self.episodes.canary_lengths)


def judge_policy(policy: DeploymentPolicy, episodes: Episodes, per_observation: bool) -> Judged:
    """Encodes the episodes and asks the policy at every decision.

    Raises:
        DeployError: If there are no episodes, or they lack a column of the policy's state.
    """
    if not len(episodes):
        raise DeployError("there are no episodes to draw: name a file that holds some")
    warn_of_unreported(policy, episodes)
    features = encode_episodes(policy.encoder.state, episodes)
    evidence = policy_evidence(policy, episodes, features=features)
    answers = policy_answers(policy, episodes, per_observation=per_observation, evidence=evidence)
    scores = score(episodes, answers.actions, policy.rewards, per_observation, answers)
    return Judged(policy, episodes, features, evidence.q_values, answers, per_observation, scores)
