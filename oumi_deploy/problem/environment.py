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

"""The decision problem as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import STANDARD_METRICS, UNKNOWN
from oumi_deploy.errors import DeployError
from oumi_deploy.problem.encoder import LIMIT, StateEncoder, encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import FORMS, Action, Rewards, step_costs

ENVIRONMENT_ID = "oumi_deploy/Deployment-v1"
"""Importing this module registers the environment under this id, so that
`gymnasium.make("oumi_deploy.problem.environment:oumi_deploy/Deployment-v1")` needs no import."""


class DeploymentEnvironment(gymnasium.Env[np.ndarray, np.int64]):
    """Replays recorded releases and asks at each canary observation: CONTINUE or ROLLBACK?

    An observation is the encoded state, float32 of shape (2 n_features,): standardised values,
    then marks of what is missing. In the form `sequential` CONTINUE waits for the next
    observation, ROLLBACK ends the rollout, CONTINUE at the last observation ends it too. In the
    form `single` every decision ends it. Unlabelled releases are left out. Where the log ends in
    a ROLLBACK, CONTINUE at the last observation is truncated and pays nothing: nobody knows what
    would have followed.

    Args:
        episodes: Recorded releases; by default 100 generated ones.
        encoder: Fitted encoder; by default the four standard metrics, fitted to `episodes`.
        form: `single` or `sequential`.
        rewards: What decisions pay.
        shuffle: Whether `reset` visits the releases in a random order, anew each pass, or in
            their own. `reset(options={"episode": i})` starts release i of the labelled ones.

    Example:
        >>> environment = DeploymentEnvironment(form="single")
        >>> state, info = environment.reset(seed=0)
        >>> state.shape, sorted(info)
        ((8,), ['decision', 'episode_id'])
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        episodes: Episodes | None = None,
        encoder: StateEncoder | None = None,
        form: str = "sequential",
        rewards: Rewards | None = None,
        shuffle: bool = True,
    ):
        if form not in FORMS:
            raise DeployError(f"form: {form!r} is not one of {', '.join(FORMS)}")
        episodes = _sample() if episodes is None else episodes
        self.episodes = episodes.select(episodes.labels != UNKNOWN)
        if not len(self.episodes):
            raise DeployError("the environment needs labelled episodes, and there are none")
        self.encoder = encoder or fit_encoder(STANDARD_METRICS, self.episodes)
        self.form, self.shuffle = form, shuffle
        self.features = encode_episodes(self.encoder.state, self.episodes)
        """Features of every decision, shape (n_decisions, n_features)."""
        self.inputs = self.encoder.standardise(self.features)
        rewards = rewards or Rewards()
        self._pays = rewards.table()
        share = self.episodes.column("canary_share")[self.episodes.canary_rows]
        self._waiting_costs = step_costs(rewards, share)
        self._starts = self.episodes.canary_offsets
        self._queue: list[int] = []
        self._decision = self._release = self._end = 0
        self.action_space = gymnasium.spaces.Discrete(len(Action))
        self.observation_space = gymnasium.spaces.Box(
            -LIMIT, LIMIT, shape=(self.encoder.n_inputs,), dtype=np.float32
        )

    @property
    def n_starts(self) -> int:
        """Number of environment episodes in one pass over the releases."""
        return len(self.inputs) if self.form == "single" else len(self.episodes)

    @property
    def decision(self) -> int:
        """Row of `features` that the environment stands at."""
        return self._decision

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts the next release at its first canary observation (`single`: any observation)."""
        super().reset(seed=seed)
        if seed is not None:
            self._queue = []
        start = self._asked_start(options or {})
        if start is None:
            start = self._next_start()
        if self.form == "single":
            self._decision = int(start)
            self._release = int(np.searchsorted(self._starts, start, side="right")) - 1
        else:
            self._release, self._decision = int(start), int(self._starts[start])
        self._end = int(self._starts[self._release + 1])
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes one decision; see the class for what follows from it.

        Raises:
            DeployError: If `action` is none.
        """
        if not self.action_space.contains(np.int64(action)):
            raise DeployError(f"action: {action!r} is not 0 (CONTINUE) or 1 (ROLLBACK)")
        bad = int(self.episodes.labels[self._release])
        last = self._decision == self._end - 1
        if action == Action.CONTINUE and last and self.episodes.rolled_back[self._release]:
            return self._observation(), 0.0, False, True, self._info()
        if action == Action.ROLLBACK or last or self.form == "single":
            reward = float(self._pays[bad, action])
            return self._observation(), reward, True, False, self._info()
        reward = -float(self._waiting_costs[self._decision]) if bad else 0.0
        self._decision += 1
        return self._observation(), reward, False, False, self._info()

    def _asked_start(self, options: dict[str, Any]) -> int | None:
        if set(options) - {"episode"}:
            raise DeployError(f"options: expected episode, got {', '.join(map(str, options))}")
        start = options.get("episode")
        if start is None:
            return None
        if not isinstance(start, int | np.integer) or not 0 <= start < self.n_starts:
            raise DeployError(f"options.episode: {start!r} is not in 0..{self.n_starts - 1}")
        return int(start)

    def restart(self) -> None:
        """Begins a new pass over the releases at the next `reset`."""
        self._queue = []

    def _observation(self) -> np.ndarray:
        # A copy: who gets it may write to it.
        return self.inputs[self._decision].copy()

    def queue_state(self) -> dict[str, Any]:
        """Returns what `restore_queue` needs to visit the same releases in the same order."""
        return {"queue": list(self._queue), "generator": self.np_random.bit_generator.state}

    def restore_queue(self, state: dict[str, Any]) -> None:
        """Goes on where `queue_state` was taken, at the end of an environment episode."""
        self._queue = list(state["queue"])
        self.np_random.bit_generator.state = state["generator"]

    def _next_start(self) -> int:
        if not self._queue:
            order = np.arange(self.n_starts)
            if self.shuffle:
                self.np_random.shuffle(order)
            self._queue = order[::-1].tolist()
        return self._queue.pop()

    def _info(self) -> dict[str, Any]:
        return {"episode_id": self.episodes.ids[self._release], "decision": self._decision}


def _sample() -> Episodes:
    # Only a default needs the generator.
    from oumi_deploy.episodes.sample import generate_sample

    return generate_sample(count=100, seed=0)


if ENVIRONMENT_ID not in gymnasium.registry:
    gymnasium.register(
        ENVIRONMENT_ID, entry_point="oumi_deploy.problem.environment:DeploymentEnvironment"
    )
