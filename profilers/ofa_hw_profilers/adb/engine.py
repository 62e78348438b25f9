"""The measuring engine with its visits on a device: a round is one request.

Order, sentinels, statistics and the end of a cell are those of `ofa_hw.profiling.sampling`; only
who runs the inferences and reads the clock differs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from ofa_hw.profiling.clock import SystemClock
from ofa_hw.profiling.sampling import (
    _LEAST_CPU_SHARE,
    _LEAST_LUMPS,
    _LEAST_SAMPLES,
    _SPACING,
    _STEADY,
    Engine,
    Runnable,
    _Sampled,
)
from ofa_hw.profiling.types import Measurement, SamplingPlan
from ofa_hw_profilers.adb.runner import Visit, VisitRequest
from ofa_hw_profilers.adb.session import DeviceSession
from ofa_hw_profilers.adb.throttle import ThrottleGuard

_WARM_UP_RUNS = 8
_WARM_UP_ROUNDS = 4
_PATIENCE = 20  # times the expected duration of a visit, until the device counts as stuck
_LEAST_TIMEOUT_S = 30.0
_LEAST_ROUND_NS = 40_000_000  # of timed inference


@dataclass(frozen=True, slots=True)
class RemoteNetwork:
    """A network loaded on a device; calling it is one inference."""

    session: DeviceSession
    number: int

    def __call__(self) -> None:
        """Runs one inference."""
        for _ in self.session.visit([VisitRequest(self.number, 0, 1)]):
            pass


class DeviceEngine(Engine):
    """Measures groups of networks that are loaded on a device.

    Args:
        session: The device.
        sentinels: Networks that show how fast the device is.
        plan: How well to measure.
        guard: Watches over the device's heat.
        visit_ns: Timed inference that a visit should hold.
        cpu_bound: Whether an inference keeps one processor busy.
    """

    def __init__(
        self,
        session: DeviceSession,
        sentinels: Sequence[RemoteNetwork],
        plan: SamplingPlan,
        *,
        guard: ThrottleGuard,
        visit_ns: int,
        cpu_bound: bool,
    ) -> None:
        self._session = session
        self._guard = guard
        self._visit_ns = visit_ns
        self._repeats: Counter[str] = Counter()
        self._marks: dict[str, str] = {}
        super().__init__(sentinels, plan, clock=SystemClock(), cpu_bound=cpu_bound)
        for sentinel in self._sentinels:
            sentinel.visit_ns = visit_ns // 10

    def measure(self, runnables: Mapping[str, Runnable]) -> Iterator[Measurement]:
        """Yields each cell's measurement after the round that made it final (see `Engine`)."""
        since = len(self._log)
        if self.out_of_time:
            return
        estimates_ns = self._warm_up_all(list(runnables.values()))
        active = [
            _Sampled(key, run, estimate_ns, self._visit_ns)
            for (key, run), estimate_ns in zip(runnables.items(), estimates_ns, strict=True)
        ]
        while active:
            self._round(active)
            if self.out_of_time:
                enough = [cell for cell in active if len(cell.samples_ns) >= _LEAST_SAMPLES]
                yield from (self._marked(self._result(cell, since)) for cell in enough)
                return
            done = [cell for cell in active if self._is_done(cell, since)]
            active = [cell for cell in active if cell not in done]
            yield from (self._marked(self._result(cell, since)) for cell in done)

    def _warm_up(self, run: Runnable) -> float:
        return self._warm_up_all([run])[0]

    def _warm_up_all(self, networks: Sequence[Runnable]) -> list[float]:
        """Runs each network until two runs in a row come close to the fastest."""
        fastest_ns = {index: float("inf") for index in range(len(networks))}
        waiting = list(fastest_ns)
        for _ in range(_WARM_UP_ROUNDS):
            requests = [
                VisitRequest(_number(networks[index]), 0, _WARM_UP_RUNS, 300.0) for index in waiting
            ]
            for index, visit in zip(list(waiting), self._session.visit(requests), strict=True):
                last_ns = visit.runs_ns[-2:] or (visit.latency_ns,)
                best_ns = min(visit.runs_ns or last_ns)
                if max(last_ns) <= _STEADY * min(best_ns, fastest_ns[index]):
                    waiting.remove(index)
                fastest_ns[index] = min(fastest_ns[index], best_ns)
        return [max(fastest_ns[index], 1.0) for index in range(len(networks))]

    def _round(self, active: Sequence[_Sampled]) -> None:
        """Visits every active cell once, sentinels between them; again if the device was hot."""
        while True:
            stops = self._route(active)
            visits = self._travel(stops)
            levels_ns = [
                visit.latency_ns
                for cell, visit in zip(stops, visits, strict=True)
                if cell is self._sentinels[0]
            ]
            if self._guard.accepts(levels_ns):
                break
            self._repeats.update(cell.key for cell in active)
        if self._guard.note:
            self._marks.update({cell.key: self._guard.note for cell in active})
        self._record(stops, visits)

    def _route(self, active: Sequence[_Sampled]) -> list[_Sampled]:
        """Cells in random order, all sentinels before and after every few of them.

        When few cells are left, each is visited more than once: a request costs its way there and
        back.
        """
        passes = math.ceil(_LEAST_ROUND_NS / (self._visit_ns * len(active)))
        orders = [self._rng.permutation(len(active)) for _ in range(passes)]
        stops = list(self._sentinels)
        for place, index in enumerate(chain.from_iterable(orders), 1):
            stops.append(active[index])
            if place % _SPACING == 0:
                stops += self._sentinels
        return stops if stops[-1] is self._sentinels[-1] else [*stops, *self._sentinels]

    def _travel(self, stops: Sequence[_Sampled]) -> list[Visit]:
        requests = []
        for cell in stops:
            runs = max(_LEAST_LUMPS, round(cell.visit_ns / cell.estimate_ns))
            expected_s = (runs + 1) * cell.estimate_ns * 1e-9
            timeout_s = _LEAST_TIMEOUT_S + _PATIENCE * expected_s
            requests.append(VisitRequest(_number(cell.run), 1, runs, timeout_s))
        return list(self._session.visit(requests))

    def _record(self, stops: Sequence[_Sampled], visits: Sequence[Visit]) -> None:
        levels_ns: list[float] = []
        for cell, visit in zip(stops, visits, strict=True):
            if any(cell is sentinel for sentinel in self._sentinels):
                levels_ns.append(visit.latency_ns)
                if len(levels_ns) == len(self._sentinels):
                    self._log.add(levels_ns)
                    levels_ns = []
                continue
            cell.spent_ns += visit.spent_ns
            undisturbed = (
                not self._cpu_bound
                or visit.cpu_ns is None
                or visit.cpu_ns >= _LEAST_CPU_SHARE * visit.spent_ns
            )
            samples = cell.samples_ns if undisturbed else cell.shared_ns
            positions = cell.positions if undisturbed else cell.shared_positions
            samples.append(visit.latency_ns)
            positions.append(len(self._log))

    def _marked(self, measurement: Measurement) -> Measurement:
        """Adds what the device's heat did to a measurement."""
        notes = list(measurement.notes)
        if repeats := self._repeats.pop(measurement.key, 0):
            notes.append(f"{repeats} rounds repeated after cooling down")
        if mark := self._marks.pop(measurement.key, ""):
            notes.append(mark)
        return replace(measurement, notes=tuple(notes))


def _number(run: Runnable) -> int:
    if not isinstance(run, RemoteNetwork):
        raise TypeError(f"{run!r} is not on a device")
    return run.number
