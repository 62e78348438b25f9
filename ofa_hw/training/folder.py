"""FolderData: a folder of images, one folder a class."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ofa_hw.errors import SpecError
from ofa_hw.export import Normalisation
from ofa_hw.training.data import Batch, Split
from ofa_hw.training.decode import BROKEN, Augmentation, centred, normalised, varied
from ofa_hw.training.listing import images_by_class, names_and_sizes
from ofa_hw.training.opened import OpenedImages
from ofa_hw.training.pending import PendingBatch

_logger = logging.getLogger(__name__)
Item: TypeAlias = tuple[Path, int]
_Pixels: TypeAlias = tuple[npt.NDArray[np.uint8], torch.Tensor]
_AHEAD: Final = 3
_CACHE_BYTES: Final = 2**30


class FolderData:
    """Images in folders, of any size and number of classes, decoded by Pillow in threads.

    `DIR/CLASS/image.jpg`, or `DIR/train/CLASS/image.jpg` beside `DIR/val` or `DIR/test`, which then
    is the part `test`. A part of each class's training images is held out as `validation`.
    A broken image is logged once and counted: in training another one takes its place, in measuring
    it is left out. Threads, as Pillow decodes without holding Python's lock.

    Attributes:
        folder: Where they are.
        classes: Names of the classes; a label is an index here.
        channels: 1 or 3; images are turned to grey or colour as needed.
        normalisation: What makes the images of bytes.
        broken: The reason by path of each image that could not be read so far.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        channels: int = 3,
        validation: float = 0.1,
        augmentation: Augmentation | None = None,
        threads: int | None = None,
        memory_bytes: int = 2**30,
    ) -> None:
        """Lists the images; none is opened yet.

        Args:
            folder: Holds a folder a class.
            channels: Of the images that the network takes.
            validation: Share of each class's training images that is held out.
            augmentation: How training images are varied.
            threads: That decode; as many as there are processors by default.
            memory_bytes: For decoded images, at most; those that do not fit are decoded each time.

        Raises:
            SpecError: If there is no such folder, or it has not two classes with images.
        """
        self.folder = Path(folder).absolute()  # where it is for other processes too
        self.channels = channels
        self.broken: dict[Path, str] = {}
        if channels not in (1, 3):
            raise SpecError(f"images have 1 or 3 channels, got {channels}")
        if not 0 < validation < 1:
            raise SpecError(f"the share held out lies between 0 and 1, got {validation}")
        self.normalisation = Normalisation.of_photographs(channels)
        nested = (self.folder / "train").is_dir()
        found = images_by_class(self.folder / "train" if nested else self.folder)
        self.classes = tuple(found)
        self._validation = validation
        self._augmentation = augmentation or Augmentation()
        self._threads = threads or len(os.sched_getaffinity(0))
        self._opened = OpenedImages(channels, memory_bytes)
        self._lock = threading.Lock()
        self._cached: tuple[tuple[Split, int, int], list[_Pixels]] | None = None
        self._items: dict[Split, list[Item]] = {"train": [], "validation": [], "test": []}
        for label, paths in enumerate(found.values()):
            order = np.random.default_rng((0, label)).permutation(len(paths))
            kept = max(1, round(validation * len(paths))) if len(paths) > 1 else 0
            for place, index in enumerate(order.tolist()):
                split: Split = "validation" if place < kept else "train"
                self._items[split].append((paths[index], label))
        # In the order of classes, the first images would be all of one.
        for split in ("train", "validation"):
            order = np.random.default_rng(0).permutation(len(self._items[split]))
            self._items[split] = [self._items[split][i] for i in order.tolist()]
        tests = [self.folder / name for name in ("val", "test") if (self.folder / name).is_dir()]
        if nested and tests:
            self._items["test"] = self._known(tests[0])

    @property
    def num_classes(self) -> int:
        """Labels are 0 to one less than this."""
        return len(self.classes)

    def __getstate__(self) -> dict[str, Any]:
        # For the processes that label; a lock cannot be sent, and what is cached is large.
        return {**self.__dict__, "_lock": None, "_cached": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def size(self, split: Split) -> int:
        """Number of images of a part, broken ones included."""
        return len(self._items[split])

    def files(self) -> Iterator[Path]:
        """The path of every image."""
        return (path for items in self._items.values() for path, _ in items)

    def describe(self) -> dict[str, Any]:
        """What the numbers of a run depend on."""
        sizes = {split: len(items) for split, items in self._items.items()}
        return {
            "images": sizes,
            "classes": list(self.classes),
            "files' names and sizes": names_and_sizes(self.folder, self.files()),
            "validation": self._validation,
            "augmentation": asdict(self._augmentation),
        }

    def epoch(
        self,
        resolutions: Iterator[int],
        batch_size: int,
        *,
        rng: np.random.Generator,
        skip: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Shuffled, augmented training batches; see `ImageData.epoch`."""
        order = rng.permutation(self.size("train")).tolist()
        rank, workers = shard
        plans = []
        for start in range(0, len(order) - batch_size + 1, batch_size):
            plan = (next(resolutions), int(rng.integers(2**62)), order[start : start + batch_size])
            if start >= skip * batch_size:
                plans.append(plan)
        with ThreadPoolExecutor(self._threads, "decode") as pool:
            waiting: deque[PendingBatch] = deque()
            try:
                for resolution, seed, chosen in plans:
                    places = range(len(chosen))[rank::workers]
                    shape = (self.channels, resolution, resolution)
                    waiting.append(PendingBatch(self.varied, pool, shape, seed, chosen, places))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().batch()
                while waiting:
                    yield waiting.popleft().batch()
            finally:
                for pending in waiting:
                    pending.cancel()

    def batches(self, split: Split, resolution: int, batch_size: int) -> Iterator[Batch]:
        """Every readable image of a part once, in order, its centre."""
        if self._cached is not None and self._cached[0] == (split, resolution, batch_size):
            for good_pixels, labels in self._cached[1]:
                yield torch.from_numpy(normalised(good_pixels)), labels
            return
        items = self._items[split]
        total = len(items) * self.channels * resolution**2
        keeps = split != "train" and total <= _CACHE_BYTES
        kept: list[_Pixels] = []
        with ThreadPoolExecutor(self._threads, "decode") as pool:
            for start in range(0, len(items), batch_size):
                part = items[start : start + batch_size]
                pixels = np.empty((len(part), self.channels, resolution, resolution), np.uint8)
                paths = [path for path, _ in part]
                good = np.array(list(pool.map(self._centred, paths, pixels)), bool)
                labels = torch.tensor([label for _, label in part])[torch.from_numpy(good)]
                if keeps:
                    kept.append((pixels[good], labels))
                if len(labels):
                    yield torch.from_numpy(normalised(pixels[good])), labels
        if keeps:
            self._cached = ((split, resolution, batch_size), kept)

    def varied(self, index: int, out: np.ndarray, seed: tuple[int, int]) -> int:
        """Writes a training image, or the next one that is not broken, into `out`; its label.

        Raises:
            SpecError: If no image can be read.
        """
        items = self._items["train"]
        for offset in range(len(items)):
            path, label = items[(index + offset) % len(items)]
            if path in self.broken:
                continue
            try:
                with self._opened.open(path, out.shape[-1]) as image:
                    varied(image, out, self._augmentation, np.random.default_rng(seed))
            except BROKEN as error:
                self._report(path, error)
            else:
                return label
        raise SpecError(f"no training image in {self.folder} can be read")

    def _centred(self, path: Path, out: np.ndarray) -> bool:
        try:
            with self._opened.open(path, out.shape[-1]) as image:
                centred(image, out)
        except BROKEN as error:
            self._report(path, error)
            return False
        return True

    def _report(self, path: Path, error: BaseException) -> None:
        with self._lock:
            if path not in self.broken:
                self.broken[path] = str(error)
                _logger.warning(
                    "broken image %d, passed over: %s (%s)", len(self.broken), path, error
                )

    def _known(self, folder: Path) -> list[Item]:
        found = images_by_class(folder)
        if unknown := sorted(found.keys() - set(self.classes)):
            raise SpecError(
                f"{folder} has classes that {self.folder / 'train'} has not: "
                f"{', '.join(unknown[:5])}; remove them, or add training images"
            )
        return [(p, self.classes.index(name)) for name, paths in found.items() for p in paths]
