"""Fills a table the project's way and, on a sample, the straightforward way, and compares them.

    python benchmarks/fill.py [--space NAME] [--backend NAME]... [--resolutions N,N] [--sample N]
        [--output FOLDER] [--converters] [--converter-blocks 10]

The project's way fills the whole grid: every distinct block at every resolution. The
straightforward way takes one block after another, all of one resolution: exports it (for ONNX
Runtime with torch's own exporter, in its quick form of old; for TFLite, where the usual converters
take seconds, with this project's writer), runs it 10 times to warm up and 50 times, and takes the
mean. Both tables then estimate the same measured networks of that resolution. With `--converters`
a few blocks are also exported by the converters that are in common use, as `export_oracles.py`
runs them in an environment of their own: torch's present ONNX exporter and litert-torch.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from export_oracles import RUNTIMES, cache_folder, converted, prepared

from ofa_hw.errors import TableError
from ofa_hw.graph import op_graph
from ofa_hw.latency import LatencyTable, Statistics, fill_table, load_table, validate_table
from ofa_hw.latency.calibrate import fit_calibration
from ofa_hw.latency.validation import error_figures, measured_ms
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import InProcessProfiler, SamplingPlan, open_profiler
from ofa_hw.spaces import SearchSpace, get_space

WARM_UPS, RUNS = 10, 50


def onnx_the_straightforward_way(op: OpSpec, folder: Path) -> Callable[[], object]:
    import onnxruntime
    import torch

    from ofa_hw.lowering.torch import to_torch

    path, x = folder / "block.onnx", torch.randn(op.input_shape())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(to_torch(op_graph(op)), (x,), str(path), dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def tflite_the_straightforward_way(op: OpSpec, folder: Path) -> Callable[[], object]:
    from ofa_hw.lowering.sessions import TfliteSession
    from ofa_hw.lowering.tflite import to_tflite

    path = folder / "block.tflite"
    path.write_bytes(to_tflite(op_graph(op)))
    return TfliteSession(path).invoke


WAYS = {"onnxruntime": onnx_the_straightforward_way, "tflite": tflite_the_straightforward_way}


def mean_ms(run: Callable[[], object]) -> float:
    for _ in range(WARM_UPS):
        run()
    start = time.perf_counter()
    for _ in range(RUNS):
        run()
    return 1e3 * (time.perf_counter() - start) / RUNS


def straightforward(backend: str, ops: list[OpSpec]) -> tuple[dict[OpSpec, float], float]:
    """Latencies, and seconds a block."""
    with tempfile.TemporaryDirectory() as folder:
        WAYS[backend](ops[0], Path(folder))  # imports do not count
        start = time.perf_counter()
        rows_ms = {op: mean_ms(WAYS[backend](op, Path(folder))) for op in ops}
    return rows_ms, (time.perf_counter() - start) / len(ops)


def with_usual_converters(backend: str, ops: list[OpSpec]) -> float:
    """Seconds a block of the straightforward way, exported by the converters in common use."""
    suffix = {"onnxruntime": ".onnx", "tflite": ".tflite"}[backend]
    jobs = {f"block-{i}": [op] for i, op in enumerate(ops)}
    with tempfile.TemporaryDirectory() as folder:
        # The first one of a process takes longer and does not count.
        seconds = converted(prepared(cache_folder()), {"first": [ops[0]], **jobs}, Path(folder))
        start = time.perf_counter()
        for name in jobs:
            mean_ms(RUNTIMES[suffix](Path(folder) / f"{name}-oracle{suffix}").invoke)
        running_s = time.perf_counter() - start
    exporting_s = sum(seconds[f"{name}-oracle{suffix}"] for name in jobs)
    return (exporting_s + running_s) / len(ops)


def peak_mib() -> float:
    """Most memory that this process had at once."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def fill(
    space: SearchSpace, backend: str, resolutions: list[int], plan: SamplingPlan, path: Path
) -> dict[str, float | str]:
    profiler = open_profiler(backend)
    assert isinstance(profiler, InProcessProfiler)
    start = time.perf_counter()
    table = fill_table(space, profiler, path, resolutions=resolutions, plan=plan, resume=False)
    wall_s = time.perf_counter() - start
    return {
        "blocks": len(table),
        "wall_s": wall_s,
        "block_s": wall_s / len(table),
        "timed": profiler.timed_s / wall_s,
        "settled": sum(row.stable for row in table.rows.values()) / len(table),
        "peak_mib": peak_mib(),
    }


