"""Checkpoints of a run: written beside and renamed, the last and the one before it kept."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from ofa_hw.errors import CheckpointError
from ofa_hw.supernet import Supernet
from ofa_hw.training.loop import TrainingState, frozen_copy
from ofa_hw.training.recipe import Recipe
from ofa_hw.training.step import make_optimizer

_logger = logging.getLogger(__name__)
_FORMAT: Final = 1
_LAST, _BEFORE = "last.pt", "before.pt"


class Checkpoints:
    """The folder of a run's checkpoints.

    Attributes:
        folder: Holds `last.pt` and `before.pt`; each is whole, or it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged = False  # the last one, which then must not take the place of a whole one

    def tidy(self) -> None:
        """Removes what processes left that were killed while they wrote; none may be writing."""
        for leftover in self.folder.glob(f".{_LAST}.*.part"):
            leftover.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the checkpoints."""
        self.tidy()
        for name in (_LAST, _BEFORE):
            (self.folder / name).unlink(missing_ok=True)

    def save(self, net: nn.Module, state: TrainingState, notes: Mapping[str, Any]) -> None:
        """Writes a checkpoint; the last one becomes the one before it, unless it is damaged.

        Args:
            net: Its weights are kept.
            state: The rest of what it takes to go on.
            notes: What the run wants to know when it goes on; must fit into JSON.

        Raises:
            CheckpointError: If it cannot be written; what was there is still there.
        """
        content = {
            "format": _FORMAT,
            "phase": state.phase,
            "step": state.step,
            "notes": json.dumps(notes),
            "net": net.state_dict(),
            "optimizer": None if state.optimizer is None else state.optimizer.state_dict(),
            "teacher": None if state.teacher is None else state.teacher.state_dict(),
            "scaler": dict(state.scaler),
        }
        last, beside = self.folder / _LAST, self.folder / f".{_LAST}.{os.getpid()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            if last.exists() and not self._damaged:
                last.replace(self.folder / _BEFORE)
            beside.replace(last)
            self._damaged = False
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot write a checkpoint to {last}: {error}; make room and run the same command "
                "again to go on"
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def restore(
        self, net: nn.Module, recipe: Recipe
    ) -> tuple[TrainingState, dict[str, Any]] | None:
        """Puts the last whole checkpoint into `net`; a damaged one is named and passed over.

        Args:
            net: A network of the run, placed where it will be trained.
            recipe: Of the run.

        Returns:
            Where the run stands, and the notes; None where there is no checkpoint.

        Raises:
            CheckpointError: If there are checkpoints and none of them is whole.
        """
        damaged = []
        for path in (self.folder / _LAST, self.folder / _BEFORE):
            if not path.exists():
                continue
            try:
                found = _restored(_read(path), net, recipe)
            except Exception as error:  # damaged bytes make an unpickler raise anything
                reason = " ".join(str(error).split())[:200]
                damaged.append(f"{path.name} ({reason})")
                _logger.warning("checkpoint %s is damaged and passed over: %s", path, reason)
            else:
                self._damaged = bool(damaged)
                return found
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read: {', '.join(damaged)}; "
                "remove that folder to train from the beginning"
            )
        return None


def _read(path: Path) -> dict[str, Any]:
    # Torch does not compare the checksums that it writes.
    with zipfile.ZipFile(path) as archive:
        if (bad := archive.testzip()) is not None:
            raise CheckpointError(f"the checksum of {bad} is wrong")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if content["format"] != _FORMAT:
        raise CheckpointError(f"format {content['format']!r}, and this version reads {_FORMAT}")
    return content


def _restored(
    content: dict[str, Any], net: nn.Module, recipe: Recipe
) -> tuple[TrainingState, dict[str, Any]]:
    net.load_state_dict(content["net"])
    optimizer, teacher = None, None
    if content["optimizer"] is not None:
        optimizer = make_optimizer(net, recipe)
        optimizer.load_state_dict(content["optimizer"])
    if content["teacher"] is not None:
        assert isinstance(net, Supernet)
        teacher = frozen_copy(net)
        teacher.load_state_dict(content["teacher"])
    scaler = content.get("scaler", {})
    state = TrainingState(content["phase"], content["step"], optimizer, teacher, scaler)
    return state, json.loads(content["notes"])
