"""Images kept in memory: the same pixels as from the file, and no more of them than fit."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ofa_hw.training.decode import Augmentation, centred, varied
from ofa_hw.training.opened import OpenedImages


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG of 90 x 70 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise).resize((90, 70)).save(path)
    return path


@pytest.mark.parametrize("size", [12, 24, 40, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_kept_gives_the_pixels_of_the_file(photo: Path, channels: int, size: int) -> None:
    once, often = OpenedImages(channels, 0), OpenedImages(channels, 2**20)
    often.open(photo, 64)
    photos = []
    for opened in (once, often):
        crop = np.empty((channels, size, size), np.float32)
        centre = np.empty((channels, size, size), np.uint8)
        with opened.open(photo, size) as image:
            varied(image, crop, Augmentation(), np.random.default_rng(0))
        with opened.open(photo, size) as image:
            centred(image, centre)
        photos.append((crop, centre))
    for fresh, kept in zip(*photos, strict=True):
        np.testing.assert_array_equal(fresh, kept)


def test_a_small_image_is_kept_and_a_large_one_is_not(photo: Path) -> None:
    opened = OpenedImages(3, 2**20)
    assert opened.open(photo, 64) is opened.open(photo, 64)
    with opened.open(photo, 20) as image:
        assert image.format == "JPEG"


def test_no_more_are_kept_than_there_is_room_for(photo: Path) -> None:
    opened = OpenedImages(1, 90 * 70)
    other = photo.with_name("other.jpg")
    other.write_bytes(photo.read_bytes())
    assert opened.open(photo, 64) is opened.open(photo, 64)
    assert opened.open(other, 64) is not opened.open(other, 64)


def test_another_process_gets_no_pixels(photo: Path) -> None:
    opened = OpenedImages(3, 2**20)
    before = len(pickle.dumps(opened))
    opened.open(photo, 64)
    assert len(pickle.dumps(opened)) == before
