"""The tables that come with ofa_hw: whole, calibrated, validated, and called what they are."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator

import pytest

from ofa_hw.latency import LatencyTable, bundled_tables, load_table, validation_report
from ofa_hw.spaces import get_space

RESOLUTIONS = {128, 160, 192, 224}


def covered(table: LatencyTable) -> set[int]:
    space = get_space(table.header.space)
    return {r for r in space.resolutions if all(op in table.rows for op in space.table_ops([r]))}


def texts(table: LatencyTable) -> Iterator[str]:
    device = table.device
    yield from (device.name, device.runtime, device.runtime_version)
    yield from (*device.settings.values(), *device.details.values())


def test_there_are_bundled_tables() -> None:
    assert bundled_tables()


def test_together_they_stay_under_ten_megabytes() -> None:
    files = importlib.resources.files("ofa_hw_luts").iterdir()
    assert sum(len(file.read_bytes()) for file in files if file.name.endswith(".jsonl")) < 10e6


@pytest.mark.parametrize("name", bundled_tables())
def test_a_bundled_table_is_what_it_is_called(name: str) -> None:
    device = load_table(name).device
    processor, threads, backend, _ = name.split("-", 3)
    space = load_table(name).header.space.replace("_d234_e346_k357", "")
    assert name == f"{processor}-{device.threads}t-{device.backend}-{space}"
    assert processor in device.name.lower()
    assert threads == "1t"
    assert backend == device.backend
    assert (device.dtype, device.batch) == ("fp32", 1)


@pytest.mark.parametrize("name", bundled_tables())
def test_a_bundled_table_is_whole_and_knows_its_error(name: str) -> None:
    table = load_table(name)
    space = get_space(table.header.space)
    assert covered(table) >= RESOLUTIONS
    assert table.overhead is not None
    assert len(table.validated()) >= 20
    report = validation_report(table, space)
    assert report.calibrated is not None
    assert report.calibrated.mape < 0.05
    low, high = table.latency_interval_ms(space.ops(space.largest(192)))
    assert low < table.latency_ms(space.ops(space.largest(192))) < high


@pytest.mark.parametrize("name", bundled_tables())
def test_a_bundled_table_tells_nothing_of_whose_machine_it_was(name: str) -> None:
    for text in texts(load_table(name)):
        assert not re.search(r"/|@|\.local\b|home", text), text
