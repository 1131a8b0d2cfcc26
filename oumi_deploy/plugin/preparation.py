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


"""What stands between a config with its datasets and a learner that can take its first step."""

from typing import Any

import numpy as np
import torch
from oumi.core.configs import TrainingConfig, TrainingParams
from oumi.utils.logging import logger

from oumi_deploy.episodes.packed import Episodes, concatenate
from oumi_deploy.episodes.rows import from_rows
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.seen_groups import group_digests, names_of_groups
from oumi_deploy.evaluation.vet.levels import describe_levels
from oumi_deploy.learning.dqn import DQN
from oumi_deploy.learning.hiding import hide_from_releases, hiding_for
from oumi_deploy.learning.learners import (
    Learner,
    LoggedNetwork,
    LoggedTable,
    explore_with_network,
    explore_with_table,
    play_environment,
    rule_of,
    transitions_of,
)
from oumi_deploy.learning.lookalikes import lookalikes_of, told_by_comparison
from oumi_deploy.learning.outages import KINDS, outages_of
from oumi_deploy.learning.replay import Replay
from oumi_deploy.learning.settings import AlgorithmSettings, read_settings
from oumi_deploy.learning.table import ReplayedTable
from oumi_deploy.learning.transitions import Transitions
from oumi_deploy.learning.trees import FittedTrees
from oumi_deploy.plugin.calibration import algorithm_kwargs
from oumi_deploy.plugin.dataset import rows_of
from oumi_deploy.plugin.errors import as_config_error
from oumi_deploy.plugin.models import (
    DeploymentModel,
    DeploymentQNetwork,
    DeploymentQTable,
    DeploymentTrees,
)
from oumi_deploy.plugin.oumi_params import refuse_idle_params
from oumi_deploy.policy.policy import FORMAT_VERSION
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.encoder import (
    StateEncoder,
    encode_episodes,
    fit_encoder,
    require_columns,
    require_lessons,
)
from oumi_deploy.problem.environment import DeploymentEnvironment
from oumi_deploy.problem.state import metrics_of, parse_state

WATCHED = 500
"""Training episodes that the learning curve is measured on where there is no validation split."""

Experience = DeploymentEnvironment | Replay | Transitions


def read_trainer_settings(
    model: torch.nn.Module, params: TrainingParams, config: TrainingConfig | None
) -> AlgorithmSettings:
    """Reads the settings in `trainer_kwargs`; a loaded model brings its state.

    Raises:
        DeployConfigError: If the model is not ours, or a setting or parameter cannot be used.
    """
    with as_config_error():
        if not isinstance(model, DeploymentModel):
            raise DeployError(
                "model.model_name: the deployment trainer trains deployment:table, "
                f"deployment:network or deployment:trees, not a {type(model).__name__}"
            )
    plain = algorithm_kwargs(params.trainer_kwargs)
    if model.encoder is not None:
        with as_config_error("model.model_name"):
            model.require_order()
            if isinstance(model, DeploymentTrees):
                raise DeployError(
                    "trees are fitted anew to their releases, and cannot go on from saved ones: "
                    "name deployment:trees"
                )
        plain.setdefault("state", list(model.encoder.names))
        if plain["state"] == list(model.encoder.names):
            plain.setdefault("directions", dict(model.encoder.directions or {}))
    with as_config_error("training.trainer_kwargs"):
        settings = read_settings(
            plain,
            network=isinstance(model, DeploymentQNetwork),
            trees=isinstance(model, DeploymentTrees),
        )
        if model.encoder is not None and model.encoder.names != tuple(settings.state):
            raise DeployError("state differs from the loaded model's: take it out")
        if model.encoder is not None and model.encoder.directions != settings.directions:
            raise DeployError("directions differ from the loaded model's: take them out")
    if isinstance(model, DeploymentQNetwork) and model.members > 1:
        with as_config_error("model.model_kwargs"):
            if settings.experience == "environment":
                raise DeployError("members has no effect with experience: environment: take it out")
    with as_config_error():
        refuse_idle_params(
            params,
            config,
            table=isinstance(model, DeploymentQTable),
            trees=isinstance(model, DeploymentTrees),
        )
    return settings


