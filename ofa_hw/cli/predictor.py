"""`ofa-hw predictor`: fits accuracy predictors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import ForceOption, JsonOption, SeedOption
from ofa_hw.cli.output import print_json, print_table
from ofa_hw.cli.training import FileOption
from ofa_hw.errors import CheckpointError, OutputExistsError

predictor = typer.Typer(
    help="Fit an accuracy predictor to labels.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(predictor, name="predictor")


@predictor.command(epilog="Example: ofa-hw predictor fit labels.jsonl --output predictor.npz")
def fit(
    labels: Annotated[
        Path, typer.Argument(help="What ofa-hw label wrote.", metavar="LABELS", show_default=False)
    ],
    output: FileOption,
    model: Annotated[
        str, typer.Option(help="mlp, or ridge, forest, boosting or gaussian of scikit-learn.")
    ] = "mlp",
    hidden: Annotated[
        int, typer.Option(help="Width of the three hidden layers of an mlp.", min=1)
    ] = 400,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a predictor, report its error on unseen sub-networks and what more labels would bring."""
    if output.exists() and not force:
        raise OutputExistsError(output)
    from ofa_hw.training.fit_labels import fit_labels
    from ofa_hw.training.labels import read_labels

    space, found, header = read_labels(labels)
    fitted = fit_labels(
        space,
        found,
        seed=seed,
        model=model,
        hidden=(hidden,) * 3,
        validation_images=header.get("validation_images"),
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        fitted.predictor.save(output)
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {error.strerror}") from error
    report = fitted.predictor.report
    assert report is not None
    if as_json:
        print_json(
            {
                "file": str(output),
                "report": asdict(report),
                "curve": [asdict(point) for point in fitted.curve],
                "label_noise": fitted.noise,
                "more_helps": fitted.more_helps,
                "advice": fitted.advice,
            }
        )
        return
    print(
        f"on {report.held_out} sub-networks it has not seen: RMSE {report.rmse:.2%}, "
        f"MAE {report.mae:.2%}, Spearman {report.spearman:.3f}, Kendall {report.kendall:.3f}"
    )
    print_table(("labels", "RMSE"), [(p.labels, f"{p.rmse:.2%}") for p in fitted.curve])
    print(fitted.advice)
