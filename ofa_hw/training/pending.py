"""PendingBatch: a training batch whose images are being decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
import torch

from ofa_hw.training.data import Batch

# Writes the image of an index, varied by a seed, into an array (C, H, W), and gives its label.
ReadImage: TypeAlias = Callable[[int, np.ndarray, tuple[int, int]], int]
_AT_ONCE: Final = 4  # small images are read faster than threads are told to


class PendingBatch:
    """Images that threads are reading, at the places of one worker in a batch."""

    def __init__(
        self,
        read: ReadImage,
        pool: ThreadPoolExecutor,
        shape: tuple[int, int, int],
        seed: int,
        chosen: Sequence[int],
        places: range,
    ) -> None:
        """Begins.

        Args:
            read: Reads an image.
            pool: The threads.
            shape: Of an image, (C, H, W).
            seed: Of the batch.
            chosen: The images of the whole batch, by index.
            places: Those of this worker in it.
        """
        self._images = np.empty((len(places), *shape), np.float32)

        def read_some(some: range) -> list[int]:
            # An image's variation depends on its place in the whole batch, not on the workers.
            return [read(chosen[places[i]], self._images[i], (seed, places[i])) for i in some]

        self._labels: list[Future[list[int]]] = [
            pool.submit(read_some, range(len(places))[first : first + _AT_ONCE])
            for first in range(0, len(places), _AT_ONCE)
        ]

    def batch(self) -> Batch:
        """Waits for the images."""
        labels = [label for future in self._labels for label in future.result()]
        return torch.from_numpy(self._images), torch.tensor(labels)

    def cancel(self) -> None:
        """Gives up what has not begun."""
        for future in self._labels:
            future.cancel()
