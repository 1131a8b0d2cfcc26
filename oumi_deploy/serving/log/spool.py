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

"""A file for entries that wait until the database is back."""

import fcntl
import logging
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.entries import Entry, LogUnavailable
from oumi_deploy.serving.log.rows import entry_of_line, line_of

_log = logging.getLogger(__name__)


class _Place(NamedTuple):
    start: int
    length: int


class Spool:
    """Entries in a file, one a line, oldest first; what is in it survives a crash.

    The file is emptied once none waits. A crash before that means that entries are handed out
    again: the database knows them by their ids.
    """

    def __init__(self, path: Path):
        """Opens the file, and sets aside what a crash left half-written.

        Raises:
            DeployError: If it cannot be opened, or another process has it.
        """
        self.path = path
        self._file = _open_alone(path)
        self._places: dict[tuple[type, str], _Place] = {}
        self._end = 0
        self._read_through()

    def __len__(self) -> int:
        """Returns how many entries wait."""
        return len(self._places)

    def add(self, entries: Sequence[Entry]) -> list[tuple[Entry, bool]]:
        """Adds entries durably.

        Returns:
            For each what waits under its id, and whether it is this one.

        Raises:
            LogUnavailable: If the file cannot be written to; then it is as it was.
        """
        fresh, lines, end = dict[tuple[type, str], _Place](), list[bytes](), self._end
        is_new = list[bool]()
        for entry in entries:
            key = (type(entry), entry.id)
            is_new.append(key not in self._places and key not in fresh)
            if is_new[-1]:
                lines.append(line_of(entry))
                fresh[key] = _Place(end, len(lines[-1]))
                end += len(lines[-1])
        try:
            _write(self._file, b"".join(lines), self._end)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise LogUnavailable(
                f"neither the decision log nor its spool file {self.path} can be written to: "
                f"{error.strerror}"
            ) from error
        self._end = end
        self._places |= fresh
        stored = [self._read(self._places[type(e), e.id]) for e in entries]
        return list(zip(stored, is_new, strict=True))

    def first(self, limit: int) -> list[Entry]:
        """Returns the oldest entries that wait, at most `limit`."""
        return [self._read(place) for place in islice(self._places.values(), limit)]

    def remove(self, entries: Sequence[Entry]) -> None:
        """Takes out entries that are in the database now."""
        for entry in entries:
            del self._places[type(entry), entry.id]
        if not self._places:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
            self._end = 0

    def set_aside(self, line: bytes, reason: str) -> None:
        """Keeps a line that will not go into the database, for a person to look at.

        Raises:
            LogUnavailable: If that file cannot be written to.
        """
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        try:
            with damaged.open("ab") as file:
                file.write(line if line.endswith(b"\n") else line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise LogUnavailable(f"{damaged}: {error.strerror}") from error
        _log.error("%s: a line went to %s: %s", self.path, damaged.name, reason)

    def close(self) -> None:
        """Lets go of the file; what waits in it stays."""
        os.close(self._file)

    def _read(self, place: _Place) -> Entry:
        return entry_of_line(os.pread(self._file, place.length, place.start))

    def _read_through(self) -> None:
        """Notes where each entry is."""
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    # A crash while it was written: nobody was told that it is kept.
                    self.set_aside(line, "it has no end")
                    break
                try:
                    entry = entry_of_line(line)
                    self._places.setdefault((type(entry), entry.id), _Place(self._end, len(line)))
                except ValueError as error:
                    self.set_aside(line, str(error))
                self._end += len(line)
        os.ftruncate(self._file, self._end if self._places else 0)
        self._end = self._end if self._places else 0


def _open_alone(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except BlockingIOError as error:
        raise DeployError(f"spool {path}: another process writes to it; name another") from error
    except OSError as error:
        raise DeployError(f"spool {path}: {error.strerror}") from error
    return file


def _write(file: int, data: bytes, start: int) -> None:
    """Writes all of `data`: on a disk that fills up, one call may write a part and no more."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, start)
        start, rest = start + written, rest[written:]
