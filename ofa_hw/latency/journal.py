"""A table's file while it is written: locked, appended line by line, safe to interrupt."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ofa_hw.errors import OutputExistsError, TableError, TableFormatError
from ofa_hw.latency.format import HEADER_START, TableReader, header_line
from ofa_hw.latency.table import Header, LatencyTable

_logger = logging.getLogger(__name__)
_SYNC_INTERVAL_S = 2.0


def read_table(path: Path) -> LatencyTable:
    """Reads a table's file.

    A last line that was torn off (power cut, kill -9) is left out with a warning.

    Raises:
        TableError: If it cannot be opened.
        TableFormatError: If a line is not of this format; its number is given.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from error
    return _parse(path, data)[0].table(path.name)


def _parse(path: Path, data: bytes) -> tuple[TableReader, int]:
    """Reads all whole lines; also returns how many bytes they take."""
    reader, good = TableReader(str(path)), 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            if reader.header is None and not HEADER_START.startswith(line[: len(HEADER_START)]):
                raise TableFormatError(f"{path} is no latency table: it begins {line[:40]!r}")
            _logger.warning("%s: line %d is torn off and left out", path, number)
            break
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise TableFormatError(f"{path}, line {number}: not text ({error.reason})") from error
        reader.read(number, text)
        good += len(line)
    return reader, good


class Journal:
    """The one writer of a table's file.

    Use it as a context manager. What is appended survives the death of this process at once, and
    that of the machine after a few seconds.

    Attributes:
        path: Of the file.
    """

    def __init__(self, path: Path, descriptor: int, end: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._end = end
        self._synced_s = time.monotonic()

    @classmethod
    def open(
        cls, path: Path, header: Header, *, force: bool = False, resume: bool = True
    ) -> tuple[Self, LatencyTable]:
        """Opens a new file, or one to go on with; also returns the table so far.

        Args:
            path: Of the file.
            header: Of what will be measured.
            force: Whether to throw away what is there.
            resume: Whether a file that is there may be gone on with.

        Raises:
            OutputExistsError: If there is a file, and neither `force` nor `resume`.
            TableError: If the file cannot be written, has another writer or another header.
            TableFormatError: If it is no latency table.
        """
        existed = path.exists()
        if existed and not force and not resume:
            raise OutputExistsError(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise TableError(f"cannot write {path}: {error.strerror}") from error
        journal = cls(path, descriptor, 0)
        try:
            journal._lock()
            return journal, journal._start(header, force=force)
        except BaseException:
            if not existed and journal._end == 0:
                path.unlink(missing_ok=True)
            os.close(descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, line: str) -> None:
        """Appends one line, whole or not at all.

        Raises:
            TableError: If the device is full or gone.
        """
        data = line.encode()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            self._end += len(data)
            if time.monotonic() - self._synced_s > _SYNC_INTERVAL_S:
                self._sync()
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            remedy = "make room and " if full else ""
            raise TableError(
                f"cannot write {self.path}: {error.strerror}; what it holds is kept: {remedy}"
                "run the same command again to go on"
            ) from error

    def close(self) -> None:
        """Brings everything to the disk and lets other writers in."""
        try:
            self._sync()
        finally:
            os.close(self._descriptor)  # gives the lock back too

    def _sync(self) -> None:
        os.fsync(self._descriptor)
        self._synced_s = time.monotonic()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TableError(
                f"{self.path} is being written by {_writer(self._descriptor)}; "
                "wait for it to end, or name another file"
            ) from error

    def _start(self, header: Header, *, force: bool) -> LatencyTable:
        """Brings the file to the end of its last whole line, with a header."""
        reader, good = TableReader(str(self.path)), 0
        if not force:
            reader, good = _parse(self.path, self.path.read_bytes())
        os.ftruncate(self._descriptor, good)
        self._end = good
        if reader.header is None:
            self.append(header_line(header))
            self._sync()
            reader.header = header
        elif differences := reader.header.differences(header):
            raise TableError(
                f"{self.path} holds other measurements: {'; '.join(differences)}; "
                "name another file, or pass --force to replace it"
            )
        return reader.table(self.path.name)


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
