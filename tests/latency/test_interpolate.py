"""Operators between measured input sizes: estimated, marked, and never among the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_hw.errors import MissingOpError, TableError
from ofa_hw.latency import (
    calibrate_table,
    fill_table,
    load_table,
    validate_table,
    validation_report,
)
from ofa_hw.latency.interpolate import interpolate
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import SamplingPlan
from ofa_hw.spaces import get_space

SPACE = get_space("ofa_mbv3_d234_e346_k357_w1.0")
PLAN = SamplingPlan(relative_ci=0.05, min_time_s=0.0, max_time_s=0.05)
OP = OpSpec("conv", 1, 3, 8, kernel_size=3)
OpenFake = Callable[..., object]


def at(resolution: int) -> OpSpec:
    return replace(OP, resolution=resolution)


@given(st.sets(st.integers(1, 300), min_size=2), st.integers(1, 300))
def test_a_latency_linear_in_the_area_is_met_and_nothing_extrapolated(
    sizes: set[int], wanted: int
) -> None:
    rows_ms = {at(size): 0.5 + 0.25 * size**2 for size in sizes}
    found = interpolate(rows_ms, [at(wanted)])
    if min(sizes) < wanted < max(sizes) or (wanted in sizes and wanted > min(sizes)):
        assert found == {at(wanted): pytest.approx(0.5 + 0.25 * wanted**2)}
    else:
        assert found == {}


def test_another_block_lends_nothing() -> None:
    rows_ms = {at(10): 1.0, replace(at(20), stride=2): 2.0}
    assert interpolate(rows_ms, [at(15)]) == {}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, fake_backend: OpenFake) -> Path:
    """A table of two resolutions."""
    path = tmp_path_factory.mktemp("interpolated") / "t.jsonl"
    fill_table(SPACE, fake_backend(), path, plan=PLAN, resolutions=[128, 160])
    return path


def test_interpolation_is_asked_for_marked_and_not_saved(path: Path) -> None:
    ops = SPACE.ops(SPACE.largest(144))
    plain, between = load_table(path), load_table(path, interpolate=True)
    with pytest.raises(MissingOpError):
        plain.latency_ms(ops)
    assert between.rows == plain.rows
    assert set(between.interpolated_ms) == set(SPACE.table_ops(range(128, 161, 4))) - set(
        plain.rows
    )
    smaller, larger = (plain.latency_ms(SPACE.ops(SPACE.largest(r))) for r in (128, 160))
    assert smaller < between.latency_ms(ops) < larger
    with pytest.raises(MissingOpError):
        between.latency_ms(SPACE.ops(SPACE.largest(224)))


def test_a_table_of_no_space_wants_the_operators(tmp_path: Path, fake_backend: OpenFake) -> None:
    table = fill_table([at(8), at(16)], fake_backend(), tmp_path / "t.jsonl", plan=PLAN)
    with pytest.raises(TableError, match="which space"):
        table.interpolated()
    assert set(table.interpolated([at(12), at(20)]).interpolated_ms) == {at(12)}


def test_the_error_of_interpolation_is_known_from_networks(
    path: Path, fake_backend: OpenFake
) -> None:
    validate_table(path, SPACE, fake_backend(seed=1), networks=12, plan=PLAN)
    calibrated = calibrate_table(path)
    ops = SPACE.ops(SPACE.largest(144))
    with pytest.raises(TableError, match="from 0 validated networks"):
        calibrated.interpolated().latency_interval_ms(ops)
    report = validate_table(
        path, SPACE, fake_backend(seed=2), networks=10, interpolate=True, plan=PLAN
    )
    resolutions = {n.spec.resolution for n in load_table(path).validation[12:]}
    assert resolutions <= {132, 136, 140, 144, 148, 152, 156}
    assert report.interpolated is not None
    assert report.interpolated.networks == 10
    assert report.interpolated.mape < 0.03
    assert report.calibrated == validation_report(calibrated, SPACE).calibrated
    table = load_table(path, interpolate=True)
    low, high = table.latency_interval_ms(ops)
    assert low < table.latency_ms(ops) < high
    assert calibrate_table(path).calibration == calibrated.calibration