def fidelity(table: LatencyTable, space: SearchSpace) -> tuple[float, float]:
    """MAPE of the plain sum, and of the calibrated one on networks the fit has not seen."""
    truth, _ = measured_ms(table.validation, table.sentinel_ms)
    raw = error_figures([table.latency_ms(space.ops(n.spec)) for n in table.validation], truth)
    try:
        return raw.mape, fit_calibration(table).figures["mape"]
    except TableError:
        return raw.mape, math.nan


def compare(arguments: argparse.Namespace, backend: str) -> dict[str, float | str]:
    space = get_space(arguments.space)
    resolutions = arguments.resolutions or list(space.resolutions)
    plan = SamplingPlan(min_time_s=arguments.min_time_s, relative_ci=arguments.relative_ci)
    sampled_at = min(resolutions, key=lambda r: abs(r - 160))
    with tempfile.TemporaryDirectory() as folder:
        path = (arguments.output or Path(folder)) / f"{backend}-{space.name}.jsonl"
        result = {"backend": backend, **fill(space, backend, resolutions, plan, path)}
        profiler = open_profiler(backend)
        validate_table(path, space, profiler, networks=arguments.networks, resolutions=[sampled_at])
        table = load_table(path)
    ops = list(space.table_ops([sampled_at]))
    np.random.default_rng(0).shuffle(ops)  # type: ignore[arg-type]  # a list of any objects
    everything = arguments.sample is None or arguments.sample >= len(ops)
    rows_ms, block_s = straightforward(backend, ops if everything else ops[: arguments.sample])
    result |= {"straight_block_s": block_s, "faster": block_s / float(result["block_s"])}
    if arguments.converters:
        result["converters_block_s"] = with_usual_converters(
            backend, ops[: arguments.converter_blocks]
        )
    result["mape"], result["calibrated_mape"] = fidelity(table, space)
    if everything:
        rows = {op: Statistics(ms, RUNS) for op, ms in rows_ms.items()}
        plain = replace(table, rows=rows, overhead=None)
        result["straight_mape"], result["straight_calibrated_mape"] = fidelity(plain, space)
    return result


def show(result: dict[str, float | str]) -> None:
    print(
        "{backend}: {blocks} blocks in {wall_s:.1f} s, {block_s:.4f} s each; "
        "{timed:.0%} of it inside timed inference; {settled:.0%} settled; peak {peak_mib:.0f} MiB\n"
        "  the straightforward way: {straight_block_s:.4f} s each, "
        "so that it takes {faster:.1f} times as long".format(**result)
    )
    if "converters_block_s" in result:
        factor = float(result["converters_block_s"]) / float(result["block_s"])
        print(
            f"  with the converters in common use: {result['converters_block_s']:.4f} s each, "
            f"so that it takes {factor:.1f} times as long"
        )
    if "straight_mape" in result:
        print(
            "  MAPE on the same networks, plain sum and calibrated: {mape:.2%} and "
            "{calibrated_mape:.2%}; the straightforward way {straight_mape:.2%} and "
            "{straight_calibrated_mape:.2%}".format(**result)
        )


def _work(arguments: argparse.Namespace, backend: str, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    import torch

    torch.set_num_threads(1)
    queue.put(compare(arguments, backend))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="ofa_mbv3_d234_e346_k357_w1.0")
    parser.add_argument("--backend", action="append", choices=sorted(WAYS))
    parser.add_argument("--resolutions", type=lambda text: [int(r) for r in text.split(",")])
    parser.add_argument("--sample", type=int, help="blocks of the straightforward way")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--min-time-s", type=float, default=SamplingPlan().min_time_s)
    parser.add_argument("--relative-ci", type=float, default=SamplingPlan().relative_ci)
    parser.add_argument("--output", type=Path, help="folder in which the tables are kept")
    parser.add_argument("--converters", action="store_true")
    parser.add_argument("--converter-blocks", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for backend in arguments.backend or sorted(WAYS):
        # A process each, so that peak memory is that of one backend.
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=_work, args=(arguments, backend, queue))
        process.start()
        result = queue.get()
        process.join()
        print(json.dumps(result)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
