"""Finds the images of a folder that has a folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
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


def names_and_sizes(folder: Path, paths: Iterable[Path]) -> str:
    """A digest of files' places in a folder and sizes in bytes, whatever their order."""
    lines = []
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError:  # a link to nowhere is a broken image, and nothing worse
            size = -1
        lines.append(f"{path.relative_to(folder).as_posix()}\0{size}\n")
    text = "".join(sorted(lines)).encode(errors="surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]
