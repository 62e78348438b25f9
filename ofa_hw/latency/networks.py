"""Measures networks twice, each time over several loads, between operators of a table.

What a network takes depends on the memory that it happens to be loaded into, by some per cent, and
on what else the machine does in those seconds. Both are noise: the loads of a network are spread
over the whole measurement, and its latency is the median over all of them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ofa_hw.graph import Graph, network_graph, op_graph
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.table import LatencyTable
from ofa_hw.latency.validation import ValidatedNetwork
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import Cell, InProcessProfiler, Measurement, Profiler, SamplingPlan
from ofa_hw.profiling.statistics import relative_width
from ofa_hw.spaces import SearchSpace, SubnetSpec

_TIMES = 2
_LOADS = 4  # each time, by default
_ANCHORS = 40  # each is loaded anew and so 2 % off its row by chance; their median is less
_FEW_ANCHORS = 12  # behind a cable, where a load takes longer than what is measured


def measure_twice(
    specs: Sequence[SubnetSpec],
    space: SearchSpace,
    table: LatencyTable,
    profiler: Profiler,
    plan: SamplingPlan,
    *,
    loads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[ValidatedNetwork]:
    """Measures sub-networks, in random order with some of the table's operators.

    Args:
        specs: The sub-networks.
        space: Theirs.
        table: Whose rows say how the machine has changed since it was filled.
        profiler: Measures.
        plan: How well to measure; its time is that of the usual number of loads together.
        loads: Each time; 4 by default, but 1 of a profiler that does not run in this process, as
            its models have a way to go.
        progress: Called with measurements made and measurements in all.
    """
    is_here = isinstance(profiler, InProcessProfiler)
    usual = _LOADS if is_here else 1
    loads = loads or usual
    each = replace(plan, min_time_s=plan.min_time_s / usual, max_time_s=plan.max_time_s / usual)
    batch = profiler.device.batch or 1
    networks = [space.ops(spec) for spec in specs]
    anchors = _anchors(table, networks, _ANCHORS if is_here else _FEW_ANCHORS)
    cells = [
        *_copies(
            _TIMES * loads,
            "network",
            [partial(network_graph, ops, batch=batch) for ops in networks],
        ),
        *_copies(_TIMES, "anchor", [partial(op_graph, op, batch=batch) for op in anchors]),
    ]
    order = np.random.default_rng(plan.seed).permutation(len(cells))
    measured: dict[str, list[Measurement]] = defaultdict(list)
    for done, measurement in enumerate(profiler.measure([cells[i] for i in order], each), 1):
        key, _, number = measurement.key.rpartition(", load ")
        measured[f"{key}, time {int(number) % _TIMES}"].append(measurement)
        if progress:
            progress(done, len(cells))
    pooled = {key: _pooled(own, plan) for key, own in measured.items()}
    shift = _shift(table, anchors, pooled)
    return [
        ValidatedNetwork(
            spec, pooled[f"network {i}, time 0"], pooled[f"network {i}, time 1"], shift
        )
        for i, spec in enumerate(specs)
    ]


def _copies(count: int, name: str, make_graphs: Sequence[Callable[[], Graph]]) -> Iterator[Cell]:
    """Cells that load each graph `count` times."""
    for i, make_graph in enumerate(make_graphs):
        for load in range(count):
            yield Cell(f"{name} {i}, load {load}", make_graph)


def _pooled(loads: Sequence[Measurement], plan: SamplingPlan) -> Statistics:
    """The statistics over all samples of several loads, at the typical level of the sentinel."""
    levels_ns = [load.sentinel_ns for load in loads if load.sentinel_ns]
    level_ns = statistics.median(levels_ns) if levels_ns else None
    samples_ns = np.concatenate(
        [
            np.array(load.samples_ns)
            * (level_ns / load.sentinel_ns if level_ns and load.sentinel_ns else 1.0)
            for load in loads
        ]
    )
    visits = [load.visits for load in loads if load.visits is not None]
    return Statistics.of(
        Measurement(
            loads[0].key,
            tuple(samples_ns.tolist()),
            stable=relative_width(samples_ns) <= plan.relative_ci,
            notes=tuple(dict.fromkeys(note for load in loads for note in load.notes)),
            visits=sum(visits) if visits else None,
            sentinel_ns=level_ns,
        )
    )


def _anchors(table: LatencyTable, networks: Sequence[Sequence[OpSpec]], count: int) -> list[OpSpec]:
    """Operators of the networks, from where their time is spent.

    Ordered from the quickest to the slowest, one is taken after each equal part of the time that
    all networks together spend in operators: a machine that has changed for some kinds of them only
    has changed for networks as far as these spend their time there.
    """
    spent_ms: dict[OpSpec, float] = defaultdict(float)
    for op in (op for ops in networks for op in ops if op in table.rows):
        spent_ms[op] += table.rows_ms[op]
    ops = sorted(spent_ms, key=lambda op: (table.rows_ms[op], op))
    until_ms = np.cumsum([spent_ms[op] for op in ops])
    wanted_ms = (np.arange(count) + 0.5) / count * (until_ms[-1] if ops else 0.0)
    places = dict.fromkeys(np.searchsorted(until_ms, wanted_ms).tolist())
    return [ops[place] for place in places if ops]


def _shift(
    table: LatencyTable, anchors: Sequence[OpSpec], measured: Mapping[str, Statistics]
) -> float:
    """How much longer the anchors took than their rows say, at the sentinels' level."""
    return statistics.median(
        table.at_level(measured[f"anchor {i}, time {n}"]) / table.rows_ms[op]
        for i, op in enumerate(anchors)
        for n in range(_TIMES)
    )
