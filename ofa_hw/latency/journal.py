"""A table's file while it is written: locked, appended line by line, safe to interrupt."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Self

from ofa_hw.errors import OutputExistsError, TableError, TableFormatError
from ofa_hw.latency.format import HEADER_START, TableReader, header_line
from ofa_hw.latency.table import Header, LatencyTable
from ofa_hw.lines import LineFile

_logger = logging.getLogger(__name__)


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


class Journal(LineFile):
    """The one writer of a table's file."""

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
        journal = cls(path, TableError)
        try:
            return journal, journal._start(header, force=force)
        except BaseException:
            if not existed and journal.end == 0:
                path.unlink(missing_ok=True)
            journal.close()
            raise

    def _start(self, header: Header, *, force: bool) -> LatencyTable:
        """Brings the file to the end of its last whole line, with a header."""
        reader, good = TableReader(str(self.path)), 0
        if not force:
            reader, good = _parse(self.path, self.path.read_bytes())
        self.keep(good)
        if reader.header is None:
            self.append(header_line(header))
            self.sync()
            reader.header = header
        elif differences := reader.header.differences(header):
            raise TableError(
                f"{self.path} holds other measurements: {'; '.join(differences)}; "
                "name another file, or pass --force to replace it"
            )
        return reader.table(self.path.name)