def read_training_episodes(dataset: Any) -> Episodes:
    """Packs the training split.

    Raises:
        DeployConfigError: If it is empty or has one class only.
    """
    with as_config_error("data.train"):
        episodes = from_rows(rows_of(dataset))
        episodes.require_both_classes()
    return episodes


def encode_training_split(
    model: DeploymentModel, episodes: Episodes, settings: AlgorithmSettings, seed: int
) -> tuple[Episodes, np.ndarray, np.ndarray]:
    """Encodes the training split; a new model is built for it, a loaded one keeps its scale.

    Returns:
        The episodes to learn from, which are the training split and what is made from it; the
        features of their every decision, shape (n_decisions, n_features), for trees with part of
        them hidden, where the settings ask for it; and from which nothing is to be hidden, bool of
        shape (n_decisions,).
    """
    with as_config_error("data.train"):
        encoder = model.encoder or fit_encoder(settings.state, episodes, settings.directions)
        require_columns(encoder.state, episodes)
        features = encode_episodes(encoder.state, episodes)
        if model.encoder is None:
            require_lessons(encoder, episodes)
    if absent := [*encoder.untaught, *encoder.unreported(features)]:
        logger.warning(
            f"The training split has no value of {', '.join(absent)}: nothing is learnt from them. "
            f"Its columns are {', '.join(sorted(episodes.numbers))}"
        )
    if model.encoder is not None:
        # What it was trained on before and what it is trained on now are both no surprise to it.
        model.encoder = encoder.widened(features)
    late = settings.hidden_share > 0  # which shows good releases without an old version
    made = {
        "outage_share": outages_of(
            episodes, encoder.metrics, settings.outage_share, seed, late=late
        ),
        "lookalikes": lookalikes_of(episodes, encoder.metrics, settings.lookalikes, seed),
    }
    asked = {"outage_share": settings.outage_share, "lookalikes": sum(settings.lookalikes.values())}
    lessons = episodes
    for name, more in made.items():
        if len(more):
            lessons = concatenate([lessons, more])
            features = np.concatenate([features, encode_episodes(encoder.state, more)])
        elif asked[name] * len(episodes) >= 1:
            logger.warning(
                f"trainer_kwargs.{name} has no effect: the state and the training split have none "
                f"of {', '.join(KINDS)} in common, or no good release that reports it"
            )
    alike = made["lookalikes"]
    is_whole = np.zeros(len(features), dtype=bool)
    if len(alike):
        is_whole[-len(alike.canary_rows) :] = told_by_comparison(alike).repeat(alike.canary_lengths)
    bounds = Bounds.of(settings.rewards, float(episodes.canary_lengths.max()))
    if model.encoder is None and isinstance(model, DeploymentQTable):
        with as_config_error("model.model_kwargs"):
            model.build(encoder, features, bounds)
    elif model.encoder is None and isinstance(model, DeploymentQNetwork):
        scale = float(np.abs(settings.rewards.table()).max())
        model.build(encoder, bounds, scale, seed)
    elif model.encoder is None and isinstance(model, DeploymentTrees):
        model.build(encoder, bounds)
        share, lengths = settings.hidden_share, lessons.canary_lengths
        features = hide_from_releases(encoder, features, lengths, is_whole, share, seed)
    return lessons, features, is_whole


def watched_episodes(
    dataset: Any, training: Episodes, encoder: StateEncoder
) -> tuple[Episodes, np.ndarray]:
    """Returns the episodes that the learning curve is measured on, and their features.

    Args:
        dataset: The validation split, or None to watch some of the training episodes.
        training: The training episodes.
        encoder: The encoder of the state.
    """
    if dataset is None:
        chosen = np.random.default_rng(0).permutation(len(training))[:WATCHED]
        episodes = training.select(np.sort(chosen))
    else:
        with as_config_error("data.validation"):
            episodes = from_rows(rows_of(dataset))
            require_columns(encoder.state, episodes)
        if absent := encoder.unreported(encode_episodes(encoder.state, episodes)):
            logger.warning(
                f"The validation split has no value of {', '.join(absent)}: its figures are of "
                "decisions without them"
            )
        shared = names_of_groups(training) & names_of_groups(episodes)
        if shared:
            logger.warning(
                f"{len(shared)} groups or ids are in the training and in the validation split, "
                f"{min(shared)} among them: the validation figures flatter"
            )
    return episodes, encode_episodes(encoder.state, episodes)


