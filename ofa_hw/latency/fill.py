"""Fills a table: every operator of a space measured once, and written down at once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ofa_hw.errors import TableError
from ofa_hw.graph import Graph, op_graph
from ofa_hw.latency.format import overhead_line, row_line
from ofa_hw.latency.journal import Journal, read_table
from ofa_hw.latency.order import most_useful_first
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.table import Header, LatencyTable
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import Cell, Profiler, SamplingPlan
from ofa_hw.spaces import SearchSpace

_logger = logging.getLogger(__name__)
_OVERHEAD = "overhead"
# Seconds a cell takes beyond its timed inferences, and what timed inferences exceed the least
# time by: seen on two-core virtual machines, and good for an estimate only.
_LOAD_S = 0.03
_EXCESS = 2.0
_DRAIN_S = 5.0  # in which a profiler may hand over what it has when the time is up


@dataclass(frozen=True, slots=True)
class FillPlan:
    """What filling a table will take.

    Attributes:
        cells: Operators in all.
        missing: Those still to be measured, in their order.
        estimate_s: About how long that takes.
    """

    cells: int
    missing: tuple[OpSpec, ...]
    estimate_s: float


def plan_fill(
    target: SearchSpace | Iterable[OpSpec],
    output: Path | str | None = None,
    *,
    resolutions: Iterable[int] | None = None,
    plan: SamplingPlan | None = None,
) -> FillPlan:
    """Says what `fill_table` would measure, without measuring.

    Args:
        target: The space, or operators of one's own.
        output: The file, whose rows need not be measured again.
        resolutions: Those of the space to measure; all by default.
        plan: How well.
    """
    ops = _wanted(target, resolutions)
    known: Iterable[OpSpec] = ()
    if output is not None and Path(output).exists():
        known = read_table(Path(output)).rows
    missing = tuple(op for op in ops if op not in known)
    least_s = (plan or SamplingPlan()).min_time_s
    return FillPlan(len(ops), missing, len(missing) * (_LOAD_S + _EXCESS * least_s))


def fill_table(
    target: SearchSpace | Iterable[OpSpec],
    profiler: Profiler,
    output: Path | str,
    *,
    resolutions: Iterable[int] | None = None,
    plan: SamplingPlan | None = None,
    force: bool = False,
    resume: bool = True,
    max_minutes: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """Measures every distinct operator once, and returns the table.

    Each row is written as soon as it is measured, so that an interrupted fill goes on where it
    was. With `max_minutes` the most useful operators come first (`most_useful_first`), and a
    warning says what is missing.

    Args:
        target: The space, or operators of one's own.
        profiler: What measures them; it stays open.
        output: The file.
        resolutions: Those of the space to measure; all by default.
        plan: How well to measure.
        force: Whether to throw away a file that is there.
        resume: Whether to go on with a file that is there.
        max_minutes: When to stop. What has enough samples by then is kept; a profiler that goes
            on all the same is stopped a few seconds later.
        progress: Called with operators measured and operators in all.

    Raises:
        OutputExistsError: If there is a file, and neither `force` nor `resume`.
        TableError: If the file cannot be written, has another writer or another header.
        SpecError: If the space has no such resolution.
    """
    ops = _wanted(target, resolutions)
    space = target.name if isinstance(target, SearchSpace) else None
    created = datetime.now(UTC).isoformat(timespec="seconds")
    path = Path(output)
    journal, table = Journal.open(
        path, Header(profiler.device, space, created), force=force, resume=resume
    )
    with journal:
        missing = [op for op in ops if op not in table]
        if not missing:
            _logger.info("%s is complete: it has all %d operators", path, len(ops))
        plan = plan or SamplingPlan()
        if max_minutes is not None:
            plan = replace(plan, total_time_s=min(plan.total_time_s, 60 * max_minutes))
        deadline_s, last_s = time.monotonic() + plan.total_time_s, math.inf
        batch = profiler.device.batch or 1
        cells = {str(op): Cell(str(op), partial(op_graph, op, batch=batch)) for op in missing}
        if table.overhead is None:
            cells = {_OVERHEAD: Cell(_OVERHEAD, partial(_next_to_nothing, batch)), **cells}
        by_key = {str(op): op for op in missing}
        done = len(ops) - len(missing)
        for measurement in profiler.measure(list(cells.values()), plan):
            measured = Statistics.of(measurement)
            if measurement.key == _OVERHEAD:
                journal.append(overhead_line(measured))
            else:
                journal.append(row_line(by_key.pop(measurement.key), measured))
                done += 1
                if progress:
                    progress(done, len(ops))
            # One that looks at the clock hands over what it has at once, and ends by itself.
            if (now_s := time.monotonic()) > deadline_s:
                last_s = min(last_s, now_s + _DRAIN_S)
            if now_s > last_s:
                break
    if by_key:
        sizes = ", ".join(str(s) for s in sorted({op.resolution for op in by_key.values()}))
        _logger.warning(
            "%s lacks %d of %d operators (inputs of %s pixels); run the same again to go on",
            path,
            len(by_key),
            len(ops),
            sizes,
        )
    return read_table(path)


def _wanted(
    target: SearchSpace | Iterable[OpSpec], resolutions: Iterable[int] | None
) -> tuple[OpSpec, ...]:
    if isinstance(target, SearchSpace):
        return most_useful_first(target, resolutions)
    if resolutions is not None:
        raise TableError("resolutions are chosen of a space; operators of one's own have theirs")
    return tuple(dict.fromkeys(target))


def _next_to_nothing(batch: int) -> Graph:
    """A network whose only cost is that of calling the runtime.

    Of all primitives, a convolution is what every delegate runs in every data type.
    """
    return op_graph(OpSpec("conv", 1, 8, 8, kernel_size=1), batch=batch)
