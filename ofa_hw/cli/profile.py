"""`ofa-hw profile`: fills latency tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import (
    BenchmarkBinaryOption,
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SetOption,
    ThreadsOption,
    device_settings,
    parse_resolutions,
)
from ofa_hw.cli.output import print_json, progress_bar, stage_bars
from ofa_hw.cli.side_by_side import run_side_by_side
from ofa_hw.errors import OfaHwError

if TYPE_CHECKING:
    from ofa_hw.latency import FillPlan, LatencyTable


@app.command(
    epilog="Example: ofa-hw profile --space tiny --backend onnxruntime --output tiny.jsonl"
)
def profile(
    backend: Annotated[str, typer.Option(help="See `ofa-hw devices`.", metavar="NAME")],
    space: Annotated[
        str, typer.Option("--space", help="Search space.", metavar="NAME")
    ] = "ofa_mbv3_d234_e346_k357_w1.2",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, or a folder; by default named after space, backend and serial.",
            metavar="FILE",
        ),
    ] = None,
    serial: Annotated[
        list[str] | None,
        typer.Option(
            help="Device, for backends that reach others; repeat to fill a table of each, side by "
            "side.",
            metavar="SERIAL",
        ),
    ] = None,
    resolutions: ResolutionsOption = None,
    threads: ThreadsOption = 1,
    dtype: Annotated[str, typer.Option(help="Of weights and activations.")] = "fp32",
    batch: Annotated[int, typer.Option(help="Images at once.", min=1)] = 1,
    settings: SetOption = None,
    benchmark_binary: BenchmarkBinaryOption = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Stop after this long; the most useful operators come first.", min=0.0),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many operators and how long.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure every operator of a search space on a device, into a latency table.

    An interrupted run is resumed by the same command.
    """
    from ofa_hw.latency import plan_fill
    from ofa_hw.profile import profile as run_profile
    from ofa_hw.spaces import get_space

    found, sizes = get_space(space), parse_resolutions(resolutions)
    serials: list[str | None] = [*serial] if serial else [None]
    outputs = _outputs(output, space, backend, serials)
    plan = partial(plan_fill, found, resolutions=sizes)
    if dry_run:
        plans = {path: plan(None if force else path) for path in outputs}
        _print([_planned(path, made, len(outputs) > 1) for path, made in plans.items()], as_json)
        return
    fill = partial(
        run_profile,
        found,
        backend=backend,
        threads=threads,
        dtype=dtype,
        batch=batch,
        settings=device_settings(settings, benchmark_binary, has_serial=bool(serial)),
        resolutions=sizes,
        max_minutes=max_minutes,
        force=force,
    )
    if len(serials) == 1:
        with progress_bar("measuring") as progress:
            table = fill(serial=serials[0], output=outputs[0], progress=progress)
        _print([_filled(outputs[0], table, len(plan(outputs[0]).missing))], as_json)
        return
    outputs[0].parent.mkdir(parents=True, exist_ok=True)
    paths = {str(name): path for name, path in zip(serials, outputs, strict=True)}
    jobs = {name: partial(fill, serial=name, output=path) for name, path in paths.items()}
    with stage_bars() as advance:
        results = run_side_by_side(jobs, advance)
    answers = [
        _failed(name, paths[name], result)
        if isinstance(result, OfaHwError)
        else _filled(paths[name], result, len(plan(paths[name]).missing), serial=name)
        for name, result in results.items()
    ]
    _print(answers, as_json)
    if any("error" in facts for facts, _ in answers):
        raise typer.Exit(1)


_Answer: TypeAlias = tuple[dict[str, Any], str]  # for --json, and for people


def _failed(serial: str, path: Path, error: OfaHwError) -> _Answer:
    message = " ".join(str(error).split())
    print(f"ofa-hw: {serial}: {message}", file=sys.stderr)
    return {"serial": serial, "table": str(path), "error": message}, ""


def _planned(path: Path, plan: FillPlan, is_named: bool) -> _Answer:
    missing, minutes = len(plan.missing), plan.estimate_s / 60
    sentence = f"{plan.cells} operators, {missing} to measure, about {minutes:.1f} minutes"
    return (
        {
            "table": str(path),
            "cells": plan.cells,
            "missing": missing,
            "estimate_s": plan.estimate_s,
        },
        f"{path}: {sentence}" if is_named else sentence,
    )


def _filled(path: Path, table: LatencyTable, missing: int, *, serial: str = "") -> _Answer:
    left = f", {missing} still missing (run the same command again)" if missing else ""
    facts = {"table": str(path), "rows": len(table), "missing": missing}
    return (
        {"serial": serial, **facts} if serial else facts,
        f"{path}: {len(table)} rows of {table.header.space} on {table.device.name}{left}",
    )


def _print(answers: Sequence[_Answer], as_json: bool) -> None:
    if as_json:
        facts = [facts for facts, _ in answers]
        print_json(facts if len(facts) > 1 else facts[0])
        return
    for _, sentence in answers:
        if sentence:
            print(sentence)


def _outputs(
    output: Path | None, space: str, backend: str, serials: Sequence[str | None]
) -> list[Path]:
    """The table's file of each device."""
    several = len(serials) > 1
    if output is not None and not several and not output.is_dir():
        return [output]
    if output is not None and (output.is_file() or (output.suffix and not output.is_dir())):
        raise typer.BadParameter(f"--output is a folder for several devices, not a file {output}")
    names = [
        "-".join(re.sub(r"[^\w.]+", "_", part) for part in (space, backend, serial) if part)
        for serial in serials
    ]
    if len(set(names)) < len(names):
        raise typer.BadParameter("two of the devices have one name; give each --serial once")
    return [(output or Path()) / f"{name}.jsonl" for name in names]