def gather_experience(
    model: DeploymentModel,
    episodes: Episodes,
    features: np.ndarray,
    is_whole: np.ndarray,
    settings: AlgorithmSettings,
    params: TrainingParams,
) -> Experience:
    """Returns what the settings let the Q-function learn from; see `encode_training_split`."""
    assert model.encoder is not None
    if settings.experience == "environment":
        return play_environment(episodes, model.encoder, settings, params.data_seed)
    transitions = transitions_of(episodes, settings)
    if not isinstance(model, DeploymentQNetwork):
        return transitions
    share, dropout, seed = settings.hidden_share, settings.feature_dropout, params.data_seed
    hides = share > 0 or dropout > 0
    return Replay(
        model.encoder.standardise(features),
        transitions,
        batch_size=batch_size(params),
        scale=model.ordered.scale,
        seed=seed,
        hiding=hiding_for(model.encoder, share, dropout, seed) if hides else None,
        # Dropout is no team that measures less: it is for all.
        is_whole=is_whole if share > 0 else None,
    )


def make_learner(
    model: DeploymentModel,
    experience: Experience,
    features: np.ndarray,
    settings: AlgorithmSettings,
    params: TrainingParams,
    optimizer: torch.optim.Optimizer,
) -> Learner:
    """Joins model, optimiser and experience."""
    seed = params.data_seed
    if isinstance(model, DeploymentQTable):
        # numpy learns the table in place, and sees only memory of the host.
        model.to("cpu")
        table, counts = model.table.detach().numpy(), model.counts.numpy()
        if isinstance(experience, DeploymentEnvironment):
            cells = model.cells(experience.features)
            return explore_with_table(experience, settings, table, counts, cells, seed)
        assert isinstance(experience, Transitions)
        return LoggedTable(ReplayedTable(table, counts, model.cells(features), experience))
    if isinstance(model, DeploymentTrees):
        assert isinstance(experience, Transitions)
        assert model.encoder is not None
        assert model.bounds is not None
        return FittedTrees(
            model,
            features,
            experience,
            model.encoder.signs,
            model.bounds,
            model.boosting,
            settings.rewards,
            params.seed,
        )
    assert isinstance(model, DeploymentQNetwork)
    rule = rule_of(settings, params.max_grad_norm or 0.0)
    members = [DQN(network, rule, optimizer.step) for network in model.ordered.networks()]
    if isinstance(experience, DeploymentEnvironment):
        scale = model.ordered.scale
        return explore_with_network(
            experience, settings, members[0], scale, batch_size(params), seed
        )
    assert isinstance(experience, Replay)
    return LoggedNetwork(members, experience.to(members[0].target.device), optimizer.step)


def describe_training(
    model: DeploymentModel, episodes: Episodes, settings: AlgorithmSettings
) -> None:
    """Tells the model what its file is to say of its training."""
    labels = episodes.labels
    model.describe(
        form=settings.form,
        rewards=settings.rewards.as_dict(),
        discount=settings.discount,
        training_data={
            "fingerprint": episodes.fingerprint(),
            "n_episodes": len(labels),
            "n_groups": episodes.n_groups,
            "n_decisions": int(episodes.canary_lengths.sum()),
            "n_good": int((labels == 0).sum()),
            "n_bad": int((labels == 1).sum()),
            "n_unlabelled": int((labels < 0).sum()),
            "group_digests": group_digests(episodes),
            "levels": describe_levels(episodes, metrics_of(parse_state(settings.state))),
        },
        metrics={},
        calibration=None,
        version=FORMAT_VERSION,
    )


def batch_size(params: TrainingParams) -> int:
    """Returns the decisions of a gradient step: the mean gradient of k batches is that of one."""
    return params.per_device_train_batch_size * params.gradient_accumulation_steps
