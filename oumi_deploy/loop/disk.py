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

"""Changing files so that a crash, or a power cut, leaves the old or the new."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from oumi_deploy.errors import DeployError


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tells in a line what the disk refuses: it is full, or the folder is not ours."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        raise DeployError(f"{place}{error.strerror or error}") from error


def link(path: Path, target: str) -> None:
    """Has a link lead to a target, in one step."""
    if path.is_symlink() and os.readlink(path) == target:
        return
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    os.symlink(target, draft)
    os.replace(draft, path)


def sync(folder: Path, *, whole: bool = True) -> None:
    """Has the disk hold a folder's names, and all that is in it, before anything points there."""
    paths = [*(folder.rglob("*") if whole else []), folder]
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
