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

"""Writing files so that nothing half-written ever stands under a final name."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oumi_deploy.errors import DeployError


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises DeployError if `path` exists and may not be replaced; long work asks first."""
    if path.exists() and not overwrite:
        raise DeployError(f"{path} exists already: choose another name, or pass --overwrite")


@contextlib.contextmanager
def replace_when_done(
    path: str | os.PathLike[str], *, overwrite: bool = True, folder: bool = False
) -> Iterator[Path]:
    """Yields a path beside `path` to write to, and renames it to `path` at the end.

    If the block raises, what was written is removed and `path` stays as it was.

    Args:
        path: The final name of the file or folder.
        overwrite: Whether what exists there may be replaced.
        folder: Whether the block makes a folder; a file never replaces one.

    Raises:
        DeployError: If `path` exists and may not be replaced, or its folder cannot be made.
    """
    final = Path(path)
    refuse_existing(final, overwrite and (folder or not final.is_dir()))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise DeployError(f"cannot write {final}: {error.strerror or error}") from error
    try:
        draft = work / final.name
        yield draft
        if final.is_dir():
            # A folder cannot be renamed over one that holds files.
            os.replace(final, work / "replaced")
        os.replace(draft, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
