"""`ofa-hw specialize`: the best sub-network for a budget, exported."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import (
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SeedOption,
    SpaceOption,
    parse_resolutions,
)
from ofa_hw.cli.output import print_json


@app.command(
    epilog="Example: ofa-hw specialize --space tiny --lut tiny.jsonl --predictor "
    "runs/tiny/predictor.npz --latency-ms 0.2 --weights runs/tiny/supernet.pth --export net.onnx"
)
def specialize(
    space: SpaceOption,
    lut: Annotated[
        str, typer.Option(help="A table's file, a folder, or a bundled name.", metavar="TABLE")
    ],
    predictor: Annotated[Path, typer.Option(help="An accuracy predictor's file.", metavar="FILE")],
    latency_ms: Annotated[float, typer.Option(help="The budget, in milliseconds.", metavar="MS")],
    weights: Annotated[
        Path | None, typer.Option(help="The supernet's checkpoint.", metavar="FILE")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images on which batch norms are calibrated.", metavar="NAME"),
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option(help="File to write, .onnx or .tflite; repeat for more.", metavar="FILE"),
    ] = None,
    resolutions: ResolutionsOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the most accurate sub-network within a latency budget, and export it."""
    from ofa_hw.export import check_output
    from ofa_hw.specialize import specialize as run_specialize

    paths = export or []
    if paths and weights is None:
        raise typer.BadParameter("--export needs the weights: pass --weights CHECKPOINT")
    for path in paths:
        check_output(path, force=force)
    calibration = None
    if data is not None:
        from ofa_hw.training import calibration_batches, get_data

        calibration = partial(calibration_batches, get_data(data))
    subnet = run_specialize(
        space,
        predictor=predictor,
        lut=lut,
        latency_ms=latency_ms,
        weights=weights,
        calibration=calibration,
        resolutions=parse_resolutions(resolutions),
        seed=seed,
    )
    files = [subnet.export(path, force=force) for path in paths]
    if as_json:
        written = [
            {"path": str(f.path), "bytes": f.size_bytes, "max_relative_error": f.max_relative_error}
            for f in files
        ]
        print_json({**subnet.summary(), "files": written})
        return
    spec = subnet.spec
    print(f"predicted top-1    {subnet.top1:.2%}")
    print(f"predicted latency  {subnet.latency_ms:.3f} ms (budget {latency_ms:g} ms)")
    print(f"MACs, parameters   {subnet.space.macs(spec):,}, {subnet.space.params(spec):,}")
    print(f"resolution         {spec.resolution}")
    print(f"depths             {_row(spec.depths)}")
    print(f"kernel sizes       {_row(spec.kernel_sizes)}")
    print(f"expand ratios      {_row(spec.expand_ratios)}")
    if spec.width_indices:
        print(f"width indices      {_row(spec.width_indices)}")
    for file in files:
        size = file.size_bytes / 1e6
        print(
            f"{file.path}: {size:.2f} MB, within {file.max_relative_error:.0e} of torch's outputs"
        )


def _row(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" if value else "-" for value in values)
