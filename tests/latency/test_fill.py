"""Filling, resuming, validating and calibrating a table, on a profiler whose figures are known."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_hw.errors import MissingOpError, OutputExistsError, SpecError, TableError
from ofa_hw.latency import (
    calibrate_table,
    fill_table,
    load_table,
    plan_fill,
    validate_table,
    validation_report,
)
from ofa_hw.latency.order import most_useful_first
from ofa_hw.profiling import SamplingPlan
from ofa_hw.spaces import get_space

TINY = get_space("tiny")
SMALL, LARGE = TINY.resolutions[0], TINY.resolutions[-1]
PLAN = SamplingPlan(relative_ci=0.02, min_time_s=0.002, max_time_s=0.05)
OpenFake = Callable[..., object]


def test_every_operator_has_one_row(tmp_path: Path, fake_backend: OpenFake) -> None:
    table = fill_table(TINY, fake_backend(), tmp_path / "t.jsonl", plan=PLAN)
    assert set(table.rows) == set(TINY.table_ops())
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    kinds = [line["line"] for line in lines]
    assert kinds[0] == "header"
    assert kinds.count("row") == len(TINY.table_ops())
    assert kinds.count("overhead") == 1


def test_a_row_carries_its_statistics(tmp_path: Path, fake_backend: OpenFake) -> None:
    table = fill_table(TINY, fake_backend(), tmp_path / "t.jsonl", plan=PLAN)
    for row in table.rows.values():
        assert row.stable
        assert row.rounds >= row.n >= 6
        assert 0 < row.min_ms <= row.p25_ms <= row.median_ms <= row.p75_ms <= row.p90_ms
        assert row.ci_low_ms <= row.median_ms <= row.ci_high_ms


def test_a_file_reads_back_as_the_table_that_was_filled(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    table = fill_table(TINY, fake_backend(), tmp_path / "t.jsonl", plan=PLAN)
    assert load_table(tmp_path / "t.jsonl") == table


def test_rows_that_are_there_are_not_measured_again(
    tmp_path: Path, fake_backend: OpenFake, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[LARGE])
    before = path.read_text()
    profiler = fake_backend()
    fill_table(TINY, profiler, path, plan=PLAN)
    assert path.read_text().startswith(before)
    new = len(TINY.table_ops()) - len(TINY.table_ops([LARGE]))
    assert profiler.loaded == new + 2  # and the sentinels
    again = fake_backend()
    with caplog.at_level(logging.INFO):
        fill_table(TINY, again, path, plan=PLAN)
    assert again.loaded == 0
    assert "is complete" in caplog.text


def test_an_unknown_resolution_leaves_no_file(tmp_path: Path, fake_backend: OpenFake) -> None:
    with pytest.raises(SpecError, match="20"):
        fill_table(TINY, fake_backend(), tmp_path / "t.jsonl", resolutions=[20])
    assert not (tmp_path / "t.jsonl").exists()


def test_an_existing_file_needs_resume_or_force(tmp_path: Path, fake_backend: OpenFake) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        fill_table(TINY, fake_backend(), path, resume=False)
    assert path.read_bytes() == before
    profiler = fake_backend()
    fill_table(TINY, profiler, path, plan=PLAN, resolutions=[SMALL], force=True)
    assert profiler.loaded > 2


def test_a_changed_header_is_refused_naming_both_values(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
    before = path.read_bytes()
    profiler = fake_backend()
    profiler.device = replace(profiler.device, threads=4, settings={"xnnpack": "off"})
    with pytest.raises(
        TableError,
        match=r"setting xnnpack is None there and 'off' now.*"
        r"threads is 1 there and 4 now",
    ):
        fill_table(TINY, profiler, path, plan=PLAN)
    with pytest.raises(TableError, match="space is 'tiny' there"):
        fill_table(get_space("ofa_resnet50"), fake_backend(), path, plan=PLAN)
    assert path.read_bytes() == before


def test_load_and_date_do_not_count_as_a_changed_header(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
    profiler = fake_backend()
    profiler.device = replace(profiler.device, details={"load_at_start": "9.9"})
    fill_table(TINY, profiler, path, plan=PLAN, resolutions=[SMALL])


def test_a_plan_says_what_is_missing(tmp_path: Path, fake_backend: OpenFake) -> None:
    path = tmp_path / "t.jsonl"
    everything = plan_fill(TINY, path)
    assert everything.cells == len(everything.missing) == len(TINY.table_ops())
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
    rest = plan_fill(TINY, path)
    assert len(rest.missing) == len(TINY.table_ops()) - len(TINY.table_ops([SMALL]))
    assert 0 < rest.estimate_s < everything.estimate_s


def test_out_of_time_says_what_is_missing(
    tmp_path: Path, fake_backend: OpenFake, caplog: pytest.LogCaptureFixture
) -> None:
    table = fill_table(TINY, fake_backend(), tmp_path / "t.jsonl", plan=PLAN, max_minutes=0)
    assert 0 <= len(table) < len(TINY.table_ops())
    assert "lacks" in caplog.text
    with pytest.raises(MissingOpError, match="ofa-hw profile --space tiny --backend fake --output"):
        table.latency_ms(TINY.ops(TINY.largest()))


def test_out_of_time_within_a_group_keeps_what_was_measured(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    """All of `tiny` at one resolution is one group, none of it final by the time."""
    profiler = fake_backend(noise=0.05)
    patient = SamplingPlan(relative_ci=1e-6, max_time_s=1.0, total_time_s=3.0)
    table = fill_table(TINY, profiler, tmp_path / "t.jsonl", plan=patient, resolutions=[LARGE])
    assert profiler.machine.clock.now_ns < 3.1e9
    assert len(table) > 10
    assert not any(row.stable for row in table.rows.values())


def test_most_useful_operators_complete_one_resolution_after_another() -> None:
    space = get_space("ofa_mbv3_d234_e346_k357_w1.0")
    ops = most_useful_first(space, [128, 160, 224])
    assert set(ops) == set(space.table_ops([128, 160, 224]))
    first = len(space.table_ops([224]))
    assert set(ops[:first]) == set(space.table_ops([224]))
    assert set(space.table_ops([128])) <= set(ops[: first + len(space.table_ops([128]))])
    assert ops[0] in space.ops(space.smallest(224))


def test_operators_of_ones_own_fill_a_table(tmp_path: Path, fake_backend: OpenFake) -> None:
    ops = TINY.ops(TINY.largest())
    table = fill_table(ops, fake_backend(), tmp_path / "t.jsonl", plan=PLAN)
    assert table.header.space is None
    assert set(table.rows) == set(ops)


def test_estimates_are_overhead_and_operators(tmp_path: Path, fake_backend: OpenFake) -> None:
    """On a machine where a network costs a call and its nodes, the sum without calls is exact."""
    table = fill_table(TINY, fake_backend(noise=0.0), tmp_path / "t.jsonl", plan=PLAN)
    rng = np.random.default_rng(0)
    for _ in range(20):
        ops = TINY.ops(TINY.sample(rng=rng))
        parts = table.overhead_ms + sum(table.op_latency_ms(op) for op in ops)
        assert table.latency_ms(ops) == pytest.approx(parts)


def test_validation_and_calibration_are_kept_in_the_file(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN)
    plain = load_table(path)
    with pytest.raises(TableError, match="not calibrated"):
        plain.latency_interval_ms(TINY.ops(TINY.largest()))
    with pytest.raises(TableError, match="0 validated networks"):
        calibrate_table(path)
    report = validate_table(path, TINY, fake_backend(seed=1), networks=25, plan=PLAN)
    assert report.calibrated is None
    assert report.noise_floor.mape < 0.01
    assert report.noise_floor.networks == 25
    table = calibrate_table(path)
    assert load_table(path) == table
    calibrated = validation_report(table, TINY).calibrated
    assert calibrated is not None
    assert calibrated.mape <= report.raw.mape + 0.002
    assert calibrated.mape < 0.01
    assert calibrated.spearman > 0.99


def test_rows_added_after_calibration_leave_its_held_out_figures_as_they_were(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    """Networks that needed interpolation are in the file before those of the calibration."""
    path = tmp_path / "t.jsonl"
    space = get_space("ofa_mbv3_d234_e346_k357_w1.0")
    fill_table(space, fake_backend(), path, plan=PLAN, resolutions=[128, 160])
    validate_table(path, space, fake_backend(), networks=1, plan=PLAN)
    validate_table(path, space, fake_backend(), networks=4, interpolate=True, plan=PLAN)
    between = {n.spec.resolution for n in load_table(path).validation}
    validate_table(path, space, fake_backend(), networks=9, seed=1, plan=PLAN)
    before = validation_report(calibrate_table(path), space).calibrated
    assert before is not None
    table = fill_table(space, fake_backend(), path, plan=PLAN, resolutions=sorted(between))
    after = validation_report(table, space).calibrated
    assert after is not None
    assert after.networks == 14
    held_out = table.calibration.residuals
    assert table.calibration.networks == (0, *range(5, 14))
    assert abs(after.mape * 14 - sum(map(abs, held_out))) < 4 * 0.05


def test_where_a_network_is_loaded_to_is_averaged_over(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    """Two single loads would be 4.5 % apart on average, as 0.04 * 2 / sqrt(pi) says."""
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN)
    report = validate_table(
        path, TINY, fake_backend(seed=1, placement=0.04), networks=40, plan=PLAN
    )
    assert 0.01 < report.noise_floor.mape < 0.035


def test_more_loads_lower_the_noise_floor(tmp_path: Path, fake_backend: OpenFake) -> None:
    floors = []
    for loads in (1, 16):
        path = tmp_path / f"{loads}.jsonl"
        fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
        noisy = fake_backend(seed=1, placement=0.04)
        report = validate_table(path, TINY, noisy, networks=20, plan=PLAN, loads=loads)
        floors.append(report.noise_floor.mape)
    assert floors[0] > 2 * floors[1]


def test_intervals_hold_the_share_of_unseen_networks_that_they_promise(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(noise=0.02), path, plan=PLAN)
    validate_table(path, TINY, fake_backend(noise=0.02), networks=30, plan=PLAN)
    table = calibrate_table(path)
    assert 0.8 <= table.calibration.figures["coverage_90"] <= 1
    ops = TINY.ops(TINY.largest())
    narrow, wide = (table.latency_interval_ms(ops, confidence=c) for c in (0.5, 0.9))
    assert wide[0] <= narrow[0] < table.latency_ms(ops) < narrow[1] <= wide[1]
    with pytest.raises(TableError, match="99"):
        table.latency_interval_ms(ops, confidence=0.99)


def test_validation_on_another_device_is_refused(tmp_path: Path, fake_backend: OpenFake) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
    profiler = fake_backend()
    profiler.device = replace(profiler.device, name="another")
    with pytest.raises(TableError, match="name is 'fake cpu' there and 'another' now"):
        validate_table(path, TINY, profiler, networks=5)


def test_validation_draws_from_what_the_table_covers(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    path = tmp_path / "t.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[SMALL])
    validate_table(path, TINY, fake_backend(), networks=6, plan=PLAN)
    assert {n.spec.resolution for n in load_table(path).validation} == {SMALL}
    validate_table(path, TINY, fake_backend(), networks=6, plan=PLAN)
    assert len({n.spec for n in load_table(path).validation}) == 12
    with pytest.raises(MissingOpError):
        validate_table(path, TINY, fake_backend(), networks=6, resolutions=[LARGE], plan=PLAN)
