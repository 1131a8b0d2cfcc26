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

"""`oumi train` ends with the policy's vet, keeps it, and does not fail for it."""

import logging

from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.evaluation.vet.levels import describe_levels
from oumi_deploy.evaluation.vet.vet import vet
from oumi_deploy.policy.policy import DeploymentPolicy


def test_a_training_tells_its_vet_after_the_policy_is_saved(train, generated, warned):
    told: list[str] = []

    def listen(record: logging.LogRecord) -> bool:
        told.append(record.getMessage())
        return True

    logger = logging.getLogger("oumi")
    logger.addFilter(listen)
    try:
        # No release here has errors of 0.99: nothing that it could tell apart was learnt.
        for name, edges in (("told apart", [0.03]), ("not told apart", [0.99])):
            kwargs = {"state": ["error_rate"], "form": "single"}
            changes = {
                "model": {"model_kwargs": {"edges": {"error_rate": edges}}},
                "data": {"validation": generated(60, 2)},
                "training": {"trainer_kwargs": kwargs},
            }
            run = train("table", changes, out=name)
            policy = DeploymentPolicy.load(run.folder / "deployment_policy_model.json")
            found = vet(policy)
            says = next(text for text in told if "oumi-deploy vet" in text)
            assert found.line in says
            # The policy is in its place before anything is tried.
            assert told.index(says) > next(i for i, t in enumerate(told) if "Policy saved" in t)
            assert policy.training_data["levels"] == describe_levels(
                generate_sample(60, 1), ["error_rate"]
            )
            if policy.calibration is not None:
                assert policy.calibration.fitted_on["vet"] == found.kept()
            warnings = [text for text in warned if "fails its vet" in text]
            assert len(warnings) == (not found.passes)
            assert found.passes == (name == "told apart")
            told.clear()
            warned.clear()
    finally:
        logger.removeFilter(listen)
