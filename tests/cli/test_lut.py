"""The commands of `ofa-hw lut` on published tables and measured ones."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ofa_hw import profile
from ofa_hw.latency import bundled_tables, load_table, validate_table
from ofa_hw.profiling import ProfilerOptions, SamplingPlan, open_profiler
from ofa_hw.spaces import get_space


def test_an_imported_folder_is_a_table_like_any_other(
    run, shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "note10.jsonl"
    code, out, _ = run("lut", "import", shared_data / "note10", "--output", output, "--json")
    assert code == 0
    assert json.loads(out)["rows"] == {str(r): 96 for r in (160, 176, 192, 208, 224)}
    code, out, err = run("lut", "import", shared_data / "note10", "--output", output)
    assert (code, out) == (1, "")
    assert "pass --force" in err
    code, out, _ = run("lut", "show", output, "--rows", 2)
    assert code == 0
    assert "networks of 160, 176, 192, 208, 224 pixels" in out
    assert "None" not in out
    code, out, _ = run("lut", "show", output, "--json")
    assert json.loads(out)["network_resolutions"] == [160, 176, 192, 208, 224]


def test_what_is_no_table_leaves_no_file(run, tmp_path: Path) -> None:
    (tmp_path / "poem.yaml").write_text("roses: red")
    code, _, err = run("lut", "import", tmp_path / "poem.yaml", "-o", tmp_path / "poem.jsonl")
    assert code == 1
    assert "poem.yaml" in err
    assert not (tmp_path / "poem.jsonl").exists()


def test_a_table_is_validated_and_calibrated(run, table: Path, tmp_path: Path) -> None:
    mine = tmp_path / "tiny.jsonl"
    shutil.copy(table, mine)
    code, out, _ = run("lut", "validate", mine, "--networks", 6, "--json")
    assert code == 0
    assert json.loads(out)["raw"]["networks"] == 6
    code, out, _ = run("lut", "calibrate", mine)
    assert code == 0
    assert "calibrated, unseen" in out
    assert load_table(mine).calibration is not None


def test_an_imported_table_cannot_be_validated_and_says_what_to_do(
    run, shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "trim.jsonl"
    run("lut", "import", shared_data / "mobile_trim.yaml", "-o", output)
    code, _, err = run("lut", "validate", output)
    assert code == 1
    assert "ofa-hw profile --space" in err


COMMANDS = ("show", "list", "import", "merge", "diff", "validate", "calibrate", "plot")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json(run, command: str) -> None:
    code, out, _ = run("lut", command, "--help")
    assert code == 0
    assert f"Example: ofa-hw lut {command}" in " ".join(out.split())
    assert "--json" in out


def test_a_page_is_written_once(run, table: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    page = tmp_path / "page.html"
    assert run("lut", "plot", table, "--output", page)[0] == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    code, _, err = run("lut", "plot", table, "--output", page)
    assert code == 1
    assert "--force" in err
    code, _, err = run("lut", "plot", table, "--output", tmp_path / "nowhere" / "page.html")
    assert code == 1
    assert "cannot write" in err


def test_the_list_says_what_every_bundled_table_covers_and_how_far_it_is_off(run) -> None:
    code, out, _ = run("lut", "list", "--json")
    assert code == 0
    entries = json.loads(out)
    assert {entry["name"] for entry in entries} == set(bundled_tables())
    for entry in entries:
        assert entry["resolutions"]
        assert 0 < entry["validation_mape"] < 0.05


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_is_read_on_a_terminal_of_this_width(columns: int) -> None:
    """Every table is one whole line, under what it was measured on."""
    out = on_terminal(columns, "lut", "list")
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    for name in bundled_tables():
        table = load_table(name)
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert f" {len(table)} " in line
        assert f"{table.calibration.figures['mape']:.1%}" in line
        assert table.header.created[:10] in line
        device = table.device
        titles = [line for line in lines[: lines.index(line)] if line.startswith(device.name)]
        assert f"{device.backend} ({device.runtime} {device.runtime_version})" in titles[-1]
        assert f"{device.dtype}, batch {device.batch}" in titles[-1]


def test_two_runs_are_merged_into_one_table(run, table: Path, tmp_path: Path) -> None:
    header, *lines = table.read_text().splitlines(keepends=True)
    parts = [tmp_path / "monday.jsonl", tmp_path / "tuesday.jsonl"]
    parts[0].write_text(header + "".join(lines[: len(lines) * 2 // 3]))
    parts[1].write_text(header + "".join(lines[len(lines) // 3 :]))
    merged = tmp_path / "merged.jsonl"
    code, out, err = run("lut", "merge", *parts, "-o", merged, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert load_table(merged).rows == load_table(table).rows
    assert sum(answer["taken"].values()) == answer["rows"] == len(load_table(table))
    assert answer["overlaps"][str(parts[1])]["median_ratio"] == 1
    code, _, err = run("lut", "merge", *parts, "-o", merged)
    assert code == 1
    assert "--force" in err
    code, out, _ = run("lut", "merge", *parts, "-o", merged, "--force")
    assert code == 0
    assert "monday.jsonl" in out
    assert run("lut", "diff", table, merged)[0] == 0


def test_what_must_not_mix_is_named_and_leaves_no_file(run, table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(table.read_text().replace('"dtype": "fp32"', '"dtype": "fp16"', 1))
    code, out, err = run("lut", "merge", table, other, "-o", tmp_path / "merged.jsonl")
    assert (code, out) == (1, "")
    assert "dtype is 'fp32' and 'fp16'" in err
    assert not (tmp_path / "merged.jsonl").exists()
    code, out, err = run("lut", "diff", table, other)
    assert (code, out) == (1, "")
    assert "--anyway" in err
    code, out, _ = run("lut", "diff", table, other, "--anyway", "--json")
    assert json.loads(out)["median_ratio"] == 1


def test_a_diff_says_by_how_much_and_names_the_worst_rows(run) -> None:
    names = [f"epyc-1t-{backend}-ofa_mbv3_w1.0" for backend in ("onnxruntime", "tflite")]
    code, out, _ = run("lut", "diff", *names, "--rows", 3)
    assert code == 0
    assert re.search(r"^runtime +onnxruntime +tflite", out, re.MULTILINE)
    assert re.search(r"^second over first +\d\.\d+ median", out, re.MULTILINE)
    assert re.search(r"^mbconv:.*:k7:.* \d+\.\d{3}$", out, re.MULTILINE)
    code, out, _ = run("lut", "diff", *names, "--json")
    answer = json.loads(out)
    assert len(answer["rows"]) == answer["rows_in_both"]
    assert {d["field"] for d in answer["differences"]} >= {"backend", "runtime", "setting xnnpack"}


def on_terminal(columns: int, *arguments: str) -> str:
    """What `ofa-hw` prints where stdout is a terminal of this many columns."""
    script = (
        "import fcntl, os, pty, struct, sys, termios\n"
        "def size(fd):\n"
        f"    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 50, {columns}, 0, 0))\n"
        "pid, fd = pty.fork()\n"
        "if not pid:\n"
        "    size(1)\n"
        "    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
        "try:\n"
        "    while data := os.read(fd, 65536):\n"
        "        os.write(1, data)\n"
        "except OSError:\n    pass\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    command = ["-c", "from ofa_hw.cli import main; main()", *arguments]
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        capture_output=True,
        text=True,
        env={**environment, "TERM": "xterm", "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", done.stdout).replace("\r", "")


def test_batch_is_part_of_a_table_from_profiling_to_search(
    run, table: Path, predictor: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "batch.jsonl"
    quick = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.01)
    profile("tiny", backend="onnxruntime", output=mine, batch=8, resolutions=[24], plan=quick)
    fill = ("profile", "--space", "tiny", "--backend", "onnxruntime", "--resolutions", 24)
    code, _, err = run(*fill, "-o", mine)
    assert code == 1
    assert "batch is 8 there and 1 now" in err
    assert run(*fill, "--batch", 8, "-o", mine)[0] == 0  # complete
    options = ProfilerOptions(batch=8)
    with closing(open_profiler("onnxruntime", options)) as profiler:
        validate_table(mine, get_space("tiny"), profiler, networks=2, plan=quick)
    slowest_ms = max(n.first.median_ms for n in load_table(mine).validation)
    search = ("search", "--space", "tiny", "--predictor", predictor, "--latency-ms", 1000)
    eight, one = (
        json.loads(run(*search, "--lut", name, "--json")[1])["predicted_latency_ms"]
        for name in (mine, table)
    )
    assert eight > 2 * one
    assert slowest_ms > one
