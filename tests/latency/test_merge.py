"""Merging and comparing tables: what is kept, what is refused, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ofa_hw.errors import TableError
from ofa_hw.latency import (
    LatencyTable,
    Statistics,
    calibrate_table,
    compare_tables,
    fill_table,
    load_table,
    merge_tables,
    save_table,
    validate_table,
)
from ofa_hw.profiling import SamplingPlan
from ofa_hw.spaces import get_space

TINY = get_space("tiny")
SMALL, LARGE = TINY.resolutions[0], TINY.resolutions[-1]
PLAN = SamplingPlan(relative_ci=0.02, min_time_s=0.002, max_time_s=0.05)


@pytest.fixture(scope="module")
def make(tmp_path_factory, fake_backend) -> Callable[..., LatencyTable]:
    """Fills a table of some resolutions on a fake machine of its own seed, and validates it."""

    def filled(*resolutions: int, seed: int = 0, networks: int = 0) -> LatencyTable:
        path = tmp_path_factory.mktemp("tables") / f"t{seed}.jsonl"
        profiler = fake_backend(seed=seed)
        table = fill_table(TINY, profiler, path, resolutions=resolutions, plan=PLAN)
        if networks:
            validate_table(path, TINY, profiler, networks=networks, seed=seed, plan=PLAN)
            table = calibrate_table(path)
        return table

    return filled


@pytest.fixture(scope="module")
def small(make) -> LatencyTable:
    return make(SMALL, networks=6)


@pytest.fixture(scope="module")
def both(make) -> LatencyTable:
    return make(SMALL, LARGE, seed=1, networks=6)


def on(table: LatencyTable, **changes: object) -> LatencyTable:
    """The table as if something else had been measured."""
    return replace(table, header=replace(table.header, device=replace(table.device, **changes)))


def slower(table: LatencyTable, times: float) -> LatencyTable:
    rows = {op: replace(row, median_ms=times * row.median_ms) for op, row in table.rows.items()}
    return replace(table, rows=rows)


def test_a_merged_table_has_the_rows_of_both_and_keeps_the_first_of_two(
    small: LatencyTable, both: LatencyTable
) -> None:
    merged = merge_tables([small, both])
    assert merged.table.rows.keys() == small.rows.keys() | both.rows.keys()
    for op, row in merged.table.rows.items():
        assert row == small.rows.get(op, both.rows.get(op))
    assert merged.taken == (len(small), len(merged.table) - len(small))
    (overlap,) = merged.overlaps
    assert len(overlap.rows) == len(small.rows.keys() & both.rows.keys())
    assert overlap.median_ratio == pytest.approx(1, abs=0.02)


def test_a_row_that_settled_replaces_one_that_did_not(small: LatencyTable) -> None:
    op, row = next(iter(small.rows.items()))
    noisy = replace(small, rows={**small.rows, op: replace(row, median_ms=9.0, stable=False)})
    assert merge_tables([noisy, small]).table.rows[op] == row
    assert merge_tables([small, noisy]).table.rows[op] == row
    assert merge_tables([noisy, noisy]).table.rows[op].median_ms == 9.0


def test_networks_go_along_and_a_calibration_does_not(
    small: LatencyTable, both: LatencyTable, tmp_path: Path
) -> None:
    merged = merge_tables([small, both, small])
    assert merged.table.validation == small.validation + both.validation
    assert merged.table.calibration is None
    assert merged.calibrations_dropped == 3
    path = save_table(merged.table, tmp_path / "merged.jsonl")
    assert load_table(path).rows == merged.table.rows
    assert calibrate_table(path).calibration.figures["mape"] < 0.05


def test_rows_of_runs_at_different_speeds_compare_as_multiples_of_the_sentinel(
    small: LatencyTable, both: LatencyTable
) -> None:
    """The second run's machine is half as fast; a merged table answers at one level."""
    halved = {
        op: replace(row, median_ms=2 * row.median_ms, sentinel_ms=2 * row.sentinel_ms)
        for op, row in both.rows.items()
    }
    merged = merge_tables([small, replace(both, rows=halved)]).table
    truth = merge_tables([small, both]).table
    ratios = [merged.rows_ms[op] / truth.rows_ms[op] for op in truth.rows]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "another phone"}, "name is 'fake cpu' and 'another phone'"),
        ({"dtype": "int8"}, "dtype is 'fp32' and 'int8'"),
        ({"batch": 8}, "batch is 1 and 8"),
        ({"settings": {"xnnpack": "off"}}, "setting xnnpack is None and 'off'"),
        ({"runtime_version": "2"}, "runtime_version is '1.0' and '2'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_was_measured_otherwise_is_not_merged_and_the_field_is_named(
    small: LatencyTable, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(TableError, match=named):
        merge_tables([small, on(small, **changes)])


def test_a_table_of_another_space_is_not_merged(small: LatencyTable) -> None:
    other = replace(small, header=replace(small.header, space="tiny@classes=3"))
    with pytest.raises(TableError, match="space is 'tiny' and 'tiny@classes=3'"):
        merge_tables([small, other])


def test_a_device_that_has_changed_is_found_out(small: LatencyTable, both: LatencyTable) -> None:
    with pytest.raises(TableError, match=r"1\.\d+ times the latency .* fill one anew"):
        merge_tables([small, slower(both, 1.2)])
    assert merge_tables([small, slower(both, 1.05)]).overlaps[0].median_ratio > 1.03


def test_a_table_that_does_not_say_how_it_was_measured_is_not_merged(
    small: LatencyTable, shared_data: Path
) -> None:
    published = load_table(shared_data / "note10")
    with pytest.raises(TableError, match="does not say how it was measured"):
        merge_tables([published, published])
    with pytest.raises(TableError, match="at least two"):
        merge_tables([small])


def test_details_that_differ_are_all_kept(small: LatencyTable) -> None:
    hot, cold = (on(small, details={"temperature": t, "kernel": "6"}) for t in ("70", "40"))
    header = merge_tables([hot, cold]).table.header
    assert header.device.details == {"temperature": "70, 40", "kernel": "6"}


def test_a_comparison_says_by_how_much_and_which_rows_most(small: LatencyTable) -> None:
    op = next(iter(small.rows))
    rows = {**slower(small, 1.5).rows, op: replace(small.rows[op], median_ms=9.0)}
    other = on(replace(small, rows=rows), name="another phone", details={"governor": "x"})
    comparison = compare_tables(small, other)
    assert comparison.median_ratio == pytest.approx(1.5)
    assert comparison.within(0.05) == pytest.approx(1 - 1 / len(small))
    assert comparison.rows[0].op == op
    assert [(d.field, d.identity) for d in comparison.differences] == [
        ("name", True),
        ("detail governor", False),
    ]
    assert comparison.level_ratio == 1
    assert comparison.to_dict(worst=2)["rows"][0]["second_ms"] == pytest.approx(9.0)


def test_a_comparison_lists_what_only_one_has(small: LatencyTable, both: LatencyTable) -> None:
    comparison = compare_tables(small, both)
    assert comparison.only_first == ()
    assert set(comparison.only_second) == both.rows.keys() - small.rows.keys()


@pytest.mark.parametrize("change", [{"dtype": "int8"}, {"batch": 8}, {"threads": 4}], ids=str)
def test_latencies_of_different_things_are_compared_only_when_asked(
    small: LatencyTable, change: dict[str, object]
) -> None:
    with pytest.raises(TableError, match=f"{next(iter(change))} is .*--anyway"):
        compare_tables(small, on(small, **change))
    assert compare_tables(small, on(small, **change), anyway=True).median_ratio == 1


def test_tables_without_a_common_operator_cannot_be_compared(small: LatencyTable) -> None:
    with pytest.raises(TableError, match="no operator in common"):
        compare_tables(small, replace(small, rows={}))


def test_a_row_within_another_is_left_out(small: LatencyTable) -> None:
    op = next(iter(small.rows))
    within = replace(small, rows={**small.rows, op: Statistics(0.0, 0, notes=("within",))})
    assert len(compare_tables(small, within).rows) == len(small) - 1
