"""`ofa-hw devices`: lists what can be profiled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import JsonOption
from ofa_hw.cli.output import print_json, print_table


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
