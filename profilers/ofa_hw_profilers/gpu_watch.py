"""Watches a GPU while it is measured on."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Final

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError
from ofa_hw.profiling import Measurement
from ofa_hw_profilers.nvidia import GpuState, find_gpu, parse_states

_logger = logging.getLogger(__name__)

_EVERY_S: Final = 2
_STEADY: Final = 1.05  # highest over lowest clock, up to which it did not change


class GpuWatch:
    """Samples a GPU while it is measured on, and says what rows have to note.

    The samples come from `nvidia-smi` in a process of its own, so that they are of a GPU that works
    and nobody waits for them.
    """

    def __init__(self, uuid: str, *, expected: int, others: str = "") -> None:
        """Sets it up; `over` begins.

        Args:
            uuid: Of the GPU.
            expected: How many processes may compute on it, this one included.
            others: What was seen of others before, for every row to note.
        """
        self._uuid, self._expected = uuid, expected
        self._others = (f"other processes compute on the GPU: {others}",) if others else ()
        self._lock = threading.Lock()
        self._run: list[GpuState] = []
        self._group: list[GpuState] = []

    def begin_group(self) -> None:
        """Forgets what rows measured from now on were not there for."""
        with self._lock:
            self._group.clear()

    def see(self, gpu: GpuState) -> None:
        """Takes a sample."""
        with self._lock:
            self._group.append(gpu)
            if not gpu.idle:
                self._run.append(gpu)

    def notes(self) -> tuple[str, ...]:
        """What the rows of this group have to note."""
        with self._lock:
            samples = tuple(self._group)
        notes = [*self._others]
        working = [gpu for gpu in samples if not gpu.idle]
        if slowed := dict.fromkeys(reason for gpu in samples for reason in gpu.slowed):
            notes.append(f"throttled: the GPU was {', '.join(slowed)} ({_ranges(working)})")
        elif _varied(working):
            notes.append(f"the GPU's clock changed ({_ranges(working)})")
        named = dict.fromkeys(
            process.name
            for gpu in samples
            if len(gpu.processes) > self._expected
            for process in gpu.processes
        )
        if named:
            notes.append(f"other processes came onto the GPU, which has {', '.join(named)}")
        return tuple(notes)

    def over(self, measurements: Iterator[Measurement]) -> Iterator[Measurement]:
        """Yields measurements with their notes, and watches while they are made."""
        self._run.clear()
        with self.watching():
            for measurement in measurements:
                yield replace(measurement, notes=(*measurement.notes, *self.notes()))
        if self._run:
            _logger.info("the GPU worked at %s", _ranges(self._run))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes samples in the block."""
        command = ["nvidia-smi", "-q", "-x", "-i", self._uuid, "-l", str(_EVERY_S)]
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError as error:
            raise BackendUnavailableError(
                f"the GPU cannot be watched: nvidia-smi cannot be run ({error.strerror})"
            ) from error
        with process:
            reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
            reader.start()
            try:
                yield
            finally:
                if (code := process.poll()) is not None:
                    _logger.warning(
                        "the GPU was not watched to the end: nvidia-smi ended with %d", code
                    )
                process.kill()
                reader.join()

    def _read(self, lines: IO[str]) -> None:
        """Takes a sample of each document that a looping `nvidia-smi` prints."""
        document: list[str] = []
        for line in lines:
            if line.startswith("<?xml"):
                document.clear()
            document.append(line)
            if line.startswith("</nvidia_smi_log>"):
                try:
                    self.see(find_gpu(self._uuid, parse_states("".join(document))))
                except (BackendUnavailableError, DeviceOutputError) as error:
                    _logger.warning("a sample of the GPU was lost: %s", error)
                document.clear()


def _varied(samples: list[GpuState]) -> bool:
    clocks = [gpu.sm_clock_mhz for gpu in samples if gpu.sm_clock_mhz]
    return bool(clocks) and max(clocks) > _STEADY * min(clocks)


def _ranges(samples: list[GpuState]) -> str:
    """Such as `1410 to 1980 MHz, 45 to 61 C`."""
    words = []
    for unit, values in (
        ("MHz", [gpu.sm_clock_mhz for gpu in samples]),
        ("C", [gpu.temperature_c for gpu in samples]),
    ):
        known = [value for value in values if value is not None]
        if known:
            words.append(f"{min(known):g} to {max(known):g} {unit}")
    return ", ".join(words) or "an unknown clock"
