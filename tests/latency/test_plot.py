"""The page of a table: what the heat map holds, and that it needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ofa_hw.latency import calibrate_table, fill_table, load_table, validate_table
from ofa_hw.latency.plot import heat_map, plot_table
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import SamplingPlan
from ofa_hw.spaces import get_space

TINY = get_space("tiny")
PLAN = SamplingPlan(relative_ci=0.05, min_time_s=0.0, max_time_s=0.05)
OpenFake = Callable[..., object]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, fake_backend: OpenFake) -> Path:
    path = tmp_path_factory.mktemp("plot") / "a <b>.jsonl"
    fill_table(TINY, fake_backend(), path, plan=PLAN, resolutions=[24, 32])
    return path


def test_a_heat_map_has_every_row_at_the_resolutions_of_its_networks(path: Path) -> None:
    table = load_table(path)
    found = heat_map(table)
    assert found.resolutions == TINY.resolutions
    assert found.of_networks
    assert not np.isnan(found.latency_ms[:, [0, -1]]).any()
    op = TINY.ops(TINY.largest(32))[1]
    row = found.blocks.index(str(op).partition("@")[0])
    assert found.latency_ms[row, -1] == table.rows_ms[op]
    between = found.latency_ms[:, 1]
    assert np.isnan(between).sum() == len(set(TINY.table_ops([28])) - set(table.rows))


def test_published_rows_stand_at_their_own_networks_resolution(shared_data: Path) -> None:
    table = load_table(shared_data / "note10")
    found = heat_map(table)
    assert found.latency_ms.shape == (96, 5)
    assert not np.isnan(found.latency_ms).any()
    head = next(op for op in table.rows if op.kind == "linear")
    row = found.blocks.index(str(head).partition("@")[0])
    expected = [table.variants[r][head].median_ms for r in found.resolutions]
    assert found.latency_ms[row].tolist() == expected


def test_operators_of_ones_own_stand_at_their_input_size(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    ops = [OpSpec("conv", size, 3, 8, kernel_size=3) for size in (8, 16)]
    found = heat_map(fill_table(ops, fake_backend(), tmp_path / "t.jsonl", plan=PLAN))
    assert (found.blocks, found.resolutions) == (("conv:3-8:k3:s1",), (8, 16))
    assert not found.of_networks


def test_the_page_is_whole_and_loads_nothing(path: Path, fake_backend: OpenFake) -> None:
    pytest.importorskip("plotly")
    page = plot_table(load_table(path))
    assert "No network was measured whole" in page
    validate_table(path, TINY, fake_backend(), networks=8, plan=PLAN)
    calibrate_table(path)
    page = plot_table(load_table(path))
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert "a &lt;b&gt;.jsonl" in page
    assert "<b>.jsonl" not in page
    assert "calibrated on the others" in page
    assert page.rstrip().endswith("</html>")
