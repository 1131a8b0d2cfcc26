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

"""The trainer that the plugin puts in the place of Oumi's for deployment policies.

It is Oumi's own trainer (its optimiser, learning-rate schedules, callbacks, logging and
telemetry) with another loop: a step of it is a step of one of our learners.
"""

import contextlib
import copy
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from oumi.core.configs import TrainingConfig, TrainingParams
from oumi.core.trainers.oumi_trainer import Trainer as OumiTrainer
from oumi.core.trainers.oumi_trainer import TrainingState
from oumi.utils.io_utils import save_json
from oumi.utils.logging import logger
from tqdm import tqdm

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence
from oumi_deploy.evaluation.figures.run import CURVE_FILE, POLICY_FILE
from oumi_deploy.evaluation.metrics import point_figures
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.evaluation.vet.vet import describe, vetted
from oumi_deploy.files import replace_when_done
from oumi_deploy.learning.replay import Replay
from oumi_deploy.plugin.calibration import calibrated, read_calibration_settings
from oumi_deploy.plugin.checkpoint import checkpoint_path, read_checkpoint, write_checkpoint
from oumi_deploy.plugin.cross_fitting import cross_fitted, deal_folds
from oumi_deploy.plugin.errors import as_config_error
from oumi_deploy.plugin.models import DeploymentModel, DeploymentQNetwork, DeploymentQTable
from oumi_deploy.plugin.preparation import (
    batch_size,
    describe_training,
    encode_training_split,
    gather_experience,
    make_learner,
    read_trainer_settings,
    read_training_episodes,
    watched_episodes,
)
from oumi_deploy.plugin.quiet import quiet_oumi
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.problem.environment import DeploymentEnvironment

TRAINER_NAME = "deployment"
TELEMETRY_FILE = "telemetry_rank0000.json"
WEIGHTS_FILE = "model.safetensors"
PRETRAINED_FOLDER = "pretrained"

_SAME_TO_RESUME = (
    "optimizer",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "sgd_momentum",
    "max_grad_norm",
)
"""Training parameters without which a resumed run would not be the one that was interrupted."""


