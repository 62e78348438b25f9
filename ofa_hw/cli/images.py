"""Images that files are calibrated and compared on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ofa_hw.errors import SpecError

if TYPE_CHECKING:
    from ofa_hw.export import Normalisation
    from ofa_hw.graph.ir import Array
    from ofa_hw.training import ImageData
    from ofa_hw.training.data import Split

_IMAGES: Final = 256


def first_images(data: ImageData, split: Split, resolution: int) -> Array | None:
    """At most 256 images of a part, (N, C, H, W); None if there are none."""
    parts: list[Array] = []
    for images, _ in data.batches(split, resolution, _IMAGES // 4):
        parts.append(images.numpy())
        if sum(map(len, parts)) >= _IMAGES:
            break
    return np.concatenate(parts)[:_IMAGES] if parts else None


def read_images(folder: Path, shape: tuple[int, int, int], normalisation: Normalisation) -> Array:
    """The images of a folder and of those in it, centre crops, normalised.

    Args:
        folder: Of image files.
        shape: (C, H, W) that they are brought to.
        normalisation: What makes them of bytes.

    Returns:
        At most 512 of them, evenly spread, (N, C, H, W).

    Raises:
        SpecError: If there are none, or one cannot be read.
    """
    from PIL import Image

    from ofa_hw.training.decode import BROKEN, centred
    from ofa_hw.training.listing import SUFFIXES

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SpecError(f"no images in {folder}; --calibration-images takes a folder of them")
    places = np.linspace(0, len(paths) - 1, min(2 * _IMAGES, len(paths)))
    chosen = [paths[i] for i in places.astype(int)]
    pixels = np.empty((len(chosen), *shape), np.uint8)
    for path, out in zip(chosen, pixels, strict=True):
        try:
            with Image.open(path) as image:
                centred(image, out)
        except BROKEN as error:
            raise SpecError(f"{path} cannot be read as an image: {error}") from error
    return normalisation.applied(pixels)
