"""Bad input gets one sentence and an exit code, and leaves nothing behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def profile_args(**changes: object) -> list[object]:
    options = {"--space": "tiny", "--backend": "onnxruntime", **changes}
    return ["profile", *(part for option in options.items() for part in option)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(profile_args(**{"--space": "tinny"}), "did you mean 'tiny'", id="space"),
        pytest.param(profile_args(**{"--backend": "gpu9"}), "cpu, cuda, onnxruntime", id="backend"),
        pytest.param(profile_args(**{"--resolutions": "30"}), "24, 28, 32", id="resolution"),
        pytest.param(profile_args(**{"--resolutions": "a"}), "160,192", id="no number"),
        pytest.param(profile_args(**{"--set": "optimisation"}), "NAME=VALUE", id="setting"),
        pytest.param(profile_args(**{"--set": "speed=11"}), "optimisation", id="unknown setting"),
        pytest.param(profile_args(**{"--dtype": "fp4"}), "fp4", id="dtype"),
        pytest.param(profile_args(**{"--set": "provider=Gpu"}), "CPUExec", id="provider"),
    ],
)
def test_profile_refuses_in_one_sentence(run, tmp_path: Path, args, message: str) -> None:
    code, out, err = run(*args, "--output", tmp_path / "t.jsonl")
    assert_refused(code, out, err, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["profile"], id="missing options"),
        pytest.param(["profle"], id="unknown command"),
        pytest.param(["lut", "show"], id="missing argument"),
        pytest.param(profile_args(**{"--threads": 0, "-o": "x"}), id="no threads"),
        pytest.param(["bench", "x.onnx", "--seconds", "soon"], id="no number"),
        pytest.param(["specialize", "--bogus"], id="unknown option"),
    ],
)
def test_a_command_that_cannot_be_read_exits_with_2(run, args) -> None:
    code, _, err = run(*args)
    assert code == 2
    assert "Traceback" not in err


def test_an_infeasible_budget_is_answered_with_the_smallest_reachable(
    run, table: Path, predictor: Path
) -> None:
    code, out, err = run(*specialize_args(table, predictor), "--latency-ms", "0.0001")
    assert_refused(code, out, err, r"0\.0\d+")
    smallest = re.findall(r"\d+\.\d+", err)[-1]
    assert run(*specialize_args(table, predictor), "--latency-ms", smallest)[0] == 0


@pytest.mark.parametrize("budget", ["-1", "0", "nan"])
def test_a_budget_that_is_none_is_refused(run, table: Path, predictor: Path, budget: str) -> None:
    code, out, err = run(*specialize_args(table, predictor), "--latency-ms", budget)
    assert_refused(code, out, err, "latency_ms|budget|smallest")


def test_a_table_of_another_space_is_refused(run, table: Path, shared_data: Path) -> None:
    code, out, err = run(
        *("specialize", "--space", "ofa_mbv3_d234_e346_k357_w1.2", "--lut", table),
        *("--predictor", shared_data / "acc_predictor.pth", "--latency-ms", 25),
    )
    assert_refused(code, out, err, "tiny")


def test_a_predictor_of_another_space_is_refused(run, table: Path, shared_data: Path) -> None:
    code, out, err = run(
        *specialize_args(table, shared_data / "acc_predictor.pth"), "--latency-ms", 1
    )
    assert_refused(code, out, err, "acc_predictor.pth|tiny")


def test_a_truncated_table_is_named_with_its_line(run, table: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    lines = table.read_text().splitlines(keepends=True)
    broken.write_text("".join([*lines[:3], lines[3][:20] + "\n", *lines[4:]]))
    code, out, err = run("lut", "show", broken)
    assert_refused(code, out, err, r"broken\.jsonl, line 4")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint"], ids=["empty", "garbage"])
def test_a_corrupt_checkpoint_is_named_and_nothing_is_exported(
    run, table: Path, predictor: Path, tmp_path: Path, content: bytes
) -> None:
    checkpoint, export = tmp_path / "bad.pth", tmp_path / "net.onnx"
    checkpoint.write_bytes(content)
    code, out, err = run(
        *specialize_args(table, predictor),
        *("--latency-ms", 100, "--weights", checkpoint, "--export", export),
    )
    assert_refused(code, out, err, r"bad\.pth")
    assert not export.exists()


def test_a_file_in_the_way_is_kept(
    run, table: Path, predictor: Path, weights: Path, tmp_path: Path
) -> None:
    export = tmp_path / "net.onnx"
    export.write_text("precious")
    args = (*specialize_args(table, predictor), "--latency-ms", 100, "--weights", weights)
    code, out, err = run(*args, "--export", export)
    assert_refused(code, out, err, "--force")
    assert export.read_text() == "precious"
    assert run(*args, "--export", export, "--force")[0] == 0
    assert export.read_text(errors="ignore") != "precious"


def test_a_folder_with_files_is_not_written_over(run, tmp_path: Path) -> None:
    (tmp_path / "supernet.pth").write_text("precious")
    for command in (["train", "--space", "tiny"], ["quickstart"]):
        code, out, err = run(*command, "--output", tmp_path)
        assert_refused(code, out, err, "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["supernet.pth"]


def test_exporting_without_weights_is_bad_usage(
    run, table: Path, predictor: Path, tmp_path: Path
) -> None:
    code, _, err = run(
        *specialize_args(table, predictor), "--latency-ms", 1, "--export", tmp_path / "a.onnx"
    )
    assert code == 2
    assert "--weights" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("none.onnx", None, r"none\.onnx", id="missing"),
        pytest.param("net.pb", b"x", r"net\.pb", id="unknown format"),
        pytest.param("net.onnx", b"x", r"net\.onnx", id="no onnx"),
        pytest.param("net.tflite", b"x", r"net\.tflite", id="no tflite"),
        pytest.param("net.pt2", b"x", r"net\.pt2", id="no program"),
    ],
)
def test_bench_names_a_file_it_cannot_run(run, tmp_path: Path, name, content, message) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    code, out, err = run("bench", path)
    assert_refused(code, out, err, message)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        pytest.param("--data", "imagenet", "digits", id="data"),
        pytest.param("--recipe", "long", "digits, paper", id="recipe"),
        pytest.param("--space", "ofa_resnet50", "1", id="space of other images"),
    ],
)
def test_train_refuses_what_it_does_not_know(run, tmp_path: Path, option, value, message) -> None:
    args = {"--space": "tiny", "--output": tmp_path / "run", option: value}
    code, out, err = run("train", *(part for pair in args.items() for part in pair))
    assert_refused(code, out, err, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "args", "extra"),
    [
        pytest.param("torch", ["train", "--space", "tiny", "-o", "run"], "torch", id="train"),
        pytest.param("torch", ["quickstart"], "torch", id="quickstart"),
        pytest.param("torch", ["bench", "net.pt2"], "torch", id="bench"),
    ],
)
def test_a_library_that_is_not_there_is_named_with_what_brings_it(
    tmp_path: Path, module: str, args: list[str], extra: str
) -> None:
    (tmp_path / "net.pt2").write_bytes(b"x")
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['ofa-hw', *{args!r}]\n"
        "from ofa_hw.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert_refused(done.returncode, done.stdout, done.stderr, rf"ofa-hw\[{extra}\]")


def specialize_args(table: Path, predictor: Path) -> list[object]:
    return ["specialize", "--space", "tiny", "--lut", table, "--predictor", predictor]


def assert_refused(code: int, out: str, err: str, message: str) -> None:
    """Exit code 1, nothing on stdout, one line that says what is wrong on stderr."""
    assert code == 1, (out, err)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("ofa-hw: ")]
    assert len(lines) == 1, err
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in err
