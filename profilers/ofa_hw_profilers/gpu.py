"""The GPU that a runtime in this process computes on: found, alone or not, described, watched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ofa_hw.errors import ProfilerError
from ofa_hw.profiling import DeviceInfo
from ofa_hw_profilers.cuda_driver import ask_driver
from ofa_hw_profilers.gpu_watch import GpuWatch
from ofa_hw_profilers.nvidia import GpuState, find_gpu, read_gpus, read_while

OTHERS: Final = ("refuse", "note")  # the setting's values
_LOOKS: Final = 3  # of which the calmest counts: this process may have worked a moment ago
_PAUSE_S: Final = 1.0
_BUSY_PERCENT: Final = 5.0
_HELD_MIB: Final = 100.0  # more than a GPU that nobody uses has taken, less than a context takes


class OwnGpu:
    """A GPU that this process is about to compute on.

    It is found before the runtime sets anything up there, so that whatever computes is another.

    Attributes:
        watch: What it meets with while it is measured on.
    """

    def __init__(self, place: int = 0, *, others: str) -> None:
        """Finds it.

        Args:
            place: Its number among those that this process has.
            others: Whether to `refuse` one on which another process computes, or to `note` it.

        Raises:
            BackendUnavailableError: If there is none, or only a part of one.
            ProfilerError: If another process computes on it and is refused.
        """
        here = ask_driver(place)
        self._uuid = here.uuid
        gpu = self._read()
        self._others = seen_of_others(gpu, self._read, used_here=here.used_here)
        if others == "refuse":
            require_alone(gpu.name, self._others)
        expected = len(gpu.processes) - here.used_here + 1
        self.watch = GpuWatch(gpu.uuid, expected=expected, others=self._others)

    def described(self, host: DeviceInfo, work: Callable[[], object]) -> DeviceInfo:
        """It as the device of a table, its clocks and temperature as they are while it works.

        Args:
            host: The machine, with what else the device has to say.
            work: Keeps the GPU busy for a moment.
        """
        gpu = find_gpu(self._uuid, read_while(work))
        details = {**host.details, "host": host.name, **gpu.details()}
        details["gpu_others"] = self._others or "none seen"
        return replace(host, name=gpu.name, details=details)

    def _read(self) -> GpuState:
        return find_gpu(self._uuid, read_gpus())


def seen_of_others(gpu: GpuState, look: Callable[[], GpuState], *, used_here: bool) -> str:
    """What shows that others than this process compute on a GPU; empty if nothing does.

    A container often cannot see their names, so that utilisation and memory are looked at, too.

    Args:
        gpu: Its state now.
        look: Reads it again.
        used_here: Whether this process computes on it already; what memory others have is then not
            known.
    """
    if len(gpu.processes) > used_here:
        return ", ".join(f"{process.name} ({process.pid})" for process in gpu.processes)
    held_mib = (gpu.used_mib or 0.0) - gpu.drawing_mib
    if held_mib > _HELD_MIB and not used_here:
        return f"{held_mib:.0f} MiB of its memory are taken by processes that are not listed"
    for _ in range(_LOOKS - 1):
        if (gpu.utilisation_percent or 0.0) <= _BUSY_PERCENT:
            return ""
        time.sleep(_PAUSE_S)
        gpu = look()
    busy_percent = gpu.utilisation_percent or 0.0
    return f"it is {busy_percent:.0f} % busy" if busy_percent > _BUSY_PERCENT else ""


def require_alone(name: str, others: str) -> None:
    """Refuses a GPU on which others compute.

    Args:
        name: Of the GPU.
        others: What `seen_of_others` found.

    Raises:
        ProfilerError: If it found something.
    """
    if others:
        raise ProfilerError(
            f"other processes compute on the {name}, and would be measured too: {others}; "
            "end them, choose another GPU with CUDA_VISIBLE_DEVICES, or pass --set others=note"
        )
