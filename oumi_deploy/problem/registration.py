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

"""Makes the environment known to `gymnasium.make`, by an entry point that Gymnasium looks for."""

ENVIRONMENT_ID = "oumi_deploy/Deployment-v1"


def register() -> None:
    """Registers the environment, once."""
    # Gymnasium calls this while it is itself being imported.
    from gymnasium.envs.registration import register, registry

    if ENVIRONMENT_ID not in registry:
        register(
            ENVIRONMENT_ID, entry_point="oumi_deploy.problem.environment:DeploymentEnvironment"
        )
