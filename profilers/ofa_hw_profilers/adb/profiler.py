"""TFLite on a device over ADB, as a profiler like any other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, islice

from ofa_hw.errors import (
    BackendUnavailableError,
    DeviceFullError,
    DeviceOutputError,
    ProfilerError,
)
from ofa_hw.graph import op_graph
from ofa_hw.lowering.parts import part_to_tflite
from ofa_hw.profiling.sentinel import SENTINEL_OPS
from ofa_hw.profiling.types import (
    Cell,
    DeviceInfo,
    Measurement,
    SamplingPlan,
    require_distinct_keys,
)
from ofa_hw_profilers.adb.engine import DeviceEngine
from ofa_hw_profilers.adb.runner import NetworkRefusedError, RunnerDiedError
from ofa_hw_profilers.adb.session import DeviceSession
from ofa_hw_profilers.adb.throttle import ThrottleGuard

_logger = logging.getLogger(__name__)

_GROUP_CELLS = 64
_GROUP_BYTES = 128 << 20  # of a device's memory; TFLite keeps packed weights besides


class AdbTfliteProfiler:
    """Measures on a device that a session holds (see `Profiler`).

    Args:
        session: The device, started.
        device: What it is.
        guard: Watches over its heat.
        visit_ns: Timed inference that a visit should hold.
        cpu_bound: Whether an inference keeps one processor busy.
        takes_parts: Whether a network counts that a delegate took over in part only.
    """

    def __init__(
        self,
        session: DeviceSession,
        device: DeviceInfo,
        guard: ThrottleGuard,
        *,
        visit_ns: int,
        cpu_bound: bool,
        takes_parts: bool,
    ) -> None:
        self.device = device
        self._session = session
        self._guard = guard
        self._visit_ns = visit_ns
        self._cpu_bound = cpu_bound
        self._takes_parts = takes_parts
        self._sentinels: tuple[int, ...] = ()
        self._closed = False

    def load_sentinels(self) -> None:
        """Loads the plain blocks that show how fast the device is.

        Raises:
            BackendUnavailableError: If the delegate leaves even those to others.
        """
        graphs = [op_graph(op, batch=self.device.batch or 1) for op in SENTINEL_OPS]
        dtype = self.device.dtype
        numbers = self._free_numbers(len(graphs))
        networks = {n: part_to_tflite(g, dtype) for n, g in zip(numbers, graphs, strict=True)}
        remarks = self._session.load(networks)
        if remarks and not self._takes_parts:
            raise BackendUnavailableError(
                f"{next(iter(remarks.values()))} of a plain block, so that something else would be "
                "measured; choose another with --set delegate=NAME"
            )
        self._sentinels = tuple(networks)

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """Yields each cell's measurement as soon as it is final (see `Profiler`)."""
        if self._closed:
            raise ProfilerError(f"the profiler of {self._session.serial} is closed; open another")
        require_distinct_keys(cells)
        return self._measure(cells, plan, progress)

    def _measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[Measurement]:
        engine = self._engine(plan)
        done = 0
        for group in self._groups(cells):
            for measurement in self._measure_group(engine, group):
                done += 1
                yield measurement
                if progress:
                    progress(done, len(cells))
            if engine.out_of_time:
                return

    def _measure_group(
        self, engine: DeviceEngine, group: Mapping[str, bytes]
    ) -> Iterator[Measurement]:
        for part, remarks in self._loaded(group):
            try:
                for measurement in engine.measure(part):
                    notes = (*measurement.notes, *remarks.get(measurement.key, ()))
                    yield replace(measurement, notes=notes)
            finally:
                self._session.drop(list(part.values()))

    def measure_files(
        self, models: Mapping[str, bytes], plan: SamplingPlan
    ) -> Iterator[Measurement]:
        """Yields the measurements of .tflite files as they are.

        Args:
            models: Bytes of the files, by key.
            plan: How well to measure.
        """
        return self._measure_group(self._engine(plan), models)

    def _groups(self, cells: Sequence[Cell]) -> Iterator[dict[str, bytes]]:
        """Cells as written networks, by groups; the next is written while one is measured."""
        waiting = list(cells)
        with ThreadPoolExecutor(1) as writer:
            following = writer.submit(self._take_group, waiting)
            while group := following.result():
                following = writer.submit(self._take_group, waiting)
                yield group

    def _engine(self, plan: SamplingPlan) -> DeviceEngine:
        return DeviceEngine(
            self._session,
            self._sentinels,
            plan,
            guard=self._guard,
            visit_ns=self._visit_ns,
            cpu_bound=self._cpu_bound,
        )

    def _take_group(self, waiting: list[Cell]) -> dict[str, bytes]:
        """Takes cells from the front of `waiting` until the group is full, and writes them."""
        group: dict[str, bytes] = {}
        size = 0
        while waiting and len(group) < _GROUP_CELLS and size < _GROUP_BYTES:
            cell = waiting.pop(0)
            graph = cell.make_graph()
            group[cell.key] = part_to_tflite(graph, self.device.dtype)
            size += graph.weight_bytes + graph.peak_bytes
        return group

    def _loaded(
        self, group: Mapping[str, bytes]
    ) -> Iterator[tuple[dict[str, int], dict[str, tuple[str]]]]:
        """Loads a group and its remarks; in halves where the device cannot take all of it.

        That may be for want of room, or for a network that ends the runner: halves find it.
        """
        keys = dict(zip(self._free_numbers(len(group)), group, strict=True))
        try:
            remarks = self._session.load({number: group[key] for number, key in keys.items()})
        except NetworkRefusedError as error:
            if error.number not in keys:
                raise
            raise DeviceOutputError(f"{keys[error.number]}: {error}") from error
        except (DeviceFullError, RunnerDiedError) as error:
            if len(group) == 1:
                raise type(error)(f"{next(iter(group))}: {error}") from error
            _logger.warning("%s; loading %d networks in halves", error, len(group))
            items = list(group.items())
            for half in (items[: len(items) // 2], items[len(items) // 2 :]):
                yield from self._loaded(dict(half))
            return
        if remarks and not self._takes_parts:
            self._session.drop(list(keys))
            number, remark = next(iter(remarks.items()))
            others = f" (and {len(remarks) - 1} more like it)" if len(remarks) > 1 else ""
            raise DeviceOutputError(
                f"{keys[number]}{others}: {remark}, and TFLite's own kernels run the rest; choose "
                "another with --set delegate=NAME, or let such rows count, with a note, with "
                "--set partial_delegation=note"
            )
        yield (
            {key: number for number, key in keys.items()},
            {keys[number]: (remark,) for number, remark in remarks.items()},
        )

    def _free_numbers(self, wanted: int) -> list[int]:
        """Numbers that no loaded network has; a runner has but so many."""
        return list(islice((n for n in count() if n not in self._session.loaded), wanted))

    def close(self) -> None:
        """Leaves nothing on the device; closing twice does no harm."""
        if not self._closed:
            self._closed = True
            self._session.close()
