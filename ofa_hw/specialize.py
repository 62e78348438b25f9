"""The facade: from a supernet, a table and a predictor to a sub-network that ships."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ofa_hw.errors import SpecError, TableError
from ofa_hw.search import ROUNDS, Constraint
from ofa_hw.search import search as run_search
from ofa_hw.spaces import SearchSpace, SubnetSpec, get_space
from ofa_hw.subnet import Subnet

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ofa_hw.graph.ir import Array
    from ofa_hw.latency import LatencyTable
    from ofa_hw.predictor import AccuracyPredictor
    from ofa_hw.profiling import Profiler, SamplingPlan
    from ofa_hw.shortlist import MeasuredCandidate

    CalibrationImages: TypeAlias = Callable[[int], Iterable[torch.Tensor]]
    Table: TypeAlias = LatencyTable | str | Path

_KEPT: Final = 64  # images of the calibration, which files are compared on


def specialize(
    space: str | SearchSpace,
    *,
    predictor: AccuracyPredictor | str | Path,
    lut: Table | Sequence[Table],
    latency_ms: float | Sequence[float],
    weights: str | Path | Mapping[str, torch.Tensor] | None = None,
    calibration: CalibrationImages | None = None,
    resolutions: Sequence[int] | None = None,
    restrict: Mapping[str, Sequence[int | float]] | None = None,
    macs: float | None = None,
    params: float | None = None,
    weight_bytes: float | None = None,
    peak_bytes: float | None = None,
    constraints: Iterable[Constraint] = (),
    confidence: float | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
    measure_top: int | None = None,
    profiler: Profiler | str | None = None,
    plan: SamplingPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Subnet:
    """Finds the most accurate sub-network within a latency budget, and takes it from the supernet.

    Args:
        space: A search space or its name.
        predictor: An accuracy predictor, or the file of one.
        lut: A latency table, its file, or the name of a bundled one; several for one network on
            several devices.
        latency_ms: The budget, in milliseconds; one a table.
        weights: The supernet's checkpoint; without, the sub-network cannot be exported.
        calibration: Gives batches of training images (N, C, H, W) at a resolution, on which the
            sub-network's batch norms are calibrated, and of which 64 are kept to compare exported
            files on; without, batch norms keep the supernet's statistics, which costs accuracy.
        resolutions: Input resolutions to choose from; by default those the tables cover.
        restrict: Allowed values of fields or single genes, e.g. `{"kernel_sizes": (3, 5)}`.
        macs: Limit of the multiply-accumulates of one image.
        params: Limit of the parameters.
        weight_bytes: Limit of the float32 weights.
        peak_bytes: Limit of the activations alive at once, batch 1 in float32.
        constraints: Limits of other costs.
        confidence: Applies the budgets to the upper end of the tables' prediction intervals.
        rounds: How long to search.
        seed: Of the search; the same seed gives the same sub-network.
        measure_top: Measures this many of the best networks found on the device, and ships the most
            accurate whose measured latency meets the budget.
        profiler: What measures them: a profiler, or the name of a backend, which is opened with the
            table's settings; by default the backend that filled the first table.
        plan: How well to measure.
        progress: Called with networks measured and networks in all.

    Raises:
        SpecError: If the space, a resolution, the table's or the predictor's space is wrong.
        InfeasibleError: If no sub-network is as fast, by the table or when measured; it names what
            is nearest.
        TableError: If a table cannot be read or lacks rows.
        CheckpointError: If the weights or the predictor's file are damaged or of another network.
        ProfilerError: If the device cannot measure.
    """
    from ofa_hw.latency import load_table
    from ofa_hw.predictor import load_predictor

    if profiler is not None and measure_top is None:
        raise SpecError("a profiler measures nothing unless measure_top says how many networks")
    space = get_space(space) if isinstance(space, str) else space
    sources = lut if isinstance(lut, Sequence) and not isinstance(lut, str) else [lut]
    tables = [load_table(each) if isinstance(each, str | Path) else each for each in sources]
    if isinstance(predictor, str | Path):
        predictor = load_predictor(predictor, space=space)
    result = run_search(
        space,
        predictor=predictor,
        lut=tables,
        latency_ms=latency_ms,
        resolutions=resolutions,
        restrict=restrict,
        macs=macs,
        params=params,
        weight_bytes=weight_bytes,
        peak_bytes=peak_bytes,
        constraints=constraints,
        confidence=confidence,
        rounds=rounds,
        seed=seed,
    )
    best = result.best
    measured_ms: float | None = None
    measured: tuple[MeasuredCandidate, ...] = ()
    if measure_top is not None:
        from ofa_hw.shortlist import measure_best

        chosen, measured = measure_best(
            space,
            result.front,
            count=measure_top,
            tables=tables,
            budgets_ms=latency_ms if isinstance(latency_ms, Sequence) else [latency_ms],
            profiler=profiler,
            plan=plan,
            progress=progress,
        )
        best, measured_ms = chosen.candidate, chosen.measured_ms
    module, images = None, None
    if weights is not None:
        module, images = _extract(space, best.spec, weights, calibration)
    names = ", ".join(table.name for table in tables)
    return Subnet(
        space,
        best.spec,
        min(best.top1, 1.0),
        best.latency_ms,
        names,
        result,
        module,
        measured_ms,
        measured,
        tables[0].device,
        _interval_ms(tables[0], space, best.spec),
        images,
    )


def _interval_ms(
    table: LatencyTable, space: SearchSpace, spec: SubnetSpec
) -> tuple[float, float] | None:
    try:
        return table.latency_interval_ms(space.ops(spec), 0.9)
    except TableError:  # it was validated on too few networks, or none
        return None


def _extract(
    space: SearchSpace,
    spec: SubnetSpec,
    weights: str | Path | Mapping[str, torch.Tensor],
    calibration: CalibrationImages | None,
) -> tuple[nn.Module, Array | None]:
    """The network with its weights, and some of the images that it was calibrated on."""
    from ofa_hw.supernet import calibrate_batch_norm, load_supernet

    module = load_supernet(space, weights=weights).extract(spec)
    kept: list[Array] = []

    def seen(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for batch in batches:
            kept.append(_some(batch.numpy(force=True)))
            yield batch

    if calibration is not None:
        calibrate_batch_norm(module, seen(calibration(spec.resolution)))
    return module.eval(), _some(np.concatenate(kept)) if kept else None


def _some(images: Array) -> Array:
    """At most `_KEPT` of them, evenly spread."""
    places = np.linspace(0, len(images) - 1, min(_KEPT, len(images)))
    chosen: Array = images[places.astype(int)]
    return chosen
