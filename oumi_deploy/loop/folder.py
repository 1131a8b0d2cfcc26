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

"""The folder of a loop: every version, which of them is champion, and how it came to be.

    loop.toml           settings
    policy.json         the champion's policy, for `oumi-deploy serve --policy`
    champion            link to its version
    versions/1, 2, ...  policy.json, pretrained/, about.json; never changed again
    history.jsonl       a line an event
    work/               of a run under way

The link `champion` alone says who is champion: to replace it is one rename, so there is no moment
at which the folder holds half a promotion.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oumi_deploy.errors import DeployError
from oumi_deploy.loop.disk import link, sync, told
from oumi_deploy.loop.history import add_event, holds_promotions, read_history

POLICY = "policy.json"
PRETRAINED = "pretrained"
ABOUT = "about.json"

_CHAMPION = "champion"
_VERSIONS = "versions"
_WORK = "work"
_HISTORY = "history.jsonl"


class LoopFolder:
    """A loop's folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path):
        self.path = path

    @property
    def is_begun(self) -> bool:
        """Whether there is a champion."""
        return (self.path / _CHAMPION).is_symlink()

    @property
    def champion(self) -> int:
        """Number of the champion's version.

        Raises:
            DeployError: If there is none yet, or the link leads elsewhere.
        """
        if not self.is_begun:
            raise self._not_begun()
        target = os.readlink(self.path / _CHAMPION)
        number = target.rpartition("/")[2]
        if not number.isdecimal():
            raise DeployError(
                f"{self.path / _CHAMPION}: leads to {target}, which is no version: link it to one, "
                f"as {_VERSIONS}/1"
            )
        return int(number)

    def _not_begun(self) -> DeployError:
        return DeployError(
            f"{self.path}: no champion yet: `oumi-deploy learn --loop {self.path} --init "
            "--policy FILE` begins with one"
        )

    def version(self, number: int) -> Path:
        """Returns the folder of a version."""
        return self.path / _VERSIONS / str(number)

    def about(self, number: int) -> dict[str, Any]:
        """Returns what is written of a version.

        Raises:
            DeployError: If it cannot be read.
        """
        path = self.version(number) / ABOUT
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DeployError(f"{path}: {error}") from error

    def lineage(self) -> list[int]:
        """Returns the version that the champion was trained from, that of this one, and so on."""
        numbers, parent = [], self.about(self.champion)["parent"]
        while parent is not None:
            numbers.append(parent)
            parent = self.about(parent)["parent"]
        return numbers

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps two runs apart; the lock of one that was killed is gone with it.

        Raises:
            DeployError: If another run holds it, or there is no such folder, or its disk knows no
                locks, or a file could not be read or written meanwhile.
        """
        try:
            # The folder itself is locked: a dry run writes nothing, not even a lock.
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise DeployError(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeployError(
                f"{self.path}: another `oumi-deploy learn` is at work here; try again later"
            ) from error
        except OSError as error:
            raise DeployError(
                f"{self.path}: cannot be locked ({error.strerror}), as on some network disks: keep "
                "the loop on a disk of this machine"
            ) from error
        else:
            with told():
                yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def workplace(self, *, elsewhere: bool = False) -> Iterator[Path]:
        """Yields an empty folder that is thrown away in the end.

        Args:
            elsewhere: Whether to leave the loop's folder alone.
        """
        if elsewhere:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
            return
        work = self.path / _WORK
        # What a killed run left; its training may still write, but never again to where we do.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(exist_ok=True)
        try:
            yield Path(tempfile.mkdtemp(dir=work))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def next_number(self) -> int:
        """Returns the number of the version to come."""
        folder = self.path / _VERSIONS
        names = os.listdir(folder) if folder.is_dir() else []
        return max((int(name) for name in names if name.isdecimal()), default=0) + 1

    def keep(self, draft: Path, about: dict[str, Any]) -> int:
        """Keeps a version for good; the champion stays who it is.

        Args:
            draft: Folder on the same disk, with what is to be kept beside `about.json`.
            about: What to write of it.

        Returns:
            Its number.
        """
        number = self.next_number()
        text = json.dumps({"version": number, **about}, indent=1, allow_nan=False)
        (draft / ABOUT).write_text(text + "\n", encoding="utf-8")
        sync(draft)
        self.version(number).parent.mkdir(exist_ok=True)
        os.replace(draft, self.version(number))
        sync(self.version(number).parent, whole=False)
        return number

    def promote(self, number: int) -> None:
        """Makes a version the champion, in one step."""
        link(self.path / POLICY, f"{_CHAMPION}/{POLICY}")
        link(self.path / _CHAMPION, f"{_VERSIONS}/{number}")
        sync(self.path, whole=False)

    def note(self, event: str, reason: str, *, champion: int | None = None, **more: Any) -> None:
        """Adds a line to the history.

        Args:
            event: What happened, a word.
            reason: Why.
            champion: Who is champion then, if it is not who is champion now.
            more: What else to tell.
        """
        champion = self.champion if champion is None else champion
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "champion": champion,
            "policy_version": self.about(champion)["policy_version"],
            **more,
            "reason": reason,
        }
        add_event(self.path / _HISTORY, line)

    def history(self) -> list[dict[str, Any]]:
        """Returns the history, oldest first.

        Raises:
            DeployError: If there is no such folder, or it was not begun, or the history cannot be
                read.
        """
        if not self.path.is_dir():
            raise DeployError(f"{self.path}: no such folder")
        history = read_history(self.path / _HISTORY)
        if not history and not self.is_begun:
            raise self._not_begun()
        return history

    @property
    def is_held(self) -> bool:
        """Whether somebody went back, and nobody has said since that promotions may go on."""
        return holds_promotions(self.history())

    def settle(self) -> None:
        """Notes what a run did that was killed before it could note it."""
        history = self.history()
        noted = max((line.get("version", 0) for line in history), default=0)
        last = history[-1]["champion"] if history else None
        if last != self.champion:
            reason = "a run was ended between a change of champion and its note: this is who is"
            self.note("recovered", reason, version=max(noted, self.champion))
        elif noted < self.next_number() - 1:
            reason = "the run that made the version was ended before it could be made champion"
            self.note("unfinished", reason, version=self.next_number() - 1)
