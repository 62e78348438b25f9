"""A file of JSON lines with one writer, that may be killed at any time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ofa_hw.errors import CheckpointError


class LineFile:
    """The one writer of a file of JSON lines; use it as a context manager.

    Attributes:
        path: Of the file.
        lines: How many it holds.
    """

    def __init__(self, path: Path, *, keep: int | None = None) -> None:
        """Opens a file, new or to go on with; a torn last line is cut off.

        Args:
            path: Of the file.
            keep: Lines that stay, from the first; all whole ones by default.

        Raises:
            CheckpointError: If it cannot be written, or another process is writing it.
        """
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise CheckpointError(
                f"{path} is being written by another process; wait for it to end, or name another"
            ) from error
        whole = [s for s in path.read_bytes().splitlines(keepends=True) if s.endswith(b"\n")]
        kept = whole[:keep]
        os.ftruncate(self._descriptor, sum(map(len, kept)))
        self.lines = len(kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)  # gives the lock back too

    def append(self, data: Mapping[str, Any]) -> None:
        """Adds a line, which the death of this process does not take back.

        Raises:
            CheckpointError: If it cannot be written; what it holds is kept.
        """
        line = (json.dumps(data) + "\n").encode()
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error.strerror}") from error
        self.lines += 1


def read_lines(path: str | Path, what: str, *fields: str) -> list[dict[str, Any]]:
    """The whole lines of a file, in order.

    Args:
        path: Of the file.
        what: It is, for messages, as "a training log".
        fields: That every line has.

    Raises:
        CheckpointError: If there is no such file, or a line is something else.
    """
    path = Path(path)
    try:
        texts = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} as {what}: {error}") from error
    lines = []
    for number, text in enumerate(texts, 1):
        if not text.endswith("\n"):
            break  # torn off by a power cut
        try:
            data = json.loads(text)
            missing = [field for field in fields if field not in data]
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}, line {number}: no line of {what} ({error})") from error
        if missing or not isinstance(data, dict):
            raise CheckpointError(f"{path}, line {number}: no line of {what}: {text[:60]!r}")
        lines.append(data)
    return lines
