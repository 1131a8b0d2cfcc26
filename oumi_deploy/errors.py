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

"""The errors a user can cause and mend."""

from collections.abc import Iterable


class DeployError(ValueError):
    """Bad input, said in one line that names the place and the remedy.

    The command line prints the message and exits with status 2; under `oumi` commands the
    plugin turns it into Oumi's own configuration error.
    """


def near_name(name: object, names: Iterable[str], otherwise: str | None = None) -> str:
    """Returns a hint for a name that is unknown: the nearest that there is.

    Args:
        name: The unknown name.
        names: The names that there are.
        otherwise: The hint where none is near; by default all names.
    """
    # Imported here: `decide` need not wait for what only a mistake needs.
    from difflib import get_close_matches

    names = list(names)
    near = get_close_matches(str(name), names, n=1)
    return f"did you mean {near[0]}?" if near else otherwise or f"there are {', '.join(names)}"
