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
_LOADS = 4  # each time
_ANCHORS = 12


def measure_twice(
    specs: Sequence[SubnetSpec],
    space: SearchSpace,
    table: LatencyTable,
    profiler: Profiler,
    plan: SamplingPlan,
    progress: Callable[[int, int], None] | None = None,
) -> list[ValidatedNetwork]:
    """Measures sub-networks, in random order with some of the table's operators.

    A profiler that does not run in this process takes each time from one load, as its models
    have a way to go.

    Args:
        specs: The sub-networks.
        space: Theirs.
        table: Whose rows say how the machine has changed since it was filled.
        profiler: Measures.
        plan: How well to measure each load; its time is divided among them.
        progress: Called with measurements made and measurements in all.
    """
    loads = _LOADS if isinstance(profiler, InProcessProfiler) else 1
    each = replace(plan, min_time_s=plan.min_time_s / loads, max_time_s=plan.max_time_s / loads)
    batch = profiler.device.batch or 1
    networks = [space.ops(spec) for spec in specs]
    anchors = _anchors(table, networks)
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


def _anchors(table: LatencyTable, networks: Sequence[Sequence[OpSpec]]) -> list[OpSpec]:
    """Operators of the networks from the quickest to the slowest, evenly."""
    candidates = {op for ops in networks for op in ops if op in table.rows}
    ops = sorted(candidates, key=lambda op: (table.rows_ms[op], op))
    places = np.linspace(0, len(ops) - 1, min(_ANCHORS, len(ops))).round().astype(int)
    return [ops[place] for place in places]


def _shift(
    table: LatencyTable, anchors: Sequence[OpSpec], measured: Mapping[str, Statistics]
) -> float:
    """How much longer the anchors took than their rows say, at the sentinels' level."""
    return statistics.median(
        table.at_level(measured[f"anchor {i}, time {n}"]) / table.rows_ms[op]
        for i, op in enumerate(anchors)
        for n in range(_TIMES)
    )
