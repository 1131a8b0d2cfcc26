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


"""Who calls whom, as the service is told."""

import json
from pathlib import Path

from oumi_deploy.errors import DeployError
from oumi_deploy.policy.together import Calls


def read_calls(path: Path) -> Calls:
    """Reads which services each service calls: `{"checkout": ["cart", "payment"]}`.

    Raises:
        DeployError: If the file cannot be read or holds something else.
    """
    try:
        calls = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeployError(f"--calls {path}: {error}") from error
    if not isinstance(calls, dict) or not all(
        isinstance(callees, list) and all(isinstance(callee, str) for callee in callees)
        for callees in calls.values()
    ):
        raise DeployError(
            f'--calls {path}: expected an object of lists, as in {{"checkout": ["cart"]}}'
        )
    return calls
