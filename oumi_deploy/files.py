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


@contextlib.contextmanager
def replace_when_done(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write to, and renames it to `path` at the end.

    If the block raises, what was written is removed and `path` stays as it was. The block
    may make a file or a folder.

    Args:
        path: The final name of the file or folder.
        overwrite: Whether an existing file may be replaced. A folder never is.

    Raises:
        DeployError: If `path` exists and may not be replaced, or its folder cannot be made.
    """
    final = Path(path)
    if final.is_dir() or (final.exists() and not overwrite):
        raise DeployError(f"{final} exists already: choose another name, or pass --overwrite")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise DeployError(f"cannot write {final}: {error.strerror or error}") from error
    try:
        draft = work / final.name
        yield draft
        os.replace(draft, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
