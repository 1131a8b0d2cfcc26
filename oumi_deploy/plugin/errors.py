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

"""Our errors as Oumi's, so that `oumi` prints them as one line."""

import contextlib
from collections.abc import Iterator

from oumi.exceptions import OumiConfigError

from oumi_deploy.errors import DeployError


class DeployConfigError(OumiConfigError):
    """What oumi_deploy refuses, under an `oumi` command."""


@contextlib.contextmanager
def as_config_error(place: str = "") -> Iterator[None]:
    """Turns a DeployError into a DeployConfigError that names the place in the config."""
    try:
        yield
    except DeployError as error:
        raise DeployConfigError(f"{place}: {error}" if place else str(error)) from error
