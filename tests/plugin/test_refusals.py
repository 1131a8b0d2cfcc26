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

"""What cannot be meant is refused in one line that names the setting."""

import pytest

DATASET = "deployment_episodes"


def kwargs(**settings) -> dict:
    return {"training": {"trainer_kwargs": settings}}


def model(**settings) -> dict:
    return {"model": {"model_kwargs": settings}}


def data(**settings) -> dict:
    dataset = {"dataset_name": DATASET, "dataset_kwargs": settings}
    return {"data": {"train": {"datasets": [dataset]}}}


def sample(**parameters) -> dict:
    return data(generate={"count": 30, "seed": 1, "parameters": parameters})


SAMPLE = {"count": 30, "seed": 1}
IN_ENVIRONMENT = {"experience": "environment"}
TABLE, NETWORK = "table", "network"


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        # trainer_kwargs
        (TABLE, kwargs(fomr="single"), "training.trainer_kwargs: unknown setting fomr: did you"),
        (TABLE, kwargs(form="both"), "training.trainer_kwargs: form: 'both' is not one of"),
        (TABLE, kwargs(trainer="deploment"), "trainer_kwargs.trainer: 'deploment' is no trainer"),
        (TABLE, kwargs(trainer=None), "trainer_kwargs.trainer: None is no trainer; set it to dep"),
        (NETWORK, kwargs(trainer=None), "trainer_kwargs.trainer: None is no trainer; set it to d"),
        (TABLE, kwargs(loss="huber"), "training.trainer_kwargs: loss has no effect with a table"),
        (TABLE, kwargs(epsilon_end=0.1), "epsilon_end has no effect with experience: logged"),
        (NETWORK, kwargs(cql_weight=1, **IN_ENVIRONMENT), "cql_weight has no effect with exper"),
        (NETWORK, kwargs(form="single", double=True), "double has no effect with form: single"),
        (NETWORK, {"model": {"freeze_layers": ["network"]}}, "model.freeze_layers has no effect"),
        (TABLE, {"training": {"max_grad_norm": 5.0}}, "training.max_grad_norm has no effect here"),
        (NETWORK, {"training": {"dataloader_num_workers": 2}}, "dataloader_num_workers has no ef"),
        (NETWORK, {"training": {"weight_decay": -1.0}}, "training.weight_decay: -1 is not 0 or mo"),
        (TABLE, kwargs(form="single", discount=0.9), "discount has no effect with form: single"),
        (TABLE, kwargs(rewards={"step_costs": 1}), "unknown setting rewards.step_costs: did you"),
        (TABLE, kwargs(state=["label"]), "training.trainer_kwargs: state: label cannot be state"),
        (TABLE, kwargs(state=["fault_type"]), "state: fault_type cannot be state"),
        (TABLE, kwargs(state=["telemetry"]), "state: telemetry cannot be state"),
        (TABLE, kwargs(state=["service"]), "state: service cannot be state"),
        (TABLE, kwargs(state=["group"]), "state: group cannot be state"),
        (TABLE, kwargs(state=[]), "training.trainer_kwargs: state: the list is empty"),
        (TABLE, kwargs(state=["queue"]), "data.train: state: the episodes have no column queue"),
        (
            TABLE,
            kwargs(state=["eror_rate", "cpu_usage"]),
            "eror_rate: did you mean error_rate?",
        ),
        (
            TABLE,
            kwargs(state=["requests.control"]),
            "the episodes have no value of requests.c",
        ),
        # calibration
        (TABLE, kwargs(calibration={"fold": 5}), "unknown setting calibration.fold: did yo"),
        (
            TABLE,
            kwargs(calibration={"folds": 1}),
            "calibration.folds: 1 is not a whole numb",
        ),
        (
            TABLE,
            kwargs(calibration={"guardrails": {"limits": [{"metric": "error_rate"}]}}),
            "calibration.guardrails: limits, entry 1: name one of above and below",
        ),
        (
            TABLE,
            kwargs(
                directions={"error_rate": "lower"},
                calibration={
                    "guardrails": {
                        "limits": [{"metric": "error_rate", "above": 0.5, "answer": "PAUSE"}]
                    }
                },
            ),
            "calibration.guardrails: error_rate above 0.5: lower values",
        ),
        (TABLE, kwargs(calibration={"folds": 2.0}), "calibration.folds: 2.0 is not a whole n"),
        (TABLE, kwargs(calibration={"folds": True}), "calibration.folds: True is not a whol"),
        (TABLE, kwargs(calibration={"folds": 99}), "trainer_kwargs: calibration.folds 99: "),
        (
            TABLE,
            kwargs(calibration={"folds": 5, "alpha": 0.1}),
            "calibration.alpha: a bound on false alarms takes releases that the very policy was no",
        ),
        # model_kwargs
        (NETWORK, model(hiden_sizes=[3]), "model.model_kwargs: unknown hiden_sizes; there are"),
        (NETWORK, model(hidden_sizes=[0]), "model.model_kwargs: hidden_sizes: [0] is not a list"),
        (NETWORK, model(hidden_sizes=None), "model.model_kwargs: hidden_sizes: None is not a li"),
        (NETWORK, model(hidden_sizes="64"), "model.model_kwargs: hidden_sizes: '64' is not a li"),
        (NETWORK, model(dueling=1), "model.model_kwargs: dueling: 1 is not true or false"),
        (NETWORK, model(built={}), "model.model_kwargs: built: 'encoder' is missing"),
        (TABLE, model(hidden_sizes=[3]), "model.model_kwargs: unknown hidden_sizes; there are b"),
        (TABLE, model(bins=1), "model.model_kwargs: bins: 1 is not a whole number of 2 or more"),
        (TABLE, model(bins=True), "model.model_kwargs: bins: True is not a whole number"),
        (TABLE, model(bins=60), "model.model_kwargs: the table would have"),
        (TABLE, model(edges=[0.1]), "model.model_kwargs: edges: expected features and their ed"),
        (TABLE, model(edges={"error_rate": 1}), "model.model_kwargs: edges: expected a list of "),
        (TABLE, model(edges={"error_rate": "x"}), "model.model_kwargs: edges: expected a list o"),
        (TABLE, model(edges={"error_rate": [2, 1]}), "model.model_kwargs: edges.error_rate: giv"),
        (TABLE, model(edges={"eror": [1]}), "model.model_kwargs: edges: the state has no featur"),
        # dataset_kwargs
        (TABLE, data(generat=SAMPLE), "dataset_kwargs: unknown generat; there are metrics and g"),
        (TABLE, data(), "name an episode file as dataset_path, or a sample's count and seed"),
        (TABLE, data(generate=30), "generate: expected names and values, got 30"),
        (TABLE, data(generate={"count": 0, "seed": 1}), "generate.count: 0 is not a whole numb"),
        (TABLE, data(generate={"count": 9}), "generate.seed: None is not a whole number from 0"),
        (TABLE, data(generate={**SAMPLE, "sed": 2}), "generate: unknown sed; there are count, s"),
        (TABLE, data(generate={**SAMPLE, "parameters": 3}), "generate.parameters: expected name"),
        (TABLE, sample(bad_shar=0.5), "parameters: unknown bad_shar: did you mean bad_share?"),
        (TABLE, sample(bad_share="x"), "bad_share is 'x'"),
        (TABLE, data(generate=SAMPLE, metrics="load"), "dataset_kwargs: metrics: expected a lis"),
        (TABLE, data(generate=SAMPLE, metrics=3), "dataset_kwargs: metrics: expected a list, got"),
        (TABLE, data(generate=SAMPLE, metrics=["label"]), "metrics: 'label' is not a metric"),
        # the data themselves
        (TABLE, sample(bad_share=0.0), "data.train: training needs good and bad episodes, and h"),
        (NETWORK, sample(bad_share=1.0), "data.train: training needs good and bad episodes, and"),
        # Oumi's own parameters
        (TABLE, {"training": {"optimizer": "sgd"}}, "training.optimizer has no effect here (a t"),
        (TABLE, {"training": {"learning_rate": 1.5}}, "training.learning_rate: 1.5 is not above"),
        (NETWORK, {"training": {"learning_rate": 0.0}}, "training.learning_rate: 0 is not above"),
        (
            TABLE,
            {"training": {"per_device_train_batch_size": 32}},
            "training.per_device_train_batch_size has no effect here (a table learns from",
        ),
        (
            NETWORK,
            {"training": {"per_device_train_batch_size": 0}},
            "training.per_device_train_batch_size: 0 is not 1 or more",
        ),
        (TABLE, {"training": {"weight_decay": 0.1}}, "training.weight_decay has no effect here"),
        (NETWORK, {"training": {"compile": True}}, "training.compile has no effect here"),
        (
            NETWORK,
            {"training": {"mixed_precision_dtype": "BF16"}},
            "training.mixed_precision_dtype has no effect here",
        ),
        (NETWORK, {"training": {"optimizer": "adamm"}}, "training: Unsupported optimizer: adamm"),
        (
            NETWORK,
            {"training": {"lr_scheduler_type": "liner"}},
            "training: Unknown scheduler type: liner",
        ),
        (
            NETWORK,
            {"training": {"trainer_type": "TRL_SFT", "eval_steps": 0.5}},
            "training.eval_steps: 0.5 is not a whole number of steps",
        ),
        (
            NETWORK,
            {"model": {"torch_dtype_str": "bfloat16"}},
            "model.torch_dtype_str: bfloat16 has no effect here",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(oumi, train, tmp_path, kind, changes, says):
    with pytest.raises(oumi.ConfigError) as refusal:
        train(kind, changes)
    message = str(refusal.value)
    assert says in message
    assert "\n" not in message
    # Before training starts: nothing was learnt, nothing exported.
    left = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in left if name.startswith(("checkpoint", "pretrained"))]


