"""How well tables predict whole networks, beside measuring twice, and beside MACs and parameters.

    python benchmarks/fidelity.py [--space NAME]... [--backend NAME]... [--networks 50]
        [--resolutions 160,224] [--tables FOLDER]

For each space and backend a table is filled, and calibrated on 30 random sub-networks; then other
sub-networks are measured, twice each, and estimated. Tables of this machine that are in FOLDER
already, `*-BACKEND-SPACE.jsonl` as the bundled ones are called, are gone on from in a copy.
MACs and parameters are fitted to the 30 networks too, each with a scale and a constant.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ofa_hw.cli.output import print_table
from ofa_hw.latency import (
    ErrorFigures,
    LatencyTable,
    ValidatedNetwork,
    calibrate_table,
    fill_table,
    load_table,
    validate_table,
)
from ofa_hw.latency.validation import error_figures, measured_ms, noise_floor
from ofa_hw.profiling import Profiler, open_profiler
from ofa_hw.spaces import SearchSpace, get_space

SPACES = ("ofa_mbv3_d234_e346_k357_w1.0", "ofa_resnet50")
BACKENDS = ("onnxruntime", "tflite", "cpu")
CALIBRATION = 30


def short_name(space: str) -> str:
    return space.replace("_d234_e346_k357", "")


def prepared(
    space: SearchSpace, profiler: Profiler, arguments: argparse.Namespace, path: Path
) -> LatencyTable:
    """A calibrated table, from the folder of tables or filled now."""
    pattern = f"*-{profiler.device.backend}-{short_name(space.name)}.jsonl"
    found = sorted(arguments.tables.glob(pattern)) if arguments.tables else []
    if found:
        shutil.copy(found[0], path)
    else:
        fill_table(space, profiler, path, resolutions=arguments.resolutions)
    if len(load_table(path).validated()) < CALIBRATION:
        validate_table(path, space, profiler, networks=CALIBRATION, loads=arguments.loads)
    return calibrate_table(path)


def linear(
    space: SearchSpace,
    cost: str,
    seen: Sequence[ValidatedNetwork],
    level_ms: float | None,
    unseen: Sequence[ValidatedNetwork],
) -> npt.NDArray[np.float64]:
    """Estimates of unseen networks by scale and constant, fitted to the relative error of seen."""

    def design(networks: Sequence[ValidatedNetwork]) -> npt.NDArray[np.float64]:
        of = space.macs if cost == "MACs" else space.params
        return np.array([[of(network.spec) / 1e6, 1.0] for network in networks])

    first, _ = measured_ms(seen, level_ms)
    weights, *_ = np.linalg.lstsq(design(seen) / first[:, None], np.ones(len(first)), rcond=None)
    estimates: npt.NDArray[np.float64] = design(unseen) @ weights
    return estimates


def held_out(
    space: SearchSpace, backend: str, arguments: argparse.Namespace, path: Path
) -> dict[str, object]:
    start = time.perf_counter()
    profiler = open_profiler(backend)
    table = prepared(space, profiler, arguments, path)
    seen = table.validated()
    validate_table(
        path,
        space,
        profiler,
        networks=arguments.networks,
        seed=arguments.seed,
        loads=arguments.loads,
    )
    profiler.close()
    unseen, level_ms = load_table(path).validated()[len(seen) :], table.sentinel_ms
    first, _ = measured_ms(unseen, level_ms)
    ops = [space.ops(network.spec) for network in unseen]
    plain = replace(table, calibration=None)
    figures: dict[str, ErrorFigures] = {
        "sum of rows": error_figures([plain.latency_ms(own) for own in ops], first),
        "calibrated": error_figures([table.latency_ms(own) for own in ops], first),
        "measured twice": noise_floor(unseen, level_ms),
        "MACs": error_figures(linear(space, "MACs", seen, level_ms, unseen), first),
        "parameters": error_figures(linear(space, "parameters", seen, level_ms, unseen), first),
    }
    intervals = [table.latency_interval_ms(own) for own in ops]
    inside = [low <= ms <= high for (low, high), ms in zip(intervals, first, strict=True)]
    calibrated, floor = figures["calibrated"], figures["measured twice"]
    return {
        "space": space.name,
        "backend": backend,
        "latency_ms": (float(first.min()), float(first.max())),
        "wall_s": time.perf_counter() - start,
        "figures": {name: of.to_dict() for name, of in figures.items()},
        "coverage_90": float(np.mean(inside)),
        "interval_90": table.latency_interval_ms(ops[0])[1] / table.latency_ms(ops[0]) - 1,
        "aims": {
            "calibrated MAPE at most 1.5 x the floor": calibrated.mape <= 1.5 * floor.mape,
            "under 2 %": calibrated.mape < 0.02,
            "99 % within 5 %": calibrated.within_5 >= 0.99,
            "Spearman at least 0.99": (calibrated.spearman or 0) >= 0.99,
        },
    }


def show(result: dict[str, object]) -> None:
    low_ms, high_ms = result["latency_ms"]  # type: ignore[misc]  # two numbers
    print(
        f"\n{result['backend']}, {result['space']}: networks of {low_ms:.2f} to {high_ms:.2f} ms, "
        f"all in {result['wall_s']:.0f} s"
    )
    rows = []
    for name, of in result["figures"].items():  # type: ignore[attr-defined]  # a dict
        shares = [f"{of[key]:.2%}" for key in ("mape", "rmspe", "bias")]
        shares += [f"{of[key]:.0%}" for key in ("within_5", "within_10")]
        ranks = ["-" if of[key] is None else f"{of[key]:.4f}" for key in ("spearman", "kendall")]
        rows.append((name, of["networks"], *shares, *ranks))
    columns = ("", "networks", "MAPE", "RMSPE", "bias", "within 5 %", "within 10 %")
    print_table((*columns, "Spearman", "Kendall"), rows)
    print(
        f"the 90 % interval is the estimate +- {result['interval_90']:.1%} "
        f"and holds {result['coverage_90']:.0%} of the networks"
    )
    for aim, met in result["aims"].items():  # type: ignore[attr-defined]  # a dict
        print(f"  {'met   ' if met else 'MISSED'} {aim}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", action="append")
    parser.add_argument("--backend", action="append")
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--resolutions", type=lambda text: [int(r) for r in text.split(",")])
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--loads", type=int, help="of a network, each time it is measured")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.space or SPACES:
        for backend in arguments.backend or BACKENDS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "table.jsonl"
                result = held_out(get_space(name), backend, arguments, path)
            print(json.dumps(result), flush=True) if arguments.json else show(result)


if __name__ == "__main__":
    main()
