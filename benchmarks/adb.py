"""What profiling over ADB costs beside the inferences themselves.

    python benchmarks/adb.py [--cells 60] [--serial HOST:PORT --library libtensorflowlite_c.so]

Without --serial it starts the tests' own device: a real adbd on loopback (as root). Three ways to
time the same cells are compared: the project's ofa-runner in batches; one round trip a cell, which
pushes the network, starts the program, lets it make as many inferences as a cell has in batches (or
50, as benchmark_model does), and reads what it says; and benchmark_model in batches, for 20 of the
cells, with --benchmark-binary, or from the tests' cache if they have built it (that one has no
XNNPACK). Each is divided by the time that its cells spent in inferences. At the end the cable is
pulled five times while 200 cells are measured. All of it takes about four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ofa_hw.graph import op_graph
from ofa_hw.lowering.parts import part_to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, ProfilerOptions, SamplingPlan
from ofa_hw.spaces import get_space
from ofa_hw_profilers.adb import build_runner, open_adb_profiler
from ofa_hw_profilers.adb.build import find_runner, open_library
from ofa_hw_profilers.adb.connect import connect
from ofa_hw_profilers.adb.facts import read_facts
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler
from ofa_hw_profilers.adb.settings import read_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/device"))

PLAN = SamplingPlan()
FEW = 50  # inferences that benchmark_model makes unless told otherwise
RATIO = "wall over inference"


def operators(number: int) -> list[OpSpec]:
    """Operators of the MobileNetV3 space at three resolutions, evenly taken from all of them."""
    every = list(get_space("ofa_mbv3_d234_e346_k357_w1.2").table_ops([128, 160, 192]))
    step = max(1, len(every) // number)
    return every[::step][:number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--serial")
    parser.add_argument("--library")
    parser.add_argument("--benchmark-binary")
    parser.add_argument("--skip-breaks", action="store_true")
    options = parser.parse_args()
    with device(options.serial, options.library) as (serial, settings, loopback):
        ops = operators(options.cells)
        report: dict[str, object] = {"cells": len(ops)}
        rows, batches = in_batches(serial, settings, ops)
        ways = {"ofa-runner, batches": batches}
        spent_ns = 1e9 * batches["inference_s"] / len(rows)
        as_many = {key: max(3, round(0.9 * spent_ns / rows[key])) for key in rows}
        ways["ofa-runner, a round trip a cell"] = single_trips(serial, settings, ops, as_many)
        ways[f"the same of {FEW} runs each"] = single_trips(
            serial, settings, ops, dict.fromkeys(rows, FEW)
        )
        if benchmark := options.benchmark_binary or put_benchmark_model(loopback):
            chosen = {**settings, "benchmark_binary": benchmark}
            if not options.benchmark_binary:
                chosen["delegate"] = "none"
            _, ways["benchmark_model, batches"] = in_batches(
                serial, chosen, ops[:: max(1, len(ops) // 20)]
            )
            if loopback is not None:
                shutil.rmtree(loopback.data / "bm", ignore_errors=True)
        report |= ways
        report[RATIO] = {way: of[RATIO] for way, of in ways.items()}
        if loopback is not None and not options.skip_breaks:
            report["five disconnects"] = with_breaks(serial, settings, loopback)
        print(json.dumps(report, indent=1))


@contextlib.contextmanager
def device(serial: str | None, library: str | None) -> Iterator[tuple[str, dict[str, str], object]]:
    """The device named, or one of the tests' own for as long as this takes."""
    if serial:
        yield serial, {"library": library} if library else {}, None
        return
    from loopback.device import Device
    from loopback.tflite import tflite_library

    with tempfile.TemporaryDirectory() as folder, Device() as loopback:
        runner = build_runner("cc", output=Path(folder) / "ofa-runner")
        settings = {"library": str(tflite_library()), "runner_binary": str(runner)}
        yield loopback.serial, {**settings, "cool_down_s": "0"}, loopback


def put_benchmark_model(loopback) -> str:  # noqa: ANN001
    """Copies benchmark_model onto the tests' device, if it has been built; returns its path."""
    from loopback.packages import cache_folder

    program = cache_folder() / "benchmark_model"
    if loopback is None or not program.exists():
        return ""
    shutil.copytree(program, loopback.data / "bm")
    return "/data/local/tmp/bm/benchmark_model"


class Stopwatch:
    """Adds up what the visits of a profiler spend in inferences of cells, sentinels apart."""

    def __init__(self, profiler: AdbTfliteProfiler) -> None:
        self.cells_s = 0.0
        self.sentinels_s = 0.0
        visit = profiler._session.visit

        def timed(requests):  # noqa: ANN001, ANN202
            sentinels = profiler._sentinels
            for request, result in zip(requests, visit(requests), strict=True):
                spent_s = result.all_ns * 1e-9
                if request.network in sentinels:
                    self.sentinels_s += spent_s
                else:
                    self.cells_s += spent_s
                yield result

        profiler._session.visit = timed  # type: ignore[method-assign]


def cells_of(ops: list[OpSpec]) -> list[Cell]:
    return [Cell(str(op), lambda op=op: op_graph(op)) for op in ops]  # type: ignore[misc]