def test_adapters_are_refused_by_name(oumi):
    from oumi.core.configs import TrainingParams

    from oumi_deploy.errors import DeployError
    from oumi_deploy.plugin.oumi_params import refuse_idle_params

    with pytest.raises(DeployError, match=r"training\.use_peft has no effect here"):
        refuse_idle_params(TrainingParams(use_peft=True), None, table=True)


def test_zero_episodes_are_refused(oumi, train, tmp_path):
    empty = tmp_path / "empty.csv"
    empty.write_text("episode_id,step,error_rate,label\n")
    dataset = {"dataset_name": DATASET, "dataset_path": str(empty), "dataset_kwargs": {}}
    with pytest.raises(oumi.ConfigError, match=r"empty\.csv.*no (episodes|rows)"):
        train("table", {"data": {"train": {"datasets": [dataset]}}})


def test_a_file_that_breaks_the_format_is_refused_with_row_and_column(oumi, train, tmp_path):
    broken = tmp_path / "broken.csv"
    broken.write_text("episode_id,step,error_rate,label\na,0,0.1,good\na,1,1.5,good\n")
    dataset = {"dataset_name": DATASET, "dataset_path": str(broken)}
    with pytest.raises(oumi.ConfigError, match=r"broken\.csv: row 2.*error_rate.*1\.5") as refusal:
        train("table", {"data": {"train": {"datasets": [dataset]}}})
    assert "\n" not in str(refusal.value)


