"""The training log: one line of JSON a step and an evaluation, in step with the checkpoints."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ofa_hw.errors import CheckpointError


class TrainingLog:
    """The one writer of a log; lines past the checkpoint that a run goes on from are taken back.

    Attributes:
        path: Of the file.
        lines: How many it holds.
    """

    def __init__(self, path: Path, keep: int) -> None:
        """Opens a log.

        Args:
            path: Of the file.
            keep: Lines that stay, from the first.

        Raises:
            CheckpointError: If it cannot be written, or another run is writing it.
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
                f"{path} is being written by another process; wait for it to end, or train into "
                "another folder"
            ) from error
        kept = path.read_bytes().splitlines(keepends=True)[:keep]
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

    def append(self, kind: str, step: int, data: Mapping[str, Any]) -> None:
        """Adds a line, which the death of this process does not take back.

        Raises:
            CheckpointError: If it cannot be written.
        """
        line = json.dumps({"line": kind, "step": step, **data}) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error.strerror}") from error
        self.lines += 1


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The whole lines of a log, in order.

    Raises:
        CheckpointError: If there is no such file, or a line is no line of a training log.
    """
    path = Path(path)
    try:
        texts = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} as a training log: {error}") from error
    lines = []
    for number, text in enumerate(texts, 1):
        if not text.endswith("\n"):
            break  # torn off by a power cut
        try:
            data = json.loads(text)
            int(data["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}, line {number}: no line of a training log ({error!r})"
            ) from error
        lines.append(data)
    return lines
