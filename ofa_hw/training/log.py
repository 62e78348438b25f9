"""Reads a training log: one line of JSON a step and an evaluation, in step with checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ofa_hw.training.lines import read_lines


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The whole lines of a log, in order.

    Raises:
        CheckpointError: If there is no such file, or a line is no line of a training log.
    """
    return read_lines(path, "a training log", "line", "step")
