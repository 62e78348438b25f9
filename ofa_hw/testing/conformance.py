"""The conformance suite: what a backend of one's own must pass.

In a test module of the backend:

```python
import pytest
from ofa_hw.testing import PROFILER_CHECKS

@pytest.mark.parametrize("check", PROFILER_CHECKS, ids=lambda check: check.__name__)
def test_my_profiler(check):
    check(MyProfiler)
```

A check takes options, too, e.g. `check(MyProfiler, ProfilerOptions(dtype="int8"))`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from ofa_hw.errors import ProfilerError
from ofa_hw.graph import op_graph
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import Cell, Measurement, Profiler, ProfilerOptions, SamplingPlan

MakeProfiler: TypeAlias = Callable[[ProfilerOptions], Profiler]
Check: TypeAlias = Callable[..., None]  # of a MakeProfiler and, if not the default, options

DEFAULT: Final = ProfilerOptions()
PLAN: Final = SamplingPlan(relative_ci=0.2, min_time_s=0.002, max_time_s=0.05)
_SMALL = OpSpec("mbconv", 8, 16, 16, 48, kernel_size=3, activation="relu", shortcut="identity")
_LARGE = replace(_SMALL, resolution=56, mid_channels=96)
_OTHERS = (
    OpSpec("conv", 16, 3, 8, kernel_size=3, stride=2, activation="h_swish"),
    OpSpec("mbconv", 8, 16, 24, 64, kernel_size=5, stride=2, activation="relu6", se_channels=16),
    OpSpec("global_pool", 8, 16, 16),
    OpSpec("linear", 1, 64, 10),
)


def check_protocol(make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT) -> None:
    """It is a `Profiler`, and its device says what it was asked for."""
    profiler = make_profiler(options)
    try:
        assert isinstance(profiler, Profiler), f"{type(profiler).__name__} is no Profiler"
        device = profiler.device
        for name in ("name", "backend", "runtime", "runtime_version"):
            assert getattr(device, name), f"device.{name} is empty; unknown is 'unknown'"
        wanted = (options.dtype, options.threads, options.batch)
        assert (device.dtype, device.threads, device.batch) == wanted
    finally:
        profiler.close()


def check_every_cell_is_answered_once(
    make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT
) -> None:
    """Each cell comes back with its key, once, with positive finite samples."""
    ops = (_SMALL, _LARGE, *_OTHERS)
    measurements = _measure(make_profiler, options, ops)
    assert sorted(m.key for m in measurements) == sorted(map(str, ops))
    for measurement in measurements:
        assert measurement.samples_ns, f"no samples of {measurement.key}"
        for sample in measurement.samples_ns:
            assert 0 < sample < math.inf, f"{measurement.key} took {sample} ns"


def check_no_cells(make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT) -> None:
    """Nothing to measure gives nothing."""
    assert _measure(make_profiler, options, ()) == []


def check_larger_is_slower(make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT) -> None:
    """A block of a hundred times the work takes longer."""
    medians = {
        m.key: sorted(m.samples_ns)[len(m.samples_ns) // 2]
        for m in _measure(make_profiler, options, (_SMALL, _LARGE))
    }
    assert medians[str(_LARGE)] > medians[str(_SMALL)], medians


def check_progress_reaches_the_end(
    make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT
) -> None:
    """Progress never goes back, and ends with every cell."""
    calls: list[tuple[int, int]] = []
    ops = (_SMALL, *_OTHERS)
    _measure(make_profiler, options, ops, lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (5, 5)


def check_closes_twice(make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT) -> None:
    """Closing what is closed does no harm."""
    profiler = make_profiler(options)
    profiler.close()
    profiler.close()


def check_unknown_settings_are_refused(
    make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT
) -> None:
    """A setting that it does not have is an error that names it, not a measurement without it."""
    settings = {**options.settings, "no_such_setting": "on"}
    _refuses(make_profiler, replace(options, settings=settings), "no_such_setting")


def check_unknown_dtype_is_refused(
    make_profiler: MakeProfiler, options: ProfilerOptions = DEFAULT
) -> None:
    """So is a data type."""
    _refuses(make_profiler, replace(options, dtype="no_such_dtype"), "no_such_dtype")


PROFILER_CHECKS: Final[tuple[Check, ...]] = (
    check_protocol,
    check_every_cell_is_answered_once,
    check_no_cells,
    check_larger_is_slower,
    check_progress_reaches_the_end,
    check_closes_twice,
    check_unknown_settings_are_refused,
    check_unknown_dtype_is_refused,
)


def _measure(
    make_profiler: MakeProfiler,
    options: ProfilerOptions,
    ops: tuple[OpSpec, ...],
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    profiler = make_profiler(options)
    try:
        cells = [Cell(str(op), partial(op_graph, op, batch=options.batch)) for op in ops]
        return list(profiler.measure(cells, PLAN, progress=progress))
    finally:
        profiler.close()


def _refuses(make_profiler: MakeProfiler, options: ProfilerOptions, named: str) -> None:
    message = None
    try:
        make_profiler(options).close()
    except ProfilerError as error:
        message = str(error)
    assert message is not None, f"{named!r} was accepted"
    assert named in message, f"the message does not name {named!r}: {message}"