def in_batches(
    serial: str, settings: dict[str, str], ops: list[OpSpec]
) -> tuple[dict[str, float], dict[str, float]]:
    """A whole table in one go, opening and closing included; latencies in ns, and a summary."""
    started = time.perf_counter()
    profiler = open_adb_profiler(ProfilerOptions(serial, settings=settings))
    watch = Stopwatch(profiler)
    rows = list(profiler.measure(cells_of(ops), PLAN))
    profiler.close()
    wall_s = time.perf_counter() - started
    latencies_ns = {row.key: float(np.median(row.samples_ns)) for row in rows}
    return latencies_ns, {
        **summary(len(rows), wall_s, watch.cells_s),
        "sentinels_s": round(watch.sentinels_s, 2),
        "stable": sum(row.stable for row in rows),
        "median_visits": statistics.median(row.visits or 0 for row in rows),
    }


def single_trips(
    serial: str,
    settings: dict[str, str],
    ops: list[OpSpec],
    runs: dict[str, int],
) -> dict[str, float]:
    """Each cell on its own: push, run, parse. The program and its library are pushed once.

    Args:
        serial: Of the device.
        settings: Of the profiler.
        ops: The cells.
        runs: Timed inferences of each; a tenth of all come before, untimed.
    """
    started = time.perf_counter()
    chosen = read_settings(ProfilerOptions(serial, settings=settings))
    transport = connect(serial)
    facts = read_facts(transport)
    program = chosen.runner_binary or find_runner(facts)
    assert chosen.library is not None
    libraries = open_library(chosen.library, facts)
    folder = "/data/local/tmp/ofa-hw-single"
    transport.shell(f"mkdir -p {folder}")
    transport.push(program.read_bytes(), f"{folder}/ofa-runner", mode=0o755)
    for name, data in libraries.items():
        transport.push(data, f"{folder}/{name}")
    call = f"cd {folder} && LD_LIBRARY_PATH=. ./ofa-runner ./{next(iter(libraries))} xnnpack 1"
    inference_s = 0.0
    for op in ops:
        network = part_to_tflite(op_graph(op), "fp32")
        timed = runs[str(op)]
        transport.push(network, f"{folder}/network.tflite")
        commands = (
            f"load 0 0 {len(network)} network.tflite\\nvisit 0 {max(1, timed // 9)} {timed}\\n"
        )
        said = transport.shell(f"printf '{commands}' | ({call})", 60).stdout.splitlines()
        answer = json.loads(said[-1])
        assert len(answer["ns"]) == timed
        assert statistics.median(answer["ns"]) > 0
        inference_s += answer["all_ns"] * 1e-9
        transport.shell(f"rm {folder}/network.tflite")
    transport.shell(f"rm -r {folder}")
    transport.close()
    return summary(len(ops), time.perf_counter() - started, inference_s)


def summary(rows: int, wall_s: float, inference_s: float) -> dict[str, float]:
    return {
        "rows": rows,
        "wall_s": round(wall_s, 2),
        "inference_s": round(inference_s, 2),
        RATIO: round(wall_s / inference_s, 2),
    }


def with_breaks(serial: str, settings: dict[str, str], loopback) -> dict[str, object]:  # noqa: ANN001
    """200 cells, the cable pulled five times; each row compared with one of a quiet run."""
    ops = operators(200)
    plan = SamplingPlan(relative_ci=0.05, min_time_s=0.01, max_time_s=0.1)

    def fill(breaks: int) -> tuple[dict[str, float], int, float]:
        profiler = open_adb_profiler(ProfilerOptions(serial, settings=settings))
        due = [len(ops) * (i + 1) // (breaks + 1) for i in range(breaks)]

        def pull(done: int, _: int) -> None:
            # Rows come in bursts: the next pull waits until the last one has been noticed.
            if due and done >= due[0] and profiler._session.breaks == breaks - len(due):
                due.pop(0)
                loopback.cut()
                threading.Timer(0.5, loopback.plug).start()

        started = time.perf_counter()
        rows = {
            row.key: float(np.median(row.samples_ns))
            for row in profiler.measure(cells_of(ops), plan, progress=pull)
        }
        wall_s = time.perf_counter() - started
        breaks_seen = profiler._session.breaks
        profiler.close()
        return rows, breaks_seen, wall_s

    quiet, _, quiet_s = fill(0)
    broken, seen, broken_s = fill(5)
    again, _, _ = fill(0)
    errors = [abs(broken[key] / quiet[key] - 1) for key in quiet]
    floor = [abs(again[key] / quiet[key] - 1) for key in quiet]
    return {
        "rows": len(broken),
        "breaks": seen,
        "median difference to a quiet run": round(statistics.median(errors), 4),
        "largest": round(max(errors), 4),
        "the same between two quiet runs": round(statistics.median(floor), 4),
        "its largest": round(max(floor), 4),
        "wall_s": round(broken_s, 1),
        "wall_s of the quiet run": round(quiet_s, 1),
        "left on the device": loopback.listing(),
    }


if __name__ == "__main__":
    main()