def test_other_models_cannot_be_trained_by_it(oumi):
    import torch

    from oumi_deploy.plugin.trainer import DeploymentTrainer

    params = oumi.configs.TrainingParams(trainer_kwargs={"trainer": "deployment"})
    with pytest.raises(oumi.ConfigError, match=r"model\.model_name: the deployment trainer trains"):
        DeploymentTrainer(torch.nn.Linear(1, 1), None, params, None)


def test_other_trainers_are_still_oumis(oumi):
    import torch
    from oumi.builders.training import build_trainer
    from oumi.core.configs import TrainerType
    from oumi.core.trainers.oumi_trainer import Trainer

    create = build_trainer(TrainerType.OUMI, processor=None)
    model = torch.nn.Linear(1, 1)
    params = oumi.configs.TrainingParams(
        enable_tensorboard=False, max_steps=1, dataloader_num_workers=0
    )
    trainer = create(model=model, processing_class=None, args=params, train_dataset=[1, 2])
    assert type(trainer) is Trainer


def test_episodes_alone_can_be_trained_on(oumi):
    from oumi_deploy.plugin.models import DeploymentQTable
    from oumi_deploy.plugin.trainer import DeploymentTrainer

    params = oumi.configs.TrainingParams(trainer_kwargs={"trainer": "deployment"})
    params.learning_rate = 0.5
    with pytest.raises(oumi.ConfigError, match="expected datasets of episodes, got list"):
        DeploymentTrainer(DeploymentQTable(), None, params, [1, 2])
    import datasets

    words = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(oumi.ConfigError, match=r"data\.train: the dataset's rows are not episod"):
        DeploymentTrainer(DeploymentQTable(), None, params, words)
