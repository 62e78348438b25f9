"""Image files to arrays: random crops for training, centre crops for measuring. C, H, W."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from ofa_hw.errors import SpecError
from ofa_hw.export.normalise import IMAGE_MEAN, IMAGE_STD, Normalisation
from ofa_hw.training.opened import MODES

# What Pillow raises on damaged bytes, by format.
BROKEN: Final = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_LUMA: Final = np.array((0.299, 0.587, 0.114), np.float32)
_CENTRE: Final = 0.875
_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training images are varied; the defaults are those of ImageNet.

    Attributes:
        smallest_area: Of a random crop, as a fraction of the image; the largest is all of it.
        flip: Whether half of the images are mirrored.
        brightness: Most that is added to or taken from the factor 1.
        saturation: The same, for images in colour.
    """

    smallest_area: float = 0.08
    flip: bool = True
    brightness: float = 32 / 255
    saturation: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.smallest_area <= 1:
            raise SpecError(f"a crop's smallest area lies in (0, 1], got {self.smallest_area}")
        for name in ("brightness", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name} varies by 0 to 1, got {getattr(self, name)}")


def varied(
    image: Image.Image,
    out: npt.NDArray[np.float32],
    how: Augmentation,
    rng: np.random.Generator,
) -> None:
    """Writes a random crop of an image, resized, flipped, jittered and normalised, into `out`.

    Args:
        image: The image, opened.
        out: (C, H, W) with H = W.
        how: How it is varied.
        rng: Of every choice.
    """
    channels, size, _ = out.shape
    box = _random_box(image.size, how.smallest_area, rng)
    pixels = _resized(image, box, size, channels)  # (H, W, C)
    if how.flip and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    out[:] = pixels.transpose(2, 0, 1)
    factor = rng.uniform(1 - how.brightness, 1 + how.brightness) / 255
    if channels == 3 and how.saturation:
        kept = rng.uniform(1 - how.saturation, 1 + how.saturation)
        grey = (_LUMA * np.float32(factor * (1 - kept))) @ out.reshape(channels, -1)  # (H * W,)
        out *= np.float32(factor * kept)
        out += grey.reshape(size, size)
    else:
        out *= np.float32(factor)
    np.clip(out, 0, 1, out=out)
    out -= np.array(IMAGE_MEAN[channels], np.float32)[:, None, None]
    out /= np.array(IMAGE_STD[channels], np.float32)[:, None, None]


def centred(image: Image.Image, out: npt.NDArray[np.uint8]) -> None:
    """Writes the centre of an image, 7/8 of its shorter side, resized into `out` (C, H, W)."""
    channels, size, _ = out.shape
    width, height = image.size
    side = min(width, height) * _CENTRE
    left, top = (width - side) / 2, (height - side) / 2
    out[:] = _resized(image, (left, top, left + side, top + side), size, channels).transpose(
        2, 0, 1
    )


def normalised(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pixels (B, C, H, W) as the network takes them."""
    return Normalisation.of_photographs(pixels.shape[1]).applied(pixels)


def _resized(
    image: Image.Image, box: tuple[float, float, float, float], size: int, channels: int
) -> npt.NDArray[np.uint8]:
    """The pixels of a box (left, top, right, bottom), resized, (H, W, C)."""
    mode = MODES[channels]
    width, height = image.size
    shrink = min(box[2] - box[0], box[3] - box[1]) / size
    if shrink >= 2:  # a JPEG is then decoded at a half, a quarter or an eighth of its size
        image.draft(mode, (round(width / shrink), round(height / shrink)))
    across, down = image.size[0] / width, image.size[1] / height
    box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    coloured = image if image.mode == mode else image.convert(mode)
    resized = coloured.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(resized).reshape(size, size, channels)


def _random_box(
    size: tuple[int, int], smallest_area: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box of random area and aspect ratio (https://arxiv.org/abs/1409.4842, section 6)."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * rng.uniform(smallest_area, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if 1 <= across <= width and 1 <= down <= height:
            left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
            return left, top, left + across, top + down
    return 0.0, 0.0, float(width), float(height)
