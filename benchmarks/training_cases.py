"""What `training.py` trains: search spaces, each with images for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import glyphs
import numpy as np
from PIL import Image

from ofa_hw.spaces import SearchSpace, get_space, mobilenetv3, with_classes
from ofa_hw.training import DigitsData, ImageData
from ofa_hw.training.folder import FolderData


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained.

    Attributes:
        space: Whose supernet.
        make: Gives the images, from a folder that it may fill.
        batch_size: Images a step.
    """

    space: SearchSpace
    make: Callable[[Path], ImageData]
    batch_size: int


def draw_glyphs(folder: Path) -> FolderData:
    glyphs.write_glyphs(folder, glyphs.find_fonts(), train=40, test=1)
    return FolderData(folder)


def draw_photos(folder: Path) -> FolderData:
    """Two classes of 300 pictures with the size, detail and bytes of photographs.

    Ten files each show the same one: they are decoded one by one all the same.
    """
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for first in range(0, 300, 10):
            canvas = np.zeros((375, 500, 3))
            for detail in (4, 12, 40, 160):
                blobs = Image.fromarray(rng.integers(0, 256, (detail, detail, 3), np.uint8))
                grown = blobs.resize((500, 375), Image.Resampling.BICUBIC)
                canvas += np.asarray(grown, float) / detail**0.5
            canvas *= 255 / canvas.max()
            drawn = folder / label / f"{first}.jpg"
            Image.fromarray(canvas.astype(np.uint8)).save(drawn, quality=90)
            for index in range(first + 1, first + 10):
                shutil.copy(drawn, folder / label / f"{index}.jpg")
    return FolderData(folder)


CASES = {
    "digits": Case(get_space("tiny"), lambda _: DigitsData(), 50),
    "glyphs": Case(glyphs.space(), draw_glyphs, 64),
    "photos": Case(with_classes(get_space("ofa_mbv3_d234_e346_k357_w1.0"), 2), draw_photos, 8),
    "photos224": Case(
        mobilenetv3("ofa_mbv3_d234_e346_k357_w1.0 at 224 px", resolutions=(224,), num_classes=2),
        draw_photos,
        8,
    ),
}
