"""Files of lines that are appended one by one, by one writer, which may be killed at any time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ofa_hw.errors import OfaHwError

_SYNC_INTERVAL_S: Final = 2.0
_FULL: Final = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class LineFile:
    """The one writer of a file of lines; use it as a context manager.

    What is appended survives the death of this process at once, and that of the machine after a few
    seconds, or after `sync`.

    Attributes:
        path: Of the file.
        end: How many bytes of it are whole lines; 0 until `keep` says how many stay.
    """

    def __init__(self, path: Path, failure: type[OfaHwError]) -> None:
        """Opens a file, new or to go on with, and locks it.

        Args:
            path: Of the file.
            failure: What is raised if it cannot be written.

        Raises:
            OfaHwError: `failure`, if it cannot be written, or another process is writing it.
        """
        self.path, self.end, self._failure = path, 0, failure
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise failure(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            writer = _writer(self._descriptor)
            os.close(self._descriptor)
            raise failure(
                f"{path} is being written by {writer}; wait for it to end, or name another file"
            ) from error
        self._synced_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def keep(self, end: int) -> None:
        """Cuts off what is after so many bytes."""
        os.ftruncate(self._descriptor, end)
        self.end = end

    def append(self, line: str) -> None:
        """Appends one line, which ends in a newline, whole or not at all.

        Raises:
            OfaHwError: `failure`, if the device is full or gone.
        """
        data = line.encode()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            self.end += len(data)
            if time.monotonic() - self._synced_s > _SYNC_INTERVAL_S:
                self.sync()
        except OSError as error:
            os.ftruncate(self._descriptor, self.end)
            remedy = "make room and " if error.errno in _FULL else ""
            raise self._failure(
                f"cannot write {self.path}: {error.strerror}; what it holds is kept: {remedy}"
                "run the same command again to go on"
            ) from error

    def sync(self) -> None:
        """Returns when everything is on the disk."""
        os.fsync(self._descriptor)
        self._synced_s = time.monotonic()

    def close(self) -> None:
        """Brings everything to the disk and lets other writers in."""
        try:
            self.sync()
        finally:
            os.close(self._descriptor)  # gives the lock back too


def whole_lines(data: bytes) -> list[bytes]:
    """The lines of a file's content, each with its newline; a torn last one is left out."""
    return [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def read_json_lines(
    path: str | Path, what: str, *fields: str, failure: type[OfaHwError]
) -> list[dict[str, Any]]:
    """The objects in the whole lines of a file, in order.

    Args:
        path: Of the file.
        what: It is, for messages, as "a training log".
        fields: That every line has.
        failure: What is raised.

    Raises:
        OfaHwError: `failure`, if there is no such file, or a line is something else.
    """
    try:
        lines = whole_lines(Path(path).read_bytes())
    except OSError as error:
        raise failure(f"cannot read {path} as {what}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
            missing = [field for field in fields if field not in data]
        except (ValueError, TypeError) as error:
            raise failure(f"{path}, line {number}: no line of {what} ({error})") from error
        if missing or not isinstance(data, dict):
            raise failure(f"{path}, line {number}: no line of {what}: {line[:60]!r}")
        found.append(data)
    return found


def _writer(descriptor: int) -> str:
    """Who holds the lock on a file, as Linux tells."""
    try:
        inode = f":{os.fstat(descriptor).st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and fields[5].endswith(inode):
                return f"process {fields[4]}"
    except (OSError, IndexError):
        pass
    return "another process"
