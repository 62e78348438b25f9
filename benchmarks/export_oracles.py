"""Compares our files with those of converters that are not ours: numbers, latency and cost.

    python benchmarks/export_oracles.py [--environment FOLDER] [--space NAME] [--networks 10]
        [--blocks 6] [--files FOLDER] [--json]

The oracles are litert-torch and torch's own ONNX exporter (dynamo). They run in an environment of
their own, which is made in the cache folder, or in FOLDER, if there is none (1.3 GB). Random
sub-networks with random weights are written by this project and by them. Each pair is given the
same image and its outputs are compared; then all files of a format are timed in the same rounds.
Our own file is loaded twice: how far the second copy is off is what noise does. Last, blocks are
converted one after another and the seconds are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ofa_hw.cli.output import print_table
from ofa_hw.graph import Graph, network_graph, op_graph
from ofa_hw.lowering.files import write_file
from ofa_hw.lowering.parity import relative_error
from ofa_hw.lowering.sessions import OnnxSession, Session, TfliteSession
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import Engine, SamplingPlan, SystemClock
from ofa_hw.profiling.sentinel import SENTINEL_OPS
from ofa_hw.spaces import get_space

REQUIREMENTS = ("litert-torch==0.10.0", "torch==2.13.0", "onnx", "onnxscript", "onnxruntime")
ROOT = Path(__file__).parents[1]
PLAN = SamplingPlan(relative_ci=0.005, min_time_s=0.2, max_time_s=3.0)
ORACLES = {".onnx": "torch.onnx.export", ".tflite": "litert-torch"}
RUNTIMES: Mapping[str, Callable[[Path], Session]] = {".onnx": OnnxSession, ".tflite": TfliteSession}


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ofa_hw" / "export-oracles"


def prepared(environment: Path) -> Path:
    """The interpreter of the oracles' environment, which is made if there is none."""
    python, done = environment / "bin" / "python", environment / ".installed"
    if not done.exists():
        print(f"installing {', '.join(REQUIREMENTS)} into {environment}", file=sys.stderr)
        venv.create(environment, with_pip=True)
        # torch is asked for in the same breath, lest pip take a build of gigabytes.
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        done.touch()
    return python


def converted(python: Path, jobs: Mapping[str, Sequence[OpSpec]], folder: Path) -> dict[str, float]:
    """Has the oracles write `FOLDER/NAME-oracle.SUFFIX` for each job; seconds by file name."""
    orders = {name: [op.to_dict() for op in ops] for name, ops in jobs.items()}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [python, __file__, "--convert", folder],
        input=json.dumps(orders),
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def convert(folder: Path) -> None:
    """What runs in the oracles' environment: jobs from stdin, seconds to stdout."""
    import litert_torch  # type: ignore[import-not-found]  # not in this project's environment
    import torch

    from ofa_hw.lowering.torch import to_torch

    torch.set_num_threads(1)

    def as_onnx(module: torch.nn.Module, x: torch.Tensor, path: Path) -> None:
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)

    def as_tflite(module: torch.nn.Module, x: torch.Tensor, path: Path) -> None:
        # TFLite's convolutions take (N, H, W, C); without this there is a transpose at the input.
        shape = tuple(x.permute(0, 2, 3, 1).shape)
        channels_last = litert_torch.to_channel_last_io(module, args=[0]).eval()
        litert_torch.convert(channels_last, (torch.zeros(shape),)).export(str(path))

    seconds: dict[str, float] = {}
    with contextlib.redirect_stdout(sys.stderr):  # both converters talk
        for name, ops in json.loads(sys.stdin.read()).items():
            graph = graph_of([OpSpec.from_dict(op) for op in ops])
            module, x = to_torch(graph), torch.zeros(graph.input_shape)
            for suffix, write in ((".onnx", as_onnx), (".tflite", as_tflite)):
                path = folder / f"{name}-oracle{suffix}"
                start = time.perf_counter()
                write(module, x, path)
                seconds[path.name] = time.perf_counter() - start
    print(json.dumps(seconds))


def graph_of(ops: Sequence[OpSpec]) -> Graph:
    """A block or a network, with weights that are the same in every process."""
    return op_graph(ops[0]) if len(ops) == 1 else network_graph(ops)


