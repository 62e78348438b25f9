"""Fills, validates and calibrates tables of an NVIDIA GPU, and shows how well they predict.

    python benchmarks/cuda.py FOLDER [--prefix h100] [--minutes 24] [--space NAME]...
        [--mode eager|graph]... [--dtype fp16]... [--batch 1]... [--timing host]
        [--resolutions 128,160,192,224] [--networks 30]

By default the published spaces in half precision, batch 1 and 64, by CUDA graphs and eager, the
MobileNetV3 space of width 1.0 first. Each table goes into FOLDER under a name that tells these.
It ends within the minutes given, names what is left, and goes on with that when it is run again.
The errors of the calibrated sum are of networks that the fit had not seen. The plain sum of rows
is shown beside it: at batch 1 launches, not kernels, take the time. The same figures go into
FOLDER/figures.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from contextlib import closing
from pathlib import Path

from ofa_hw.cli.output import print_table
from ofa_hw.errors import OfaHwError
from ofa_hw.latency import (
    LatencyTable,
    ValidationReport,
    calibrate_table,
    fill_table,
    load_table,
    validate_table,
    validation_report,
)
from ofa_hw.profiling import ProfilerOptions, open_profiler
from ofa_hw.spaces import get_space

SPACES = (
    "ofa_mbv3_d234_e346_k357_w1.0",
    "ofa_mbv3_d234_e346_k357_w1.2",
    "ofa_proxyless_d234_e346_k357_w1.3",
    "ofa_resnet50",
)
# What validating a table may take. With less than that and a little for rows, none is begun.
VALIDATION_S = 240
LEAST_FILL_S = 30


class OutOfTimeError(Exception):
    """The minutes are over before a table is finished."""


def table_name(prefix: str, space: str, *, mode: str, dtype: str, batch: int) -> str:
    """Such as `h100-cuda-graph-fp16-b64-ofa_mbv3_w1.0`."""
    return f"{prefix}-cuda-{mode}-{dtype}-b{batch}-{space.replace('_d234_e346_k357', '')}"


def measured(
    path: Path,
    space_name: str,
    options: ProfilerOptions,
    arguments: argparse.Namespace,
    end_s: float,
) -> tuple[LatencyTable, ValidationReport]:
    """A table and its report.

    Raises:
        OutOfTimeError: If it cannot be finished by then; the rows that it has are kept.
    """
    space = get_space(space_name)
    fill_s = end_s - time.monotonic() - VALIDATION_S
    if fill_s < LEAST_FILL_S:
        raise OutOfTimeError
    with closing(open_profiler("cuda", options)) as profiler:
        fill_table(
            space, profiler, path, resolutions=arguments.resolutions, max_minutes=fill_s / 60
        )
        table = load_table(path)
        missing = [op for op in space.table_ops(arguments.resolutions) if op not in table.rows]
        if missing:
            raise OutOfTimeError
        if (networks := arguments.networks - len(table.validated())) > 0:
            validate_table(path, space, profiler, networks=networks)
    calibrate_table(path)
    table = load_table(path)
    return table, validation_report(table, space)


def aims(report: ValidationReport) -> dict[str, bool]:
    """The aims of the measuring engine, and whether they are met on networks not seen."""
    calibrated, floor = report.calibrated, report.noise_floor
    assert calibrated is not None
    return {
        "MAPE at most 1.5 x measuring twice": calibrated.mape <= 1.5 * floor.mape,
        "MAPE under 2 %": calibrated.mape < 0.02,
        "99 % within 5 %": calibrated.within_5 >= 0.99,
        "Spearman at least 0.99": (calibrated.spearman or 0) >= 0.99,
    }


def row(
    name: str, table: LatencyTable, report: ValidationReport, wall_s: float
) -> tuple[object, ...]:
    calibrated, floor = report.calibrated, report.noise_floor
    assert calibrated is not None
    noted = sum(bool(measured.notes) for measured in table.rows.values())
    settled = sum(measured.stable for measured in table.rows.values()) / len(table)
    missed = [aim for aim, met in aims(report).items() if not met]
    return (
        name,
        len(table),
        f"{settled:.0%}",
        noted,
        f"{report.raw.mape:.2%}",
        f"{report.raw.bias:+.1%}",
        f"{calibrated.mape:.2%}",
        f"{floor.mape:.2%}",
        f"{calibrated.within_5:.0%}",
        "-" if calibrated.spearman is None else f"{calibrated.spearman:.4f}",
        f"{wall_s:.0f}",
        "; ".join(missed) or "none",
    )


def notes_of(table: LatencyTable) -> list[str]:
    """Each note of a row, once."""
    return sorted({note for measured in table.rows.values() for note in measured.notes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="gpu", help="names the device")
    parser.add_argument("--space", action="append")
    parser.add_argument("--mode", action="append", choices=["eager", "graph"])
    parser.add_argument("--dtype", action="append")
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--timing", default="host", choices=["host", "events"])
    parser.add_argument("--channels-last", default="off", choices=["off", "on"])
    parser.add_argument("--others", default="refuse", choices=["refuse", "note"])
    parser.add_argument(
        "--resolutions",
        type=lambda text: [int(r) for r in text.split(",")],
        default=[128, 160, 192, 224],
    )
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=24)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    end_s = time.monotonic() + 60 * arguments.minutes
    written = arguments.folder / "figures.json"
    figures = json.loads(written.read_text()) if written.exists() else {}
    rows, left = [], []
    for space, dtype, batch, mode in itertools.product(
        arguments.space or SPACES,
        arguments.dtype or ["fp16"],
        arguments.batch or [1, 64],
        arguments.mode or ["graph", "eager"],
    ):
        name = table_name(arguments.prefix, space, mode=mode, dtype=dtype, batch=batch)
        settings = {
            "mode": mode,
            "timing": arguments.timing,
            "channels_last": arguments.channels_last,
            "others": arguments.others,
        }
        options = ProfilerOptions(dtype=dtype, batch=batch, settings=settings)
        path, start_s = arguments.folder / f"{name}.jsonl", time.monotonic()
        try:
            table, report = measured(path, space, options, arguments, end_s)
        except OutOfTimeError:
            left.append(name)
            continue
        except OfaHwError as error:
            left.append(name)
            print(f"{name}: {error}", flush=True)
            continue
        wall_s = time.monotonic() - start_s
        rows.append(row(name, table, report, wall_s))
        figures[name] = {
            **report.to_dict(),
            "aims": aims(report),
            "notes": notes_of(table),
            "device": table.device.name,
            "details": dict(table.device.details),
            "wall_s": wall_s,
        }
        written.write_text(json.dumps(figures, indent=1))
        print(f"{name}: done in {wall_s:.0f} s", flush=True)
    columns = ("table", "rows", "settled", "noted", "sum", "bias", "calibrated", "measured twice")
    columns = (*columns, "within 5 %", "Spearman", "seconds", "aims missed")
    print_table(columns, rows)
    if left:
        print(f"left, run the same again to go on: {', '.join(left)}")


if __name__ == "__main__":
    main()
