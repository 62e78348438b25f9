"""Labeller: measures one sub-network after another, here or in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from ofa_hw.errors import CheckpointError
from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.supernet import Supernet, calibrate_batch_norm, load_supernet
from ofa_hw.training.data import ImageData
from ofa_hw.training.evaluate import calibration_batches, top1

_worker: Labeller | None = None


class Labeller:
    """Measures sub-networks of a supernet; the images of the last resolution are kept."""

    def __init__(self, net: Supernet, data: ImageData, images: int) -> None:
        self._net, self._data, self._images = net, data, images
        self._resolution = 0
        self._batches: list[torch.Tensor] = []

    def top1(self, spec: SubnetSpec) -> float:
        """Validation accuracy after batch norms are calibrated."""
        module = self._net.extract(spec)
        device = next(module.parameters()).device
        if spec.resolution != self._resolution:
            self._batches = calibration_batches(self._data, spec.resolution, images=self._images)
            self._resolution = spec.resolution
        calibrate_batch_norm(module, (batch.to(device) for batch in self._batches))
        return top1(module.eval(), self._data, "validation", spec.resolution)


def label_in_processes(
    net: Supernet, data: ImageData, specs: list[SubnetSpec], images: int, processes: int
) -> Iterator[float]:
    """Measures sub-networks in several processes; results come in order.

    Raises:
        CheckpointError: If a process dies.
    """
    state = {key: value.cpu() for key, value in net.state_dict().items()}
    threads = max(1, torch.get_num_threads() // processes)
    with ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(net.space, state, data, images, threads, os.getpid()),
    ) as pool:
        try:
            yield from pool.map(_label, specs)
        except BrokenProcessPool as error:
            raise CheckpointError(
                f"a labelling process died ({error}); run the same command again to go on, with "
                "fewer --processes if memory is short"
            ) from error


def _begin(
    space: SearchSpace,
    state: Mapping[str, torch.Tensor],
    data: ImageData,
    images: int,
    threads: int,
    parent: int,
) -> None:
    global _worker
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    net = load_supernet(space, state).eval()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _worker = Labeller(net, data, images)


def _label(spec: SubnetSpec) -> float:
    assert _worker is not None
    return _worker.top1(spec)


def _die_with(parent: int) -> None:
    """Ends this process when the one that started it was killed, which tells nobody."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
