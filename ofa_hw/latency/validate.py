"""Measures whole sub-networks on a table's device, and says how far the table is off on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import TableError
from ofa_hw.latency.format import network_line
from ofa_hw.latency.journal import Journal, read_table
from ofa_hw.latency.networks import measure_twice
from ofa_hw.latency.table import Header, LatencyTable
from ofa_hw.latency.validation import (
    ErrorFigures,
    ValidatedNetwork,
    error_figures,
    measured_ms,
    noise_floor,
)
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import Profiler, SamplingPlan
from ofa_hw.spaces import SearchSpace, SubnetSpec

_DRAWS_PER_NETWORK = 100
_PLAN = SamplingPlan(min_time_s=0.5, max_time_s=1.0)  # there are few


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """How good a table is on whole networks.

    Attributes:
        table: Name of the table.
        raw: Errors of the plain sum.
        calibrated: Errors of the calibrated sum on networks it was not fitted to; None of a table
            that is not calibrated.
        noise_floor: Errors of a second measurement of the same networks as an estimate of the
            first.
        interpolated: Errors on networks at resolutions that were interpolated, which the
            calibration was not fitted to; None where none was validated.
    """

    table: str
    raw: ErrorFigures
    calibrated: ErrorFigures | None
    noise_floor: ErrorFigures
    interpolated: ErrorFigures | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def validate_table(
    path: Path | str,
    space: SearchSpace,
    profiler: Profiler,
    *,
    networks: int = 30,
    seed: int = 0,
    resolutions: Iterable[int] | None = None,
    interpolate: bool = False,
    plan: SamplingPlan | None = None,
    loads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Measures random sub-networks twice, appends them to the table's file and reports.

    Some of the table's own operators are measured between the networks; their rows say how the
    level has changed since the table was filled.

    Args:
        path: The table's file.
        space: Whose sub-networks to draw.
        profiler: Must be of the table's device and settings.
        networks: How many to draw.
        seed: Of the draw.
        resolutions: Those to draw from; by default all that the table is complete for.
        interpolate: Whether to draw from the resolutions that the table can only interpolate, by
            default from all of these.
        plan: How well to measure; by default longer for each than operators are, as there are few.
        loads: How often each network is loaded for each of its two measurements; 4 by default, and
            1 behind a cable. More lower the noise floor, and take as much longer.
        progress: Called with measurements made and measurements in all.

    Raises:
        TableError: If the profiler measures otherwise than the table was measured, the table lacks
            operators, or the file cannot be written.
    """
    path = Path(path)
    table = read_table(path)
    if differences := table.header.differences(Header(profiler.device, table.header.space)):
        raise TableError(f"{path} was measured otherwise: {'; '.join(differences)}")
    drawn_from = table.interpolated(space.table_ops()) if interpolate else table
    specs = _draw(space, drawn_from, networks, seed, resolutions)
    journal, table = Journal.open(path, table.header)
    with journal:
        for network in measure_twice(
            specs, space, table, profiler, plan or _PLAN, loads=loads, progress=progress
        ):
            journal.append(network_line(network))
    return validation_report(read_table(path), space)


def validation_report(table: LatencyTable, space: SearchSpace) -> ValidationReport:
    """The report on the validated networks that a table holds.

    Raises:
        TableError: If it holds none.
    """
    networks = table.validated()
    if not networks:
        raise TableError(
            f"table {table.name!r} has no validated networks; run: ofa-hw lut validate {table.name}"
        )

    def estimates_ms(by: LatencyTable, networks: Sequence[ValidatedNetwork]) -> list[float]:
        return [by.latency_ms(space.ops(network.spec)) for network in networks]

    level_ms = table.sentinel_ms
    first, _ = measured_ms(networks, level_ms)
    raw = error_figures(estimates_ms(replace(table, calibration=None), networks), first)
    unseen = unseen_estimates_ms(table, space)
    calibrated = None if unseen is None else error_figures(unseen, first)
    interpolated = None
    between = table.interpolated(space.table_ops())
    if others := between.validated(interpolated=True):
        interpolated = error_figures(
            estimates_ms(between, others), measured_ms(others, level_ms)[0]
        )
    return ValidationReport(
        table.name, raw, calibrated, noise_floor(networks, level_ms), interpolated
    )


def unseen_estimates_ms(table: LatencyTable, space: SearchSpace) -> npt.NDArray[np.float64] | None:
    """The calibrated estimate of each of `table.validated()`, by a fit that had not seen it, (n,).

    None of a table that is not calibrated.
    """
    calibration = table.calibration
    if calibration is None:
        return None
    residuals = dict(zip(calibration.networks, calibration.residuals, strict=True))
    networks = table.validated()
    first, _ = measured_ms(networks, table.sentinel_ms)
    estimates = [
        first_ms / (1 + residuals[place])
        if place in residuals
        else table.latency_ms(space.ops(network.spec))
        for place, network, first_ms in zip(table.validated_places(), networks, first, strict=True)
    ]
    return np.array(estimates)


def _draw(
    space: SearchSpace,
    table: LatencyTable,
    count: int,
    seed: int,
    resolutions: Iterable[int] | None,
) -> list[SubnetSpec]:
    """Distinct random sub-networks that the table can estimate and does not hold yet."""
    wanted = (
        tuple(resolutions)
        if resolutions is not None
        else tuple(r for r in space.resolutions if _to_draw_from(table, space.table_ops([r])))
    )
    if not wanted:
        table.require(space.table_ops(space.resolutions[-1:]))
    table.require(space.table_ops(wanted))
    rng = np.random.default_rng(seed)
    known = {network.spec for network in table.validation}
    specs: dict[SubnetSpec, None] = {}
    for _ in range(_DRAWS_PER_NETWORK * count):
        if len(specs) == count:
            break
        spec = space.sample(rng=rng, resolution=int(rng.choice(wanted)))
        if spec not in known:
            specs[spec] = None
    return list(specs)


def _to_draw_from(table: LatencyTable, ops: Iterable[OpSpec]) -> bool:
    """Whether a resolution of these operators is covered; if interpolated, only thanks to that."""
    measured = all(op in table.rows for op in ops)
    return not measured and all(op in table for op in ops) if table.interpolated_ms else measured
