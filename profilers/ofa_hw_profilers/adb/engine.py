"""The measuring engine with its visits on a device: many visits are one request.

Order, drift and the end of a cell are those of `ofa_hw.profiling.rounds`; only who runs the
inferences and reads the clock differs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeAlias

from ofa_hw.errors import DeviceTimeoutError
from ofa_hw.profiling.clock import SystemClock
from ofa_hw.profiling.rounds import (
    LEAST_CPU_SHARE,
    LEAST_RUNS,
    SPACING,
    STEADY,
    Rounds,
    SampledCell,
)
from ofa_hw.profiling.sentinel import Drift
from ofa_hw.profiling.types import Measurement, SamplingPlan
from ofa_hw_profilers.adb.runner import (
    NetworkRefusedError,
    RunnerDiedError,
    Visit,
    VisitRequest,
)
from ofa_hw_profilers.adb.session import DeviceSession
from ofa_hw_profilers.adb.throttle import ThrottleGuard

_WARM_UP_RUNS = 8
_WARM_UP_ROUNDS = 4
_WARM_UP_TOGETHER = 8  # networks, between two looks at the clock
_WARM_UP_TIMEOUT_S = 300.0
_PATIENCE = 20  # times the expected duration of a visit, until the device counts as stuck
_LEAST_TIMEOUT_S = 30.0
_LEAST_ROUND_NS = 40_000_000  # of timed inference
_REQUEST_NS = 1e9  # of timed inference, between two looks at the clock

_Cell: TypeAlias = SampledCell[int]


class DeviceEngine(Rounds[int]):
    """Measures groups of networks that are loaded on a device, by their numbers (see `Rounds`).

    Args:
        session: The device.
        sentinels: Numbers of the networks that show how fast the device is.
        plan: How well to measure.
        guard: Watches over the device's heat.
        visit_ns: Timed inference that a visit should hold.
        cpu_bound: Whether an inference keeps one processor busy.
    """

    def __init__(
        self,
        session: DeviceSession,
        sentinels: Sequence[int],
        plan: SamplingPlan,
        *,
        guard: ThrottleGuard,
        visit_ns: int,
        cpu_bound: bool,
    ) -> None:
        super().__init__(plan, clock=SystemClock())
        self._session = session
        self._guard = guard
        self._visit_ns = visit_ns
        self._cpu_bound = cpu_bound
        self._repeats: Counter[str] = Counter()
        self._marks: dict[str, str] = {}
        self._sentinels = [
            SampledCell("sentinel", number, estimate_ns, visit_ns // 10)
            for number, estimate_ns in zip(
                sentinels, self._warm_up({f"sentinel {n}": n for n in sentinels}), strict=True
            )
        ]

    def warm_up(self, networks: Mapping[str, int]) -> list[_Cell]:
        """Runs each until two runs in a row come close to the fastest (see `Rounds`)."""
        cells: list[_Cell] = []
        waiting = iter(networks.items())
        while together := list(islice(waiting, _WARM_UP_TOGETHER)):
            if self.out_of_time:
                return []
            estimates_ns = self._warm_up(dict(together))
            cells += [
                SampledCell(key, number, estimate_ns, self._visit_ns)
                for (key, number), estimate_ns in zip(together, estimates_ns, strict=True)
            ]
        return cells

    def visit(self, cells: Sequence[_Cell]) -> None:
        """Makes one round; repeats it if the device was hot meanwhile (see `Rounds`)."""
        while True:
            trip = self._travel(self._legs(cells))
            levels_ns = [visit.latency_ns for cell, visit in trip if cell is self._sentinels[0]]
            if self._guard.accepts(levels_ns):
                break
            self._repeats.update(cell.key for cell in cells)
            if self.out_of_time:
                return
        if self._guard.note:
            self._marks.update({cell.key: self._guard.note for cell in cells})
        self._record(trip)

    def result(self, cell: _Cell, drift: Drift) -> Measurement:
        """A cell's measurement, with what the device's heat did to it (see `Rounds`)."""
        measurement = super().result(cell, drift)
        notes = list(measurement.notes)
        if repeats := self._repeats.pop(cell.key, 0):
            notes.append(f"{repeats} rounds repeated after cooling down")
        if mark := self._marks.pop(cell.key, ""):
            notes.append(mark)
        return replace(measurement, notes=tuple(notes))

    def _warm_up(self, networks: Mapping[str, int]) -> list[float]:
        """Nanoseconds of each network's fastest run, all of them warm."""
        fastest_ns = dict.fromkeys(networks, math.inf)
        cold = list(networks)
        for _ in range(_WARM_UP_ROUNDS):
            requests = [
                VisitRequest(networks[key], 0, _WARM_UP_RUNS, _WARM_UP_TIMEOUT_S) for key in cold
            ]
            for key, visit in zip(list(cold), self._visits(cold, requests), strict=True):
                last_ns = visit.runs_ns[-2:] or (visit.latency_ns,)
                best_ns = min(visit.runs_ns or last_ns)
                if max(last_ns) <= STEADY * min(best_ns, fastest_ns[key]):
                    cold.remove(key)
                fastest_ns[key] = min(fastest_ns[key], best_ns)
        return [max(ns, 1.0) for ns in fastest_ns.values()]

    def _legs(self, cells: Sequence[_Cell]) -> Iterator[list[_Cell]]:
        """All cells in random order, a few at a time, sentinels before and after each few.

        When few cells are left, each is visited more than once: a request costs its way there and
        back.
        """
        yield self._sentinels
        passes = math.ceil(_LEAST_ROUND_NS / (self._visit_ns * len(cells)))
        orders = [self.rng.permutation(len(cells)) for _ in range(passes)]
        order = chain.from_iterable(orders)
        while few := [cells[index] for index in islice(order, SPACING)]:
            yield [*few, *self._sentinels]

    def _travel(self, legs: Iterator[list[_Cell]]) -> list[tuple[_Cell, Visit]]:
        """Visits all cells on the way; stops after a leg when out of time."""
        trip: list[tuple[_Cell, Visit]] = []
        stops: list[_Cell] = []
        for leg in legs:
            if self.out_of_time:
                break
            stops += leg
            if sum((_runs(cell) + 1) * cell.estimate_ns for cell in stops) >= _REQUEST_NS:
                trip += self._visit_all(stops)
                stops = []
                self._guard.watch()
        return trip + self._visit_all(stops)

    def _visit_all(self, stops: Sequence[_Cell]) -> list[tuple[_Cell, Visit]]:
        requests = []
        for cell in stops:
            runs = _runs(cell)
            expected_s = (runs + 1) * cell.estimate_ns * 1e-9
            timeout_s = _LEAST_TIMEOUT_S + _PATIENCE * expected_s
            requests.append(VisitRequest(cell.network, 1, runs, timeout_s))
        visits = self._visits([cell.key for cell in stops], requests)
        return list(zip(stops, visits, strict=True))

    def _visits(self, keys: Sequence[str], requests: Sequence[VisitRequest]) -> list[Visit]:
        """Makes visits; says of which network one was that cannot be made."""
        visits: list[Visit] = []
        try:
            for visit in self._session.visit(requests):
                visits.append(visit)  # what was made before an error counts
        except (DeviceTimeoutError, NetworkRefusedError, RunnerDiedError) as error:
            raise type(error)(f"{keys[len(visits)]}: {error}") from error
        return visits

    def _record(self, trip: Sequence[tuple[_Cell, Visit]]) -> None:
        levels_ns: list[float] = []
        for cell, visit in trip:
            if cell in self._sentinels:
                levels_ns.append(visit.latency_ns)
                if len(levels_ns) == len(self._sentinels):
                    self.log.add(levels_ns)
                    levels_ns = []
                continue
            cell.spent_ns += visit.spent_ns
            undisturbed = (
                not self._cpu_bound
                or visit.cpu_ns is None
                or visit.cpu_ns >= LEAST_CPU_SHARE * visit.spent_ns
            )
            cell.add(visit.latency_ns, len(self.log), undisturbed=undisturbed)


def _runs(cell: _Cell) -> int:
    """How many timed inferences make a visit."""
    return max(LEAST_RUNS, round(cell.visit_ns / cell.estimate_ns))