class DeploymentTrainer(OumiTrainer):
    """Trains a table, a network or trees of Q-values on deployment episodes.

    `training.max_steps`, `logging_steps`, `save_steps` and `eval_steps` count

    - passes over all decisions, for a table on logged episodes;
    - iterations of fitted Q iteration, for trees;
    - gradient steps on `per_device_train_batch_size` decisions, for a network on them;
    - episodes of the environment, for either in it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processing_class: Any,
        args: TrainingParams,
        train_dataset: Any,
        eval_dataset: Any = None,
        training_config: TrainingConfig | None = None,
        config: TrainingConfig | None = None,
        callbacks: list[Any] | None = None,
        **unused: Any,
    ):
        """Reads the settings, encodes the episodes and builds the model.

        Args:
            model: A `DeploymentQTable`, `DeploymentQNetwork` or `DeploymentTrees`, new or loaded.
            processing_class: None; episodes are not text.
            args: Oumi's training parameters, with our settings in `trainer_kwargs`.
            train_dataset: Rows of episodes.
            eval_dataset: Rows of episodes, or None.
            training_config: The whole config.
            config: The same, from Oumi's own trainer type.
            callbacks: Called at each step and log.
            **unused: What Oumi passes on for other trainers.

        Raises:
            DeployConfigError: If a setting, a parameter or the data cannot be used.
        """
        self.settings = read_trainer_settings(model, args, training_config)
        with as_config_error("training.trainer_kwargs"):
            self.calibration_settings = read_calibration_settings(args.trainer_kwargs)
        assert isinstance(model, DeploymentModel)
        self.deployment_model = model
        episodes = read_training_episodes(train_dataset)
        lessons, features, is_whole = encode_training_split(
            model, episodes, self.settings, args.seed
        )
        assert model.encoder is not None
        self.watched = watched_episodes(eval_dataset, episodes, model.encoder)
        self.experience = gather_experience(model, lessons, features, is_whole, self.settings, args)
        self.folds_to_calibrate_on = self._deal_folds(episodes, eval_dataset, args.data_seed)
        describe_training(model, episodes, self.settings)
        self.history: list[dict[str, float]] = []
        self.last_eval: dict[str, float] = {}
        self._saved_step = -1
        with _oumi_refusals():
            super().__init__(
                model=model,
                processing_class=processing_class,
                args=args,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                callbacks=callbacks,
                config=config or training_config,
            )
        for group in self.optimizer.param_groups:
            if group.get("fused") is False:
                # Oumi asks for the fused kernel on CUDA alone; on a CPU it is faster too.
                group["fused"] = True
        self.learner = make_learner(
            model, self.experience, features, self.settings, self.params, self.optimizer
        )

    def _deal_folds(
        self, episodes: Episodes, eval_dataset: Any, seed: int
    ) -> tuple[Episodes, np.ndarray] | None:
        """Returns the training split with its folds, if these are what calibrates the policy."""
        n_folds = self.calibration_settings.folds
        if n_folds is None:
            return None
        with as_config_error("training.trainer_kwargs"):
            if eval_dataset is not None:
                raise DeployError(
                    "calibration.folds has no effect where data.validation calibrates: take one of "
                    "the two out"
                )
            return episodes, deal_folds(episodes, n_folds, seed, "calibration.folds")

    #
    # Training
    #
    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """Trains until `max_steps`, or else `num_train_epochs`, are done."""
        if resume_from_checkpoint:
            with as_config_error():
                self._load_from_checkpoint(resume_from_checkpoint)
        else:
            self._log_training_config()
        total = self._estimate_total_training_steps()
        with (
            _one_thread(),
            tqdm(
                total=total,
                initial=self.state.global_step,
                desc="Training",
                # Whoever asks for warnings alone gets no bar either.
                disable=not logger.isEnabledFor(logging.INFO),
            ) as bar,
        ):
            for stop in self._stops(total):
                with self._telemetry_block("training steps"):
                    outcome = self._run_until(stop, total, bar)
                self._after_steps(outcome, total)
        self._process_callbacks("on_train_end")
        self.telemetry.print_summary()
        self.log(f"Training finished at step {self.state.global_step}.")

    def _run_until(self, stop: int, total: int, bar: tqdm) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        rate = 0.0
        paid: list[float] = []
        while self.state.global_step < stop:
            self._process_callbacks("on_step_begin")
            step = self.state.global_step
            rate = float(self.lr_scheduler.get_last_lr()[0])
            outcome = self.learner.step(step, rate, self.settings.epsilon(step, total))
            if "reward" in outcome:
                paid.append(outcome["reward"])
            self._step_schedule()
            self.state.global_step += 1
            self._process_callbacks("on_step_end")
            bar.update(1)
        outcome = {k: float(v) for k, v in outcome.items()}
        if paid:
            outcome["reward"] = float(np.mean(paid))
        return {**outcome, "learning_rate": rate}

    def _step_schedule(self) -> None:
        if not isinstance(self.deployment_model, DeploymentQNetwork):
            # A table or trees have no optimiser step; the schedule only asks whether one was taken.
            self.optimizer._opt_called = True  # pyright: ignore[reportAttributeAccessIssue]
        self.lr_scheduler.step()

    def _stops(self, total: int) -> Iterator[int]:
        """Yields the steps after which there is something to log, save or evaluate."""
        p, per_epoch = self.params, self.steps_per_epoch
        every = [n for n in (p.logging_steps, p.save_steps) if n > 0]
        if self.eval_dataset is not None and p.eval_steps > 0:
            every.append(int(p.eval_steps))
        if p.save_epoch or p.eval_strategy == "epoch":
            every.append(per_epoch)
        while self.state.global_step < total:
            step = self.state.global_step
            first = [1] if step == 0 and p.logging_first_step else []
            yield min([total, *first, *(step + n - step % n for n in every)])

    def _after_steps(self, outcome: dict[str, Any], total: int) -> None:
        p, step, per_epoch = self.params, self.state.global_step, self.steps_per_epoch
        self.state.epoch = step // per_epoch
        ended = step == total

        def due(n: float) -> bool:
            return n > 0 and step % n == 0

        if due(p.logging_steps) or ended or (step == 1 and p.logging_first_step):
            self._log_step(outcome)
        evaluates = due(p.eval_steps) or (p.eval_strategy == "epoch" and due(per_epoch)) or ended
        if self.eval_dataset is not None and evaluates:
            self.evaluate()
        if due(p.save_steps) or (p.save_epoch and due(per_epoch)):
            self.save_state()

    def _log_step(self, outcome: dict[str, Any]) -> None:
        figures = self._figures()
        metrics: dict[str, Any] = {
            "train/loss": outcome["loss"],
            "learning_rate": outcome["learning_rate"],
            "epoch": self.state.epoch,
            "global_step": self.state.global_step,
        }
        for name in ("reward", "epsilon"):
            if name in outcome:
                metrics[f"train/{name}"] = outcome[name]
        place = "train" if self.eval_dataset is None else "val"
        metrics |= {f"{place}/{k}": figures[k] for k in ("accuracy", "mean_reward_with_delay")}
        metrics.update(self._process_callbacks("on_log", metrics))
        self.history.append({k: float(v) for k, v in metrics.items()})
        self.log_metrics(metrics, self.state.global_step)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the experience."""
        if isinstance(self.experience, DeploymentEnvironment):
            return self.experience.n_starts
        return self.experience.batches_per_epoch if isinstance(self.experience, Replay) else 1

    def _estimate_total_training_steps(self) -> int:
        if self.params.max_steps > 0:
            return self.params.max_steps
        return self.params.num_train_epochs * self.steps_per_epoch

    #
    # Evaluation
    #
    def evaluate(self) -> dict[str, float]:
        """Scores the policy as it stands on the validation split."""
        if self.eval_dataset is None:
            raise ValueError("No evaluation dataset provided.")
        figures = self._figures()
        self.last_eval = figures
        self.log_metrics({f"val/{k}": v for k, v in figures.items()}, self.state.global_step)
        return figures

    def get_last_eval_metrics(self) -> dict[str, Any]:
        """Returns the validation figures that `oumi tune` chooses by.

        Raises:
            DeployConfigError: If the config names no validation split.
        """
        with as_config_error():
            if self.eval_dataset is None:
                raise DeployError("data.validation: tuning needs a validation split to choose by")
        return self.last_eval or self.evaluate()

    def _figures(self) -> dict[str, float]:
        """Scores the policy as it answers, uncalibrated."""
        episodes, features = self.watched
        policy = self._finished_model().policy()
        single = self.settings.form == "single"
        evidence = policy_evidence(policy, episodes, features=features)
        answers = policy_answers(policy, episodes, per_observation=single, evidence=evidence)
        scores = score(episodes, answers.actions, self.settings.rewards, single, answers)
        return point_figures(scores)

    #
    # Saving and resuming
    #
    def save_model(self, config: TrainingConfig, final: bool = True) -> None:
        """Writes `pretrained/`, the policy file and the learning curve to the output folder.

        Raises:
            DeployConfigError: After writing, if the config asks for a bound on false alarms that
                the validation split does not support; the policy is uncalibrated then.
        """
        finished, folder = self._finished_model(), Path(config.training.output_dir)
        refused = self._calibrate(finished, config)
        with replace_when_done(folder / WEIGHTS_FILE) as draft:
            safetensors.torch.save_model(finished, str(draft))
        with replace_when_done(folder / PRETRAINED_FOLDER, folder=True) as draft, quiet_oumi():
            finished.save_pretrained(draft)
        policy = finished.policy()
        policy.save(folder / POLICY_FILE)
        with replace_when_done(folder / CURVE_FILE) as draft:
            draft.write_text(json.dumps(self.history, indent=1), encoding="utf-8")
        self.log(f"Policy saved to {folder / POLICY_FILE}.")
        self.log(
            f"Model saved. Go on from it with model_name: {folder / PRETRAINED_FOLDER} and "
            "load_pretrained_weights: True"
        )
        self._vet(policy, folder / POLICY_FILE)
        if refused is not None:
            with as_config_error("training.trainer_kwargs.calibration"):
                raise refused

    def _vet(self, policy: DeploymentPolicy, file: Path) -> None:
        """Tells what common sense says of a policy, and keeps it in its file if calibrated."""
        policy, found = vetted(policy)
        policy.save(file)
        self.log(f"What common sense says of the policy (`oumi-deploy vet`):\n{describe(found)}")
        if not found.passes:
            logger.warning(f"The policy fails its vet: {', '.join(found.failed)}")

    def _calibrate(self, model: DeploymentModel, config: TrainingConfig) -> DeployError | None:
        """Calibrates a finished model, on the validation split or by cross-fitting.

        Returns:
            Why a bound on false alarms was refused, if it was.
        """
        settings, seed = self.calibration_settings, self.params.data_seed
        if self.folds_to_calibrate_on is not None:
            try:
                calibration = cross_fitted(config, *self.folds_to_calibrate_on, seed)
            except DeployError as error:
                logger.warning(f"The policy stays uncalibrated: {error}")
            else:
                model.describe(calibration=calibration.as_dict())
            return None
        if self.eval_dataset is None:
            return None
        try:
            policy = calibrated(model.policy(), self.watched[0], settings, seed)
        except DeployError as error:
            return error
        plain = None if policy.calibration is None else policy.calibration.as_dict()
        model.describe(calibration=plain)
        return None

    def policy(self) -> DeploymentPolicy:
        """Returns the policy as it stands, uncalibrated."""
        return self._finished_model().policy()

    def _finished_model(self) -> DeploymentModel:
        """Returns a copy of the model to hand on; what is being learnt stays untouched."""
        model = copy.deepcopy(self.deployment_model)
        if isinstance(model, DeploymentQTable):
            model.finish()
        figures = {k: v for k, v in self.last_eval.items() if math.isfinite(v)}
        model.describe(metrics={"steps": self.state.global_step, "validation": figures})
        return model

    def save_state(self) -> None:
        """Writes `checkpoint-<step>`, from which a run resumes exactly."""
        if self._saved_step == self.state.global_step:
            return
        self._saved_step = self.state.global_step
        folder = checkpoint_path(self.params.output_dir, self.state.global_step)
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learner": self.learner.tensors(),
        }
        plain = {
            "state": self.state.model_dump(),
            "schedule": self.lr_scheduler.state_dict(),
            "learner": self.learner.state(),
            "history": self.history,
            "last_eval": self.last_eval,
            "telemetry": self.telemetry.state_dict(),
            "made_with": self._made_with(),
        }
        write_checkpoint(folder, tensors, plain)
        if self.params.telemetry_dir is not None:
            with replace_when_done(self.params.telemetry_dir / TELEMETRY_FILE) as draft:
                save_json(self.telemetry.state_dict(), draft)
        self.log(f"Checkpoint saved to {folder}.")

    def _load_from_checkpoint(self, checkpoint_dirname: str) -> None:
        tensors, plain = read_checkpoint(Path(checkpoint_dirname))
        for what, now in self._made_with().items():
            then = plain["made_with"].get(what)
            if then != now:
                raise DeployError(
                    f"{checkpoint_dirname}: made with another {what}{_which(then, now)}, so the "
                    "run cannot go on from it; choose a new training.output_dir, or set the "
                    "config as it was"
                )
        self.model.load_state_dict(tensors["model"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        self.lr_scheduler.load_state_dict(plain["schedule"])
        for name, tensor in self.learner.tensors().items():
            tensor.copy_(tensors["learner"][name])
        self.state = TrainingState.model_validate(plain["state"])
        self._saved_step = self.state.global_step
        self.learner.restore(plain["learner"], self.state.global_step)
        self.history, self.last_eval = plain["history"], plain["last_eval"]
        self.telemetry.load_state_dict(plain["telemetry"])
        self.log(f"Resumed from {checkpoint_dirname} at step {self.state.global_step}.")

    def _made_with(self) -> dict[str, Any]:
        """Returns what must be the same for a run to go on."""
        p = self.params
        return {
            "training data": self.deployment_model.about["training_data"]["fingerprint"],
            "setting in trainer_kwargs": _plain(asdict(self.settings)),
            "batch size": batch_size(p),
            "seed": [p.seed, p.data_seed],
            "training parameter": {name: _plain(getattr(p, name)) for name in _SAME_TO_RESUME},
            "model": _plain(self.deployment_model.made_of()),
        }

    def _get_train_dataloader(self) -> Any:
        """Returns nothing: a learner takes its experience whole, not through a data loader."""

    def _get_eval_dataloader(self) -> Any:
        """Returns nothing; see `_get_train_dataloader`."""


@contextlib.contextmanager
def _oumi_refusals() -> Iterator[None]:
    """Turns what Oumi's builders refuse, an unknown optimiser say, into one line."""
    try:
        yield
    except ValueError as error:
        with as_config_error("training"):
            raise DeployError(" ".join(str(error).split())) from error


def _which(then: Any, now: Any) -> str:
    if not isinstance(then, dict) or not isinstance(now, dict):
        return ""
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return f" ({', '.join(names)})"


def _plain(value: Any) -> Any:
    """Returns a value as it comes back from a JSON file."""
    return json.loads(json.dumps(value, default=str))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Computes in one thread: to share out networks this small costs more than it saves."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
