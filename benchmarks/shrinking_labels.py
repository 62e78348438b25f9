"""The predictor in `shrinking.py`: its images, its labels, and how well it ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import glyphs
import numpy as np
import torch

from ofa_hw.spaces import get_space
from ofa_hw.supernet import load_supernet
from ofa_hw.training import collect_labels
from ofa_hw.training.fit_labels import fit_labels
from ofa_hw.training.folder import FolderData

_LABELLED: Final = 0.75  # of the images; the others calibrate batch norms
_SEED: Final = 1  # of the drawing; training images are of another


def label_data(folder: Path, fonts: Sequence[Path], images: int) -> FolderData:
    """So many images a class in the training images' fonts, drawn if they are not there."""
    glyphs.write_glyphs(folder, fonts, train=images, test=1, seed=_SEED)
    return FolderData(folder, validation=_LABELLED)


def judged_predictor(
    folder: Path, data: FolderData, count: int, *, seed: int, jobs: int
) -> dict[str, Any]:
    """Labels sub-networks of the supernet in a folder, fits the predictor and judges it."""
    space, images = get_space("glyphs:space"), data.size("validation")
    net = load_supernet(space, folder / "supernet.pth").eval()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start_s = time.monotonic()
    journal = folder / "labels.jsonl"
    labels = collect_labels(net, data, count, seed=seed, journal=journal, processes=jobs)
    values = np.array([label.top1 for label in labels])
    found: dict[str, Any] = {
        "labels": len(labels),
        "validation_images": images,
        "top1": {"mean": values.mean(), "sd": values.std(ddof=1)},
        "range": [values.min(), values.max()],
        "label_s": time.monotonic() - start_s,
    }
    if len(labels) >= 50:
        fitted = fit_labels(space, labels, seed=seed, validation_images=images)
        assert fitted.predictor.report is not None
        found |= {
            "report": asdict(fitted.predictor.report),
            "curve": [asdict(point) for point in fitted.curve],
            "advice": fitted.advice,
        }
    return found
