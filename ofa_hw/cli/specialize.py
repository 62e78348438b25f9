"""`ofa-hw specialize`: the best sub-network for a budget, exported."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.limits import (
    ConfidenceOption,
    LutOption,
    MacsOption,
    ParamsOption,
    PeakBytesOption,
    PredictorOption,
    RestrictOption,
    WeightBytesOption,
    parse_restrict,
)
from ofa_hw.cli.options import (
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SeedOption,
    SpaceOption,
    parse_resolutions,
)
from ofa_hw.cli.output import print_json, print_table, progress_bar
from ofa_hw.cli.search import print_candidate


@app.command(
    epilog="Example: ofa-hw specialize --space tiny --lut tiny.jsonl --predictor "
    "runs/tiny/predictor.npz --latency-ms 0.2 --weights runs/tiny/supernet.pth --export net.onnx"
)
def specialize(
    space: SpaceOption,
    lut: LutOption,
    predictor: PredictorOption,
    latency_ms: Annotated[
        list[float], typer.Option(help="The budget, in milliseconds; one a table.", metavar="MS")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="The supernet's checkpoint.", metavar="FILE")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images on which batch norms are calibrated.", metavar="NAME"),
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option(
            help="File to write, .onnx, .tflite or .pt2; repeat for more.", metavar="FILE"
        ),
    ] = None,
    resolutions: ResolutionsOption = None,
    restrict: RestrictOption = None,
    macs: MacsOption = None,
    params: ParamsOption = None,
    weight_bytes: WeightBytesOption = None,
    peak_bytes: PeakBytesOption = None,
    confidence: ConfidenceOption = None,
    measure_top: Annotated[
        int | None,
        typer.Option(
            help="Measure this many of the best networks on the device, and ship the best that "
            "meets the budget there.",
            min=1,
            metavar="N",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="What measures them; by default the backend that filled the first table.",
            metavar="NAME",
        ),
    ] = None,
    serial: Annotated[
        str | None, typer.Option(help="Device, for backends that reach others.", metavar="SERIAL")
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the most accurate sub-network within a latency budget, and export it.

    `ofa-hw search` takes the same options and needs no weights.
    """
    from ofa_hw.export import check_output
    from ofa_hw.latency import load_table
    from ofa_hw.shortlist import open_like
    from ofa_hw.specialize import specialize as run_specialize

    paths = export or []
    if paths and weights is None:
        raise typer.BadParameter("--export needs the weights: pass --weights CHECKPOINT")
    if measure_top is None and (backend or serial):
        raise typer.BadParameter("--backend and --serial measure nothing without --measure-top N")
    for path in paths:
        check_output(path, force=force)
    calibration = None
    if data is not None:
        from ofa_hw.training import calibration_batches, get_data

        calibration = partial(calibration_batches, get_data(data))
    tables = [load_table(source) for source in lut]
    with ExitStack() as opened:
        profiler = progress = None
        if measure_top is not None:
            profiler = open_like(tables, backend or tables[0].device.backend, serial)
            opened.callback(profiler.close)
            progress = opened.enter_context(progress_bar("measuring networks"))
        subnet = run_specialize(
            space,
            predictor=predictor,
            lut=tables,
            latency_ms=latency_ms,
            weights=weights,
            calibration=calibration,
            resolutions=parse_resolutions(resolutions),
            restrict=parse_restrict(restrict),
            macs=macs,
            params=params,
            weight_bytes=weight_bytes,
            peak_bytes=peak_bytes,
            confidence=confidence,
            seed=seed,
            measure_top=measure_top,
            profiler=profiler,
            progress=progress,
        )
    files = [subnet.export(path, force=force) for path in paths]
    if as_json:
        written = [
            {"path": str(f.path), "bytes": f.size_bytes, "max_relative_error": f.max_relative_error}
            for f in files
        ]
        print_json({**subnet.summary(), "files": written})
        return
    print_candidate(subnet.candidate)
    if subnet.measured:
        print(f"{'measured latency':<18} {subnet.measured_ms:.3f} ms")
        print_table(
            ("candidate", "predicted top-1", "predicted ms", "measured ms", "off by"),
            [
                (
                    "shipped" if c.candidate == subnet.candidate else "",
                    f"{c.candidate.top1:.2%}",
                    f"{c.predicted_ms:.3f}",
                    f"{c.measured_ms:.3f}",
                    f"{c.measured_ms / c.predicted_ms - 1:+.1%}",
                )
                for c in subnet.measured
            ],
        )
    for file in files:
        size = file.size_bytes / 1e6
        print(
            f"{file.path}: {size:.2f} MB, within {file.max_relative_error:.0e} of torch's outputs"
        )
