"""OpenedImages: images from files, those that are small kept decoded in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from PIL import Image

MODES: Final = {1: "L", 3: "RGB"}


class OpenedImages:
    """Opens images, and keeps as many of them in memory as there is room for.

    Whatever has room first stays, so that a set larger than the room still saves a part of the
    work. A JPEG of more than twice the size that is wanted is not kept: it is decoded at a fraction
    of its size, which differs from crop to crop. What is kept therefore never changes a pixel.
    """

    def __init__(self, channels: int, room_bytes: int) -> None:
        """Opens nothing yet.

        Args:
            channels: 1 or 3.
            room_bytes: Memory for pixels at most.
        """
        self._channels, self._room_bytes = channels, room_bytes
        self._kept: dict[Path, Image.Image] = {}
        self._taken_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens its own.
        return {**self.__dict__, "_kept": {}, "_taken_bytes": 0}

    def open(self, path: Path, size: int) -> Image.Image:
        """An image from which a crop of `size` x `size` pixels is to be made.

        Raises:
            OSError: If it cannot be read; Pillow has others too, see `decode.BROKEN`.
        """
        kept = self._kept.get(path)
        if kept is not None and _is_small(kept, size):
            return kept
        image = Image.open(path)
        if not _is_small(image, size):
            return image
        with image:
            decoded = image.convert(MODES[self._channels])
        taken_bytes = decoded.width * decoded.height * self._channels
        if self._taken_bytes + taken_bytes <= self._room_bytes:
            # Two threads that open the same image at once count it twice, which wastes little.
            self._taken_bytes += taken_bytes
            self._kept[path] = decoded
        return decoded


def _is_small(image: Image.Image, size: int) -> bool:
    return min(image.size) < 2 * size
