"""A table's file survives whatever happens to it, tested with real processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ofa_hw.errors import TableError, TableFormatError
from ofa_hw.latency import Header, Statistics, fill_table, load_table
from ofa_hw.latency.format import row_line
from ofa_hw.latency.journal import Journal
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import DeviceInfo, SamplingPlan
from ofa_hw.spaces import get_space

TINY = get_space("tiny")
PLAN = SamplingPlan(relative_ci=0.02, min_time_s=0.002, max_time_s=0.05)
HEADER = Header(DeviceInfo("cpu", "fake", "none", "1.0"), "tiny", "2026-01-01T00:00:00+00:00")
OpenFake = Callable[..., object]

FILL = """
import sys
from ofa_hw.latency import fill_table
from ofa_hw.profiling import SamplingPlan, open_profiler
from ofa_hw.spaces import get_space
plan = SamplingPlan(relative_ci=0.2, min_time_s=0.002, max_time_s=0.02)
fill_table(get_space("tiny"), open_profiler("onnxruntime"), sys.argv[1], plan=plan)
"""
HOLD = """
import sys, time
from pathlib import Path
from ofa_hw.latency import Header
from ofa_hw.latency.journal import Journal
from ofa_hw.profiling import DeviceInfo
with Journal.open(Path(sys.argv[1]), Header(DeviceInfo("cpu", "fake", "none", "1.0"), "tiny"))[0]:
    print("held", flush=True)
    time.sleep(60)
"""


def row(index: int) -> tuple[OpSpec, str]:
    op = OpSpec("linear", 1, index + 1, 10)
    return op, row_line(op, Statistics(0.1 * (index + 1), 7, notes=("made up",)))


def write_rows(path: Path, count: int) -> None:
    with Journal.open(path, HEADER)[0] as journal:
        for index in range(count):
            journal.append(row(index)[1])


def test_a_fill_killed_in_the_middle_goes_on_and_gives_every_row_once(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    process = subprocess.Popen([sys.executable, "-c", FILL, str(path)], stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") > 20:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows_before = len(load_table(path))
    assert 0 < rows_before < len(TINY.table_ops())
    subprocess.run([sys.executable, "-c", FILL, str(path)], check=True, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    ops = [OpSpec.from_dict(line["op"]) for line in lines if line["line"] == "row"]
    assert sorted(ops) == sorted(TINY.table_ops())
    assert len({line["line"] for line in lines[:1]}) == 1


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TableError, match=rf"written by process {holder.pid}"):
            Journal.open(path, HEADER)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    Journal.open(path, HEADER)[0].close()


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_last_line_is_left_out_and_measured_again(
    tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.jsonl"
    write_rows(path, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(load_table(path)) == 2
    assert "line 4 is torn off" in caplog.text
    write_rows(path, 0)
    with Journal.open(path, HEADER)[0] as journal:
        journal.append(row(2)[1])
    assert len(load_table(path)) == 3


def test_a_file_cut_inside_its_header_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_rows(path, 0)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TableFormatError, match="empty"):
        load_table(path)
    write_rows(path, 2)
    assert len(load_table(path)) == 2


BAD_LINES = {
    "no JSON": ("{", "Expecting"),
    "no object": ("[1]", "expected an object"),
    "unknown kind": ('{"line": "poem"}', "unknown kind of line 'poem'"),
    "second header": ('{"line": "header"}', "begins with a header"),
    "no latency": (
        '{"line": "row", "op": {"kind": "linear", "resolution": 1, "in_channels": 9, '
        '"out_channels": 1}, "n": 5}',
        "median_ms is missing",
    ),
    "negative": (
        '{"line": "row", "op": {"kind": "linear", "resolution": 1, "in_channels": 9, '
        '"out_channels": 1}, "median_ms": -1.0, "n": 5}',
        "median_ms must be",
    ),
    "no operator": ('{"line": "row", "median_ms": 1.0, "n": 5}', "lacks 'op'"),
    "bad operator": ('{"line": "row", "op": {"kind": "dance"}, "median_ms": 1, "n": 5}', "kind"),
    "unknown figure": ('{"line": "overhead", "median_ms": 1, "n": 5, "mood": 1}', "mood"),
    "twice": (row(0)[1].strip(), "second row"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, kind: str) -> None:
    line, message = BAD_LINES[kind]
    path = tmp_path / "t.jsonl"
    write_rows(path, 2)
    path.write_text(path.read_text() + line + "\n" + row(5)[1])
    with pytest.raises(TableFormatError, match=rf"t\.jsonl, line 4: .*{message}"):
        load_table(path)
    before = path.read_bytes()
    with pytest.raises(TableFormatError):
        Journal.open(path, HEADER)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a table", b"\x89PNG\r\n\x1a\n\x00", b"hello\n"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    for use in (load_table, lambda p: Journal.open(p, HEADER)):
        with pytest.raises(TableFormatError):
            use(path)
    assert path.read_bytes() == content


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_rows(path, 1)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(TableFormatError, match="format 2, and this version of ofa_hw reads 1"):
        load_table(path)


def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, fake_backend: OpenFake
) -> None:
    (tmp_path / "file").write_text("")
    profiler = fake_backend()
    with pytest.raises(TableError, match="cannot write"):
        fill_table(TINY, profiler, tmp_path / "file" / "t.jsonl", plan=PLAN)
    with pytest.raises(TableError, match="cannot write"):
        fill_table(TINY, profiler, tmp_path / "nowhere" / "t.jsonl", plan=PLAN)
    assert profiler.loaded == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TableError, match="Permission denied"):
        Journal.open(tmp_path / "t.jsonl", HEADER)


def test_a_full_disk_keeps_whole_rows_and_can_go_on(tmp_path: Path) -> None:
    """RLIMIT_FSIZE fails a write half-way, as a full disk does."""
    path = tmp_path / "t.jsonl"
    write_rows(path, 2)
    limit = path.stat().st_size + len(row(2)[1]) + 20
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.open(path, HEADER)[0] as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            journal.append(row(2)[1])
            with pytest.raises(TableError, match="run the same command again"):
                journal.append(row(3)[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(load_table(path)) == 3
    with Journal.open(path, HEADER)[0] as journal:
        journal.append(row(3)[1])
    assert len(load_table(path)) == 4


def test_a_disk_full_from_the_start_leaves_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(TableError, match="cannot write"):
            Journal.open(tmp_path / "t.jsonl", HEADER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "t.jsonl").exists()
