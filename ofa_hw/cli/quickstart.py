"""`ofa-hw quickstart`: the main job from end to end on built-in data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import ForceOption, JsonOption, SeedOption
from ofa_hw.cli.output import print_json, print_table, stage_bars


@app.command(epilog="Example: ofa-hw quickstart --output runs/first")
def quickstart(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder; a new one in runs/ by default.", metavar="DIR"
        ),
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train, profile, search and ship on this machine, in about two minutes.

    Trains a small elastic network on scikit-learn's digits, fills a latency table on ONNX Runtime,
    TFLite and PyTorch, and ships the best sub-network for a budget on each.
    """
    from ofa_hw.quickstart import run_quickstart

    with stage_bars() as progress:
        result = run_quickstart(output, seed=seed, force=force, progress=progress)
    if as_json:
        print_json(result.summary())
        return
    columns = (
        "backend",
        "budget\nms",
        "predicted\nms",
        "measured\nms",
        "off by",
        "predicted\ntop-1",
        "measured\ntop-1",
        "file",
    )
    rows = [
        (
            row.backend,
            f"{row.budget_ms:.3f}",
            f"{row.predicted_ms:.3f}",
            f"{row.measured_ms:.3f}",
            f"{row.miss:+.1%}",
            f"{row.predicted_top1:.1%}",
            f"{row.measured_top1:.1%}",
            row.file.name,
        )
        for row in result.rows
    ]
    print_table(columns, rows)
    print(f"everything is in {result.folder}")
