"""What a backend is, what it is asked to measure and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ofa_hw.errors import ProfilerError
from ofa_hw.graph import Graph


@dataclass(frozen=True, slots=True)
class ProfilerOptions:
    """How a backend shall run networks.

    Attributes:
        serial: Of the device, for a backend that reaches others than this machine.
        threads: Threads of the runtime.
        dtype: `fp32`, `fp16` or `int8`; a backend names those it has.
        batch: Images at once.
        settings: Further settings by name; a backend names those it has.
    """

    serial: str | None = None
    threads: int = 1
    dtype: str = "fp32"
    batch: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Where and how something was measured; tables that differ in it never mix.

    Attributes:
        name: Short name of the device, e.g. its CPU model.
        backend: Name of the backend's entry point.
        runtime: The runtime library, e.g. `onnxruntime`.
        runtime_version: Its version.
        dtype: Of weights and activations.
        threads: Threads of the runtime; None where nobody wrote it down.
        batch: Images at once; None likewise.
        settings: The backend's settings, defaults written out.
        details: Facts on record that may differ between runs: kernel, governor, load at start.
            What is not known is `unknown`.
    """

    name: str
    backend: str
    runtime: str
    runtime_version: str
    dtype: str = "fp32"
    threads: int | None = 1
    batch: int | None = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure.

    Attributes:
        key: Names it; the measurement carries it back.
        make_graph: Builds the network. Called when the cell's turn comes, so that a thousand
            cells need not be in memory at once.
    """

    key: str
    make_graph: Callable[[], Graph]


def require_distinct_keys(cells: Iterable[Cell]) -> None:
    """Raises `ProfilerError` if two cells have one key, so that nobody could tell them apart."""
    keys = [cell.key for cell in cells]
    if len(set(keys)) != len(keys):
        raise ProfilerError("two cells have one key; give each its own")


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How long and how well to measure each cell.

    Attributes:
        relative_ci: Aim for the width of the median's 95 % confidence interval over the median.
        min_time_s: Least time spent in timed inferences of a cell.
        max_time_s: Most time spent in timed inferences of a cell, but for the six visits that an
            interval takes. One that cannot become as good as `relative_ci` by then may be given
            up after a quarter of it.
        total_time_s: Most time for all cells together. What has too few samples for an interval
            by then is not answered.
        seed: Of the order in which cells are visited.
    """

    relative_ci: float = 0.01
    min_time_s: float = 0.02
    max_time_s: float = 0.5
    total_time_s: float = math.inf
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latency of one cell.

    Attributes:
        key: Of the cell.
        samples_ns: Each visit's latency of one inference, drift divided out, in nanoseconds.
        stable: Whether the interval of the median became as narrow as asked for.
        notes: What a reader has to know, e.g. that the device was throttled.
        visits: Visits in all, those that were thrown away included; None where none are counted.
        sentinel_ns: Latency of the sentinel at the level that `samples_ns` are given at. Samples of
            different runs compare as multiples of it. None for a backend without a sentinel.
    """

    key: str
    samples_ns: tuple[float, ...]
    stable: bool
    notes: tuple[str, ...] = ()
    visits: int | None = None
    sentinel_ns: float | None = None


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device, usable or not.

    Attributes:
        serial: What `--serial` takes.
        reached: `server`, `tcp` or `usb`.
        state: `device` if it can be profiled; else adb's word for what is wrong.
        remedy: What to do about it; empty if it can be profiled.
        name: Maker and model.
        soc: Its processor.
        android: Version of Android.
        abi: Its instruction set, as Android calls it.
        cores: Number of cores; 0 if unknown.
        big_cores: Number of cores outside its slowest cluster; 0 if all are alike or unknown.
    """

    serial: str
    reached: str
    state: str
    remedy: str = ""
    name: str = "unknown"
    soc: str = "unknown"
    android: str = "unknown"
    abi: str = "unknown"
    cores: int = 0
    big_cores: int = 0


@runtime_checkable
class FileProfiler(Protocol):
    """A profiler that can also time files as they are."""

    def measure_files(
        self, models: Mapping[str, bytes], plan: SamplingPlan
    ) -> Iterator[Measurement]:
        """Yields the measurement of each file, given as its bytes by key.

        A file that leaves its batch open runs with that of `device`, or, behind a serial, with 1.
        """
        ...


@runtime_checkable
class Profiler(Protocol):
    """Measures graphs on one device with one runtime.

    A class of this protocol is constructed with a `ProfilerOptions` and is found by its entry
    point in the group `ofa_hw.profilers`. Constructing it raises `BackendUnavailableError` or
    `DeviceNotFoundError` with what to do about it.
    """

    device: DeviceInfo

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """Yields each cell's measurement as soon as it is final, in any order.

        Every cell is answered unless the plan's `total_time_s` ends before.

        Args:
            cells: What to measure, in one go.
            plan: How well.
            progress: Called with cells done and cells in all.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...
