"""`ofa-hw specialize`: the best sub-network for a budget, exported."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.exporting import (
    BatchOption,
    CalibrationImagesOption,
    DtypeOption,
    DynamicBatchOption,
    Exporting,
    ExportOption,
    FallbackOption,
    LabelsOption,
    MeanOption,
    MinAgreementOption,
    StdOption,
    Uint8Option,
    print_file,
    summary,
)
from ofa_hw.cli.limits import (
    ConfidenceOption,
    InterpolateOption,
    LutOption,
    MacsOption,
    ParamsOption,
    PeakBytesOption,
    PredictorOption,
    RestrictOption,
    WeightBytesOption,
    load_tables,
    parse_restrict,
)
from ofa_hw.cli.options import (
    BenchmarkBinaryOption,
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SeedOption,
    SerialOption,
    SetOption,
    SpaceOption,
    device_settings,
    parse_resolutions,
)
from ofa_hw.cli.output import print_json, print_table, progress_bar
from ofa_hw.cli.search import print_candidate
from ofa_hw.cli.training import open_images


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
        typer.Option(
            help="Images on which batch norms are calibrated; their validation images are what "
            "files are compared on.",
            metavar="NAME",
        ),
    ] = None,
    export: ExportOption = None,
    dtype: DtypeOption = "fp32",
    calibration_images: CalibrationImagesOption = None,
    batch: BatchOption = None,
    dynamic_batch: DynamicBatchOption = False,
    uint8_input: Uint8Option = False,
    mean: MeanOption = None,
    std: StdOption = None,
    labels: LabelsOption = None,
    min_agreement: MinAgreementOption = 0.9,
    allow_fallback: FallbackOption = False,
    resolutions: ResolutionsOption = None,
    interpolate: InterpolateOption = False,
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
    serial: SerialOption = None,
    settings: SetOption = None,
    benchmark_binary: BenchmarkBinaryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the most accurate sub-network within a latency budget, and export it.

    `ofa-hw search` takes the same options and needs no weights.
    """
    from ofa_hw.shortlist import open_like
    from ofa_hw.spaces import get_space
    from ofa_hw.specialize import specialize as run_specialize

    files = Exporting(
        paths=export or [],
        dtype=dtype,
        calibration_images=calibration_images,
        batch=batch,
        dynamic_batch=dynamic_batch,
        uint8_input=uint8_input,
        mean=mean,
        std=std,
        labels=labels,
        min_agreement=min_agreement,
        allow_fallback=allow_fallback,
        force=force,
    )
    if files.paths and weights is None:
        raise typer.BadParameter("--export needs the weights: pass --weights CHECKPOINT")
    chosen = device_settings(settings, benchmark_binary, has_serial=serial is not None)
    if measure_top is None and (backend or serial or chosen):
        raise typer.BadParameter(
            "--backend, --serial and --set measure nothing without --measure-top N"
        )
    files.require(has_data=data is not None)
    images = calibration = None
    if data is not None:
        from ofa_hw.training import calibration_batches

        images = open_images(get_space(space), data)
        calibration = partial(calibration_batches, images)
    tables = load_tables(lut, get_space(space), interpolate=interpolate)
    with ExitStack() as opened:
        profiler = progress = None
        if measure_top is not None:
            profiler = open_like(tables, backend or tables[0].device.backend, serial, chosen)
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
    written = files.write(subnet, images) if files.paths else []
    if as_json:
        print_json({**subnet.summary(), "files": [summary(file) for file in written]})
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
    for file in written:
        print_file(file)
