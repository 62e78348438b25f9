"""Published tables, bundled ones and what a table answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_hw.errors import MissingOpError, OutputExistsError, TableError, TableFormatError
from ofa_hw.latency import (
    Header,
    LatencyTable,
    Statistics,
    import_published,
    load_table,
    save_table,
)
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import DeviceInfo
from ofa_hw.profiling.statistics import median_interval, median_rank
from ofa_hw.spaces import get_space, proxylessnas

OP = OpSpec("linear", 1, 3, 3)
HEADER = Header(DeviceInfo("cpu", "fake", "none", "1.0"), "tiny")


def test_published_sums_agree_with_the_reference(shared_data: Path) -> None:
    table = load_table(shared_data / "note10")
    cases = json.loads((shared_data / "golden" / "predictor_note10.json").read_text())
    assert len(cases) == 12
    for case in cases:
        space = get_space(case["net"])
        spec = space.spec(
            resolution=case["resolution"],
            depths=case["d"],
            kernel_sizes=case["ks"],
            expand_ratios=case["e"],
        )
        assert table.latency_ms(space.ops(spec)) == pytest.approx(case["note10_ms"], abs=1e-4)


def test_published_tables_cover_their_space(shared_data: Path) -> None:
    space = get_space("ofa_mbv3_d234_e346_k357_w1.2")
    table = load_table(shared_data / "note10")
    table.require(space.table_ops([160, 176, 192, 208, 224]))
    assert table.device.name == table.device.runtime == "unknown"
    assert table.device.threads is None


def test_the_older_form_covers_proxylessnas(shared_data: Path) -> None:
    table = load_table(shared_data / "mobile_trim.yaml")
    space = proxylessnas("p", width=1.0, depths=[2, 3, 4], expand_ratios=[3, 6], resolutions=[224])
    table.require(space.table_ops())
    assert table.latency_ms(space.ops(space.largest())) > table.latency_ms(
        space.ops(space.smallest())
    )


def test_missing_operators_are_named_all_at_once(shared_data: Path) -> None:
    table = load_table(shared_data / "note10")
    space = get_space("ofa_resnet50")
    ops = space.ops(space.largest())
    with pytest.raises(MissingOpError) as caught:
        table.latency_ms(ops)
    assert caught.value.missing == tuple(sorted(set(ops)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "holds no blocks"),
        ("a: [", "cannot read"),
        ("Conv-input:8x8x3-output:4x4x8:\n  mean: -1\n  count: 3", "positive number"),
        ("Conv-input:8x9x3-output:4x4x8:\n  mean: 1\n  count: 3", "a shape looks like"),
        ("Dance-input:8x8x3-output:4x4x8:\n  mean: 1\n  count: 3", "unknown kind"),
        ("Conv-output:4x4x8:\n  mean: 1\n  count: 3", "input"),
        ("Logits-input:1x1x8-output:10:\n  mean: 1\n  count: 3", "0 entries"),
    ],
)
def test_a_damaged_published_table_says_what_is_wrong(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(TableFormatError, match=message):
        import_published(path)


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no YAML table"):
        load_table(tmp_path)


def test_an_unknown_name_says_which_tables_are_bundled() -> None:
    with pytest.raises(TableError, match="bundled"):
        load_table("no-such-table")


@pytest.mark.parametrize("n", [6, 7, 20, 101, 1000])
def test_the_interval_of_the_median_covers_it_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    samples = np.sort(rng.exponential(size=(2000, n)))
    k = median_rank(n)
    inside = (samples[:, k - 1] <= np.log(2)) & (np.log(2) <= samples[:, -k])
    assert inside.mean() > 0.93


@pytest.mark.parametrize("n", range(6))
def test_fewer_than_six_samples_have_no_interval(n: int) -> None:
    assert median_interval(np.arange(n)) is None


@given(st.lists(st.floats(1, 1e9), min_size=6, max_size=60))
def test_the_interval_holds_the_median(samples: list[float]) -> None:
    interval = median_interval(samples)
    assert interval is not None
    assert interval[0] <= np.median(samples) <= interval[1]


def test_an_operator_without_a_row_is_not_estimated(shared_data: Path) -> None:
    with pytest.raises(MissingOpError):
        load_table(shared_data / "note10").op_latency_ms(OP)


def test_an_imported_table_saved_as_jsonl_loads_back_equal(
    shared_data: Path, tmp_path: Path
) -> None:
    """Rows of one block at several network resolutions among them."""
    table = load_table(shared_data / "note10")
    assert sum(map(len, table.variants.values())) > len(table.rows)
    save_table(table, tmp_path / "note10.jsonl")
    assert replace(load_table(tmp_path / "note10.jsonl"), name=table.name) == table


def test_saving_replaces_a_file_only_when_told_to(shared_data: Path, tmp_path: Path) -> None:
    table = load_table(shared_data / "mobile_trim.yaml")
    (tmp_path / "t.jsonl").write_text("precious")
    with pytest.raises(OutputExistsError, match="--force"):
        save_table(table, tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").read_text() == "precious"
    save_table(table, tmp_path / "t.jsonl", force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl"]
    with pytest.raises(TableError, match="cannot write"):
        save_table(table, tmp_path / "nowhere" / "t.jsonl")


@pytest.mark.parametrize("resolution", ["160", -1, 1.5, True])
def test_a_network_resolution_that_is_none_is_named(tmp_path: Path, resolution: object) -> None:
    path = tmp_path / "t.jsonl"
    save_table(LatencyTable("t", HEADER, {OP: Statistics(1.0, 3)}), path)
    line = json.loads(path.read_text().splitlines()[-1])
    path.write_text(
        path.read_text() + json.dumps({**line, "network_resolution": resolution}) + "\n"
    )
    with pytest.raises(TableFormatError, match="line 3: network_resolution must be"):
        load_table(path)
