"""`ofa-hw search`: the best sub-network for a budget, or the front over all budgets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.limits import (
    ConfidenceOption,
    InterpolateOption,
    LutOption,
    MacsOption,
    ParamsOption,
    PeakBytesOption,
    PredictorOption,
    RestrictOption,
    SpecializeCommand,
    WeightBytesOption,
    load_tables,
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
from ofa_hw.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ofa_hw.latency import LatencyTable
    from ofa_hw.search import Candidate


@app.command(
    epilog="Example: ofa-hw search --space tiny --lut tiny.jsonl --predictor "
    "runs/tiny/predictor.npz --pareto --page front.html"
)
def search(
    space: SpaceOption,
    lut: LutOption,
    predictor: PredictorOption,
    latency_ms: Annotated[
        list[float] | None,
        typer.Option(help="The budget, in milliseconds; one a table.", metavar="MS"),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Find the front over all budgets instead.")
    ] = False,
    budgets: Annotated[
        int, typer.Option(help="How many budgets the front is searched at.", min=2)
    ] = 50,
    page: Annotated[
        Path | None,
        typer.Option(help="Plot the front on a page of its own to pick from.", metavar="FILE"),
    ] = None,
    resolutions: ResolutionsOption = None,
    interpolate: InterpolateOption = False,
    restrict: RestrictOption = None,
    macs: MacsOption = None,
    params: ParamsOption = None,
    weight_bytes: WeightBytesOption = None,
    peak_bytes: PeakBytesOption = None,
    confidence: ConfidenceOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the most accurate sub-network within a latency budget, or the front over all budgets.

    Needs no weights. `ofa-hw specialize` takes the same options and ships the sub-network.
    """
    from ofa_hw.errors import OutputExistsError
    from ofa_hw.predictor import load_predictor
    from ofa_hw.search import pareto as run_pareto
    from ofa_hw.search import search as run_search
    from ofa_hw.search.page import write_page
    from ofa_hw.spaces import get_space

    if pareto == bool(latency_ms):
        raise typer.BadParameter("give --latency-ms for one network, or --pareto for the front")
    if pareto and confidence is not None:
        raise typer.BadParameter("--confidence widens a budget, and --pareto has none; drop one")
    if page is not None and page.exists() and not force:
        raise OutputExistsError(page)
    found = get_space(space)
    tables = load_tables(lut, found, interpolate=interpolate)
    known = load_predictor(predictor, space=found)
    sizes, fields = parse_resolutions(resolutions), parse_restrict(restrict)
    points: Sequence[Candidate]
    facts = {"space": space, "tables": ", ".join(table.name for table in tables)}
    if latency_ms:
        result = run_search(
            found,
            predictor=known,
            lut=tables,
            latency_ms=latency_ms,
            resolutions=sizes,
            restrict=fields,
            macs=macs,
            params=params,
            weight_bytes=weight_bytes,
            peak_bytes=peak_bytes,
            confidence=confidence,
            seed=seed,
        )
        points, best = result.front, result.best
        answer = {**_summary(best), "evaluations": result.evaluations, "distinct": result.distinct}
    else:
        front = run_pareto(
            found,
            predictor=known,
            lut=tables,
            budgets=budgets,
            resolutions=sizes,
            restrict=fields,
            macs=macs,
            params=params,
            weight_bytes=weight_bytes,
            peak_bytes=peak_bytes,
            seed=seed,
        )
        points, best = front.points, None
        answer = {
            "objectives": ["top1", *front.objectives],
            "hypervolume": front.hypervolume,
            "distinct": front.distinct,
            "points": [_summary(point) for point in points],
        }
        facts["hypervolume"] = f"{front.hypervolume:.4f}"
    if page is not None:
        command = SpecializeCommand(
            {
                "space": space,
                "lut": lut,
                "predictor": predictor,
                "resolutions": resolutions,
                "interpolate": interpolate,
                "restrict": restrict or [],
                "macs": macs,
                "params": params,
                "weight-bytes": weight_bytes,
                "peak-bytes": peak_bytes,
                "confidence": confidence,
                "seed": seed,
            }
        )
        names = [f"latency_ms_{i}" if i > 1 else "latency_ms" for i in range(1, len(tables) + 1)]
        prefix = "upper_" if confidence is not None else ""
        write_page(
            page,
            points,
            space=found,
            lut=tables[0],
            title=f"{space} on {_device(tables[0])}: top-1 against latency",
            command=lambda point: command.line([_up(point.costs[prefix + n]) for n in names]),
            facts=facts,
        )
    if as_json:
        print_json({**answer, "page": None if page is None else str(page)})
    elif best is not None:
        print_candidate(best)
    else:
        print_table(
            ("top-1", *_units(points[0].costs), "resolution", "depths"),
            [
                (
                    f"{point.top1:.2%}",
                    *_values(point.costs),
                    point.spec.resolution,
                    " ".join(map(str, point.spec.depths)),
                )
                for point in points
            ],
        )
    if page is not None and not as_json:
        print(f"{page}: {len(points)} points to pick from")


def print_candidate(candidate: Candidate) -> None:
    """Prints a network and its costs, one to a line."""
    spec = candidate.spec
    lines = [("predicted top-1", f"{candidate.top1:.2%}")]
    for cost, text in zip(candidate.costs, _values(candidate.costs), strict=True):
        unit = " ms" if "_ms" in cost else ""
        lines.append((f"{cost.replace('_ms', '').replace('_', ' ')}", text + unit))
    lines.append(("resolution", str(spec.resolution)))
    for name in ("depths", "kernel_sizes", "expand_ratios", "width_indices"):
        if values := getattr(spec, name):
            lines.append((name.replace("_", " "), " ".join(f"{v:g}" if v else "-" for v in values)))
    for name, value in lines:
        print(f"{name:<18} {value}")


def _summary(point: Candidate) -> dict[str, Any]:
    return {
        "spec": json.loads(point.spec.to_json()),
        "predicted_top1": point.top1,
        "predicted_latency_ms": point.latency_ms,
        "costs": dict(point.costs),
    }


def _units(costs: Mapping[str, float]) -> list[str]:
    return [name.replace("_", " ") for name in costs]


def _values(costs: Mapping[str, float]) -> list[str]:
    return [f"{v:.3f}" if "_ms" in name else f"{v:,.0f}" for name, v in costs.items()]


def _device(table: LatencyTable) -> str:
    return table.name if table.device.name == "unknown" else table.device.name


def _up(value: float) -> float:
    """Rounded up to six digits, so that the network still fits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 5)
    return float(f"{math.ceil(value / unit) * unit:.6g}")