def compared(names: Sequence[str], suffix: str, folder: Path) -> dict[str, Any]:
    """Errors and latencies of one format's files."""
    sessions: dict[str, Session] = {}
    errors = []
    for name in names:
        ours, again = (RUNTIMES[suffix](folder / f"{name}{suffix}") for _ in range(2))
        theirs = RUNTIMES[suffix](folder / f"{name}-oracle{suffix}")
        x = np.random.default_rng(0).standard_normal(ours.input_shape, np.float32)
        errors.append(relative_error(ours.run(x), theirs.run(x)))
        sessions |= {f"{name} ours": ours, f"{name} again": again, f"{name} theirs": theirs}
    drift = [OnnxSession(sentinel(folder, i)) for i in range(len(SENTINEL_OPS))]
    engine = Engine([session.invoke for session in drift], PLAN, clock=SystemClock())
    runnables = {key: session.invoke for key, session in sessions.items()}
    latency_ms = {m.key: statistics.median(m.samples_ns) * 1e-6 for m in engine.measure(runnables)}
    theirs, again = (
        [latency_ms[f"{name} {who}"] / latency_ms[f"{name} ours"] for name in names]
        for who in ("theirs", "again")
    )
    return {
        "oracle": ORACLES[suffix],
        "networks": len(names),
        "largest_error": max(errors),
        "ours_ms": [latency_ms[f"{name} ours"] for name in names],
        "theirs_over_ours": theirs,
        "again_over_ours": again,
    }


def sentinel(folder: Path, index: int) -> Path:
    path = folder / f"sentinel-{index}.onnx"
    write_file(op_graph(SENTINEL_OPS[index]), path)
    return path


def written(jobs: Mapping[str, Sequence[OpSpec]], folder: Path) -> dict[str, float]:
    """Writes each job by this project's own writers; seconds by file name."""
    seconds = {}
    for name, ops in jobs.items():
        for suffix in RUNTIMES:
            start = time.perf_counter()
            write_file(graph_of(ops), folder / f"{name}{suffix}")
            seconds[f"{name}-oracle{suffix}"] = time.perf_counter() - start
    return seconds


def show(result: dict[str, Any]) -> None:
    def spread(ratios: Sequence[float]) -> str:
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        return f"{middle:.3f} ({low:.3f}-{high:.3f})"

    print(f"{result['space']}, {result['formats'][0]['networks']} random sub-networks")
    print_table(
        ("oracle", "largest error", "ours, ms", "theirs / ours", "ours again / ours"),
        [
            (
                entry["oracle"],
                f"{entry['largest_error']:.1e}",
                f"{min(entry['ours_ms']):.2f}-{max(entry['ours_ms']):.2f}",
                spread(entry["theirs_over_ours"]),
                spread(entry["again_over_ours"]),
            )
            for entry in result["formats"]
        ],
    )
    print_table(
        ("seconds to write", "a block", "ours", "a network", "ours"),
        [
            (ORACLES[suffix], *(f"{value:.3f}" for value in seconds.values()))
            for suffix, seconds in result["seconds"].items()
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, default=cache_folder() / "venv")
    parser.add_argument("--space", default="ofa_mbv3_d234_e346_k357_w1.0")
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--files", type=Path, default=cache_folder() / "files")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--convert", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.convert:
        convert(arguments.convert)
        return
    python, folder = prepared(arguments.environment), arguments.files
    folder.mkdir(parents=True, exist_ok=True)
    space, rng = get_space(arguments.space), np.random.default_rng(0)
    networks = {f"network-{i}": space.ops(space.sample(rng=rng)) for i in range(arguments.networks)}
    candidates = [op for op in space.table_ops([160, 224]) if op.kind == "mbconv"]
    chosen = rng.choice(len(candidates), arguments.blocks + 1, replace=False)
    blocks = {f"block-{i}": [candidates[place]] for i, place in enumerate(chosen)}
    jobs = {**blocks, **networks}  # a block first: imports do not count
    ours, theirs = written(jobs, folder), converted(python, jobs, folder)

    def median_s(seconds: Mapping[str, float], kind: str, suffix: str) -> float:
        return statistics.median(
            value
            for name, value in seconds.items()
            if name.startswith(kind) and name.endswith(suffix) and not name.startswith("block-0-")
        )

    result = {
        "space": space.name,
        "formats": [compared(list(networks), suffix, folder) for suffix in RUNTIMES],
        "seconds": {
            suffix: {
                f"{kind}, {who}": median_s(seconds, kind, suffix)
                for kind in ("block", "network")
                for who, seconds in (("theirs", theirs), ("ours", ours))
            }
            for suffix in RUNTIMES
        },
    }
    print(json.dumps(result)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
