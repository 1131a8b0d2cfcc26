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

"""Learn from your own releases when to roll back."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oumi_deploy.policy.policy import DeploymentPolicy as DeploymentPolicy

__version__ = "0.1.0"

__all__ = ["DeploymentPolicy", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads the policy only when it is asked for: a plain import must cost nothing."""
    if name == "DeploymentPolicy":
        from oumi_deploy.policy.policy import DeploymentPolicy

        return DeploymentPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
