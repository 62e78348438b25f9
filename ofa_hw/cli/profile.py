"""`ofa-hw profile` and `ofa-hw devices`."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import (
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SetOption,
    ThreadsOption,
    parse_resolutions,
    parse_settings,
)
from ofa_hw.cli.output import print_json, print_table, progress_bar


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
            help="File to write; by default named after space, backend and serial.",
            metavar="FILE",
        ),
    ] = None,
    serial: Annotated[
        str | None, typer.Option(help="Device, for backends that reach others.", metavar="SERIAL")
    ] = None,
    resolutions: ResolutionsOption = None,
    threads: ThreadsOption = 1,
    dtype: Annotated[str, typer.Option(help="Of weights and activations.")] = "fp32",
    batch: Annotated[int, typer.Option(help="Images at once.", min=1)] = 1,
    settings: SetOption = None,
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

    found = get_space(space)
    sizes = parse_resolutions(resolutions)
    output = output or _default_output(space, backend, serial)
    if dry_run:
        plan = plan_fill(found, None if force else output, resolutions=sizes)
        if as_json:
            print_json(
                {
                    "cells": plan.cells,
                    "missing": len(plan.missing),
                    "estimate_s": plan.estimate_s,
                }
            )
        else:
            print(
                f"{plan.cells} operators, {len(plan.missing)} to measure, "
                f"about {plan.estimate_s / 60:.1f} minutes"
            )
        return
    with progress_bar("measuring") as progress:
        table = run_profile(
            found,
            backend=backend,
            output=output,
            serial=serial,
            threads=threads,
            dtype=dtype,
            batch=batch,
            settings=parse_settings(settings),
            resolutions=sizes,
            max_minutes=max_minutes,
            force=force,
            progress=progress,
        )
    missing = len(plan_fill(found, output, resolutions=sizes).missing)
    if as_json:
        print_json({"table": str(output), "rows": len(table), "missing": missing})
    else:
        left = f", {missing} still missing (run the same command again)" if missing else ""
        print(f"{output}: {len(table)} rows of {found.name} on {table.device.name}{left}")


def _default_output(space: str, backend: str, serial: str | None) -> Path:
    parts = (space, backend, *([serial] if serial else []))
    return Path("-".join(re.sub(r"[^\w.]+", "_", part) for part in parts) + ".jsonl")


@app.command(epilog="Example: ofa-hw devices 192.168.1.20:5555")
def devices(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(help="HOST:PORT of devices that nothing here knows of.", metavar="ADDRESS"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be profiled: this machine's backends, and devices behind ADB."""
    from ofa_hw.profiling import list_devices

    backends = _backends()
    remote = list_devices(addresses or [])
    if as_json:
        print_json({"backends": backends, "devices": [asdict(device) for device in remote]})
        return
    print_table(("backend", "device", "runtime", "state"), [list(b.values()) for b in backends])
    if remote:
        print()
        print_table(
            ("serial", "device", "SoC", "Android", "cores (big)", "state"),
            [
                (
                    d.serial,
                    d.name,
                    d.soc,
                    d.android,
                    f"{d.cores or 'unknown'} ({d.big_cores})",
                    "ready" if d.state == "device" else f"{d.state}: {d.remedy}",
                )
                for d in remote
            ],
        )


def _backends() -> list[dict[str, str]]:
    from ofa_hw.errors import ProfilerError
    from ofa_hw.profiling import ProfilerOptions, backend_names, open_profiler

    rows = []
    for name in backend_names():
        row = {"backend": name, "device": "", "runtime": "", "state": "ready"}
        try:
            profiler = open_profiler(name, ProfilerOptions())
        except ProfilerError as error:
            rows.append({**row, "state": str(error)})
            continue
        device = profiler.device
        profiler.close()
        runtime = f"{device.runtime} {device.runtime_version}"
        rows.append({**row, "device": device.name, "runtime": runtime})
    return rows
