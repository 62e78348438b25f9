"""Finds the images of a folder that has a folder a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ofa_hw.errors import SpecError

SUFFIXES: Final = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Images by class, both sorted; folders without images are no classes.

    Raises:
        SpecError: If there is no such folder, or fewer than two classes.
    """
    if not folder.is_dir():
        raise SpecError(f"no folder of images {folder}; it holds a folder a class")
    found = {}
    for entry in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = [
            Path(root) / name
            for root, _, names in os.walk(entry)
            for name in names
            if os.path.splitext(name)[1].lower() in SUFFIXES
        ]
        if paths:
            found[entry.name] = sorted(paths)
    if len(found) < 2:
        raise SpecError(
            f"{folder} has {len(found)} folders with images, and a classifier needs two classes: "
            f"put the images of each class into a folder, like {folder / 'CLASS' / 'image.jpg'}"
        )
    return found
