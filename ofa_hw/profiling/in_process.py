"""What the backends that run networks inside this process share: groups, sentinels, the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from ofa_hw.errors import ProfilerError
from ofa_hw.graph import Graph, op_graph
from ofa_hw.profiling.clock import Clock, SystemClock
from ofa_hw.profiling.sampling import Engine, Runnable
from ofa_hw.profiling.sentinel import SENTINEL_OPS
from ofa_hw.profiling.types import (
    Cell,
    DeviceInfo,
    Measurement,
    SamplingPlan,
    require_distinct_keys,
)

_GROUP_CELLS = 64
_GROUP_BYTES = 384 << 20  # weights and activations; a runtime may keep them twice over


class InProcessProfiler(ABC):
    """A profiler whose networks run in this process.

    A backend sets `device`, says how it loads a graph, and has a profiler.

    Attributes:
        device: What it measures on.
        cpu_bound: Whether an inference keeps one processor busy.
        timed_s: Seconds spent so far inside inferences that were timed, sentinels' included.
    """

    device: DeviceInfo
    cpu_bound = True

    def __init__(self, device: DeviceInfo, *, clock: Clock | None = None) -> None:
        self.device = device
        self._clock = clock or SystemClock()
        self._closed = False
        self.timed_s = 0.0

    @abstractmethod
    def load(self, graph: Graph) -> Runnable:
        """Loads a network; each call of what is returned is one inference."""

    def measuring(self) -> AbstractContextManager[object]:
        """What holds while networks are loaded and run, e.g. a number of threads."""
        return nullcontext()

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """Yields each cell's measurement as soon as it is final (see `Profiler`)."""
        if self._closed:
            raise ProfilerError(f"the {self.device.backend} profiler is closed; open another")
        require_distinct_keys(cells)
        return self._measure(cells, plan, progress)

    def _measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[Measurement]:
        done, waiting, engine, before_s = 0, list(cells), None, self.timed_s
        while waiting and not (engine and engine.out_of_time):
            # The block is left at each yield, so that the caller's own work runs as usual.
            with self.measuring():
                if engine is None:
                    engine = self._engine(plan)
                measurements = engine.measure(self._load_group(waiting, engine))
            while True:
                with self.measuring():
                    measurement = next(measurements, None)
                self.timed_s = before_s + engine.timed_ns * 1e-9
                if measurement is None:
                    break
                done += 1
                yield measurement
                if progress:
                    progress(done, len(cells))

    def _engine(self, plan: SamplingPlan) -> Engine:
        start_ns = self._clock.monotonic_ns()
        sentinels = [self.load(op_graph(op, batch=self.device.batch or 1)) for op in SENTINEL_OPS]
        loading_s = (self._clock.monotonic_ns() - start_ns) * 1e-9
        plan = replace(plan, total_time_s=plan.total_time_s - loading_s)
        return Engine(sentinels, plan, clock=self._clock, cpu_bound=self.cpu_bound)

    def _load_group(self, waiting: list[Cell], engine: Engine) -> dict[str, Runnable]:
        """Takes cells from the front of `waiting` until the group is full, and loads them."""
        group: dict[str, Runnable] = {}
        size = 0
        while waiting and len(group) < _GROUP_CELLS and size < _GROUP_BYTES:
            if engine.out_of_time:
                break
            cell = waiting.pop(0)
            graph = cell.make_graph()
            size += graph.weight_bytes + graph.peak_bytes
            group[cell.key] = self.load(graph)
        return group

    def close(self) -> None:
        """Ends its use; closing twice does no harm."""
        self._closed = True
