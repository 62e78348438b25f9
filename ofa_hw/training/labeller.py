"""Labeller: measures one sub-network after another, here or in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ofa_hw.errors import CheckpointError
from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.supernet import Supernet, calibrate_batch_norm, load_supernet
from ofa_hw.training.data import ImageData
from ofa_hw.training.evaluate import calibration_batches, top1
from ofa_hw.training.execution import Execution

_worker: Labeller | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a sub-network that was measured.

    Attributes:
        index: Its place among those asked for.
        top1: Its accuracy.
        broken: The images that could not be read so far where it was measured, and why.
    """

    index: int
    top1: float
    broken: Mapping[Path, str] = field(default_factory=dict)


class Labeller:
    """Measures sub-networks of a supernet; the images of the last resolution are kept.

    It can be sent to another process, where the images are read from the same paths.
    """

    def __init__(self, net: Supernet, data: ImageData, images: int) -> None:
        self._net, self._data, self._images = net, data, images
        self._resolution = 0
        self._batches: list[torch.Tensor] = []
        self._one_at_a_time = threading.Lock()

    def measure(self, index: int, spec: SubnetSpec) -> Measured:
        """Validation accuracy after batch norms are calibrated.

        Raises:
            SpecError: If no image can be read.
        """
        with self._one_at_a_time:
            module = self._net.extract(spec)
            device = next(module.parameters()).device
            if spec.resolution != self._resolution:
                batches = calibration_batches(self._data, spec.resolution, images=self._images)
                self._batches, self._resolution = batches, spec.resolution
            calibrate_batch_norm(module, (batch.to(device) for batch in self._batches))
            accuracy = top1(module.eval(), self._data, "validation", spec.resolution)
            return Measured(index, accuracy, dict(getattr(self._data, "broken", {})))

    def missing_files(self) -> list[Path]:
        """The images that are not there, of data that is in files."""
        files: Callable[[], Iterable[Path]] = getattr(self._data, "files", tuple)
        return [path for path in files() if not path.exists()]

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value.cpu() for key, value in self._net.state_dict().items()}
        device = str(next(self._net.parameters()).device)
        return _received, (self._net.space, state, self._data, self._images, device)


def _received(
    space: SearchSpace,
    state: Mapping[str, torch.Tensor],
    data: ImageData,
    images: int,
    device: str,
) -> Labeller:
    net = load_supernet(space, state).eval()
    Execution(device=device).place(net)
    return Labeller(net, data, images)


def label_here(labeller: Labeller, specs: list[SubnetSpec]) -> Iterator[Measured]:
    """Measures sub-networks in this process, in order."""
    return (labeller.measure(index, spec) for index, spec in enumerate(specs))


def label_in_processes(
    labeller: Labeller, specs: list[SubnetSpec], processes: int
) -> Iterator[Measured]:
    """Measures sub-networks in several processes; results come in order.

    Raises:
        CheckpointError: If a process dies.
    """
    threads = max(1, torch.get_num_threads() // processes)
    # The processes are forked from a clean one that imports torch once for all of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    reader, writer = context.Pipe(duplex=False)
    with (
        writer,
        ProcessPoolExecutor(
            processes,
            mp_context=context,
            initializer=_begin,
            initargs=(labeller, threads, reader),
        ) as pool,
    ):
        try:
            yield from pool.map(_measure, range(len(specs)), specs)
        except BrokenProcessPool as error:
            raise CheckpointError(
                f"a labelling process died ({error}); run the same command again to go on, with "
                "fewer --workers if memory is short"
            ) from error


def _begin(labeller: Labeller, threads: int, alive: Connection) -> None:
    global _worker
    threading.Thread(target=_die_with, args=(alive,), daemon=True).start()
    torch.set_num_threads(threads)
    _worker = labeller


def _measure(index: int, spec: SubnetSpec) -> Measured:
    assert _worker is not None
    return _worker.measure(index, spec)


def _die_with(alive: Connection) -> None:
    """Ends this process when the command that holds the other end was killed."""
    with suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)
