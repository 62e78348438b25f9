"""Images to train on: what a data set is, and scikit-learn's digits as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from ofa_hw.errors import SpecError
from ofa_hw.export import Normalisation
from ofa_hw.spaces import SearchSpace, base_name

Split: TypeAlias = Literal["train", "validation", "test"]
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]


class ImageData(Protocol):
    """Labelled images in three parts.

    `validation` is held out of the training images: the accuracy predictor's labels come from it.
    `test` is seen by nothing but the last measurement.
    """

    @property
    def num_classes(self) -> int:
        """Labels are 0 to one less than this."""
        ...

    @property
    def channels(self) -> int:
        """Channels of an image."""
        ...

    @property
    def normalisation(self) -> Normalisation:
        """What made the images of bytes."""
        ...

    def size(self, split: Split) -> int:
        """Number of images of a part."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the numbers of a run depend on, for JSON: a run goes on only where it agrees."""
        ...

    def epoch(
        self,
        resolutions: Iterator[int],
        batch_size: int,
        *,
        rng: np.random.Generator,
        skip: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Shuffled, augmented training batches, each at the next of `resolutions`.

        Args:
            resolutions: Of the batches.
            batch_size: Images a batch, of all workers together.
            rng: Of every random choice; the same one gives the same batches.
            skip: Batches to leave out at the beginning; the others are as if it were 0.
            shard: Rank and number of the workers; each gets every so-manieth image of a batch.

        Yields:
            Images (B, C, H, W) float32 and labels (B,) int64. A last, smaller batch is left out.
        """
        ...

    def batches(self, split: Split, resolution: int, batch_size: int) -> Iterator[Batch]:
        """Every image of a part once, in order, as it is."""
        ...


@dataclass(frozen=True)
class DigitsData:
    """The 1,797 handwritten digits that come with scikit-learn, 8x8 pixels, in grey.

    They are enlarged bilinearly to the resolution asked for, and shifted by up to a tenth of it in
    training. A fixed shuffle leaves 1,000 for training, 397 for validation and 400 for the test.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """

    num_classes: int = 10
    channels: int = 1
    normalisation: Normalisation = field(default=Normalisation((0.5,), (0.5,)), repr=False)
    _images: dict[Split, torch.Tensor] = field(init=False, repr=False, default_factory=dict)
    _labels: dict[Split, torch.Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy(digits.images / 8.0 - 1.0).float()[:, None]
        labels = torch.from_numpy(digits.target).long()
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
        parts: tuple[tuple[Split, int, int], ...] = (
            ("train", 0, 1000),
            ("validation", 1000, 1397),
            ("test", 1397, 1797),
        )
        for split, start, end in parts:
            self._images[split] = images[order[start:end]]
            self._labels[split] = labels[order[start:end]]

    def size(self, split: Split) -> int:
        """Number of images of a part."""
        return len(self._labels[split])

    def describe(self) -> dict[str, Any]:
        """What the numbers of a run depend on."""
        return {"name": "digits"}

    def epoch(
        self,
        resolutions: Iterator[int],
        batch_size: int,
        *,
        rng: np.random.Generator,
        skip: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Shuffled, shifted training batches."""
        order = torch.from_numpy(rng.permutation(self.size("train")))
        rank, workers = shard
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            resolution = next(resolutions)
            most = max(1, resolution // 10)
            offsets = torch.from_numpy(rng.integers(0, 2 * most + 1, (2, batch_size)))
            if start < skip * batch_size:
                continue
            own = chosen[rank::workers]
            images = _enlarge(self._images["train"][own], resolution)
            yield _shift(images, most, offsets[:, rank::workers]), self._labels["train"][own]

    def batches(self, split: Split, resolution: int, batch_size: int) -> Iterator[Batch]:
        """Every image of a part once, in order."""
        for start in range(0, self.size(split), batch_size):
            images = self._images[split][start : start + batch_size]
            yield _enlarge(images, resolution), self._labels[split][start : start + batch_size]


def _enlarge(images: torch.Tensor, resolution: int) -> torch.Tensor:
    size = (resolution, resolution)
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _shift(images: torch.Tensor, most: int, offsets: torch.Tensor) -> torch.Tensor:
    """Moves each image by its offsets (2, B) from 0 to twice `most`, which is no move at `most`."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (most,) * 4, mode="replicate")
    top, left = offsets
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(batch)[:, None, None, None], 0, rows, columns]


def require_images(space: SearchSpace, data: ImageData) -> None:
    """Compares images with what the networks of a space take.

    Raises:
        SpecError: If they are of other classes or channels.
    """
    if data.num_classes != space.num_classes:
        raise SpecError(
            f"the images are of {data.num_classes} classes and {space.name} tells "
            f"{space.num_classes} apart; take the space "
            f"{base_name(space.name)}@classes={data.num_classes}"
        )
    if data.channels != space.in_channels:
        raise SpecError(
            f"the images have {data.channels} channels and {space.name} takes "
            f"{space.in_channels}; take images of {space.in_channels}, or another space"
        )


def get_data(name: str, *, channels: int = 3, validation: float = 0.1) -> ImageData:
    """A data set by name, or a folder of images with a folder a class.

    Args:
        name: `digits`, or a folder.
        channels: That images from a folder are to have.
        validation: Share of a folder's training images that is held out.

    Raises:
        SpecError: If there is neither, or the folder has not two classes.
    """
    if name == "digits":
        return DigitsData()
    if not Path(name).is_dir():
        raise SpecError(
            f"no data set and no folder {name!r}; give a folder with a folder of images for each "
            "class, or digits, which comes with scikit-learn"
        )
    try:
        from ofa_hw.training.folder import FolderData
    except ImportError as error:
        raise SpecError(
            f"images are read by Pillow, which is not installed ({error}): "
            "pip install 'ofa-hw[torch]'"
        ) from error
    return FolderData(name, channels=channels, validation=validation)
