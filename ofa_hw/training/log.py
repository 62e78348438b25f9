"""The training log: one line of JSON a step and an evaluation, in step with checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ofa_hw.errors import CheckpointError
from ofa_hw.lines import LineFile, read_json_lines, whole_lines


class LogFile(LineFile):
    """The one writer of a training log.

    Attributes:
        lines: How many it holds.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        """Opens a log of which so many lines stay, those that the checkpoint knows of."""
        super().__init__(path, CheckpointError)
        kept = whole_lines(path.read_bytes())[:keep]
        self.keep(sum(map(len, kept)))
        self.lines = len(kept)

    def add(self, data: Mapping[str, Any]) -> None:
        """Appends an object."""
        self.append(json.dumps(data) + "\n")
        self.lines += 1


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The whole lines of a log, in order.

    Raises:
        CheckpointError: If there is no such file, or a line is no line of a training log.
    """
    return read_json_lines(path, "a training log", "line", "step", failure=CheckpointError)
