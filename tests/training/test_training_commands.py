"""The commands that run a supernet on images, each once on the digits, and on bad input."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ofa_hw.cli import training as cli
from ofa_hw.lowering.files import open_file
from ofa_hw.spaces import get_space, with_classes
from ofa_hw.supernet import load_supernet, save_checkpoint
from ofa_hw.training import evaluate, read_log

Run = Callable[..., tuple[int, str, str]]
SPEC = get_space("tiny").smallest(24).to_json()


@pytest.mark.parametrize(
    "command",
    [["train"], ["evaluate"], ["finetune"], ["label"], ["predictor", "fit"], ["training", "plot"]],
    ids=" ".join,
)
def test_help_has_an_example_and_json(run: Run, command: list[str]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert f"Example: ofa-hw {' '.join(command)}" in " ".join(out.split())
    assert "--json" in out


def test_a_fine_tuned_network_is_better_and_runs_elsewhere(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(SPEC)
    code, out, err = run(*("evaluate", "--weights", weights, "--spec", spec, "--data", "digits"))
    assert code == 0, err
    assert re.search(r"top-1 \d+\.\d+% on 397 validation images", out)
    code, out, err = run(
        *("finetune", "--weights", weights, "--spec", SPEC, "--data", "digits"),
        *("--epochs", 4, "--rate", 0.1, "-o", tmp_path / "net.pth"),
        *("--export", tmp_path / "net.onnx", "--checkpoints", tmp_path / "tuning", "--json"),
    )
    assert code == 0, err
    assert (tmp_path / "tuning" / "last.pt").exists()
    result = json.loads(out)
    assert result["spec"] == json.loads(SPEC)
    assert result["top1_after"] > result["top1_before"] + 0.2
    images = np.zeros((1, 1, 24, 24), np.float32)
    assert open_file(tmp_path / "net.onnx").run(images).shape == (1, 10)
    assert (tmp_path / "net.pth").exists()


@pytest.mark.parametrize("command", ["evaluate", "finetune"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"--spec": "{}"}, "not the JSON of a sub-network", id="no spec"),
        pytest.param({"--spec": "missing.json"}, r"missing\.json", id="no file"),
        pytest.param({"--spec": SPEC.replace("24", "25")}, "24, 28, 32", id="resolution"),
        pytest.param({"--data": "missing"}, "folder 'missing'.*digits", id="no data"),
        pytest.param({"--weights": "missing.pth"}, r"missing\.pth", id="no weights"),
        pytest.param({"--device": "cuda:7"}, "cuda:7.*cpu", id="no GPU"),
        pytest.param(
            {"--spec": get_space("tiny@classes=7").smallest().to_json()}, "10 classes", id="classes"
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    run: Run, weights: Path, tmp_path: Path, command: str, changes: dict[str, str], message: str
) -> None:
    options: dict[str, object] = {"--weights": weights, "--spec": SPEC, "--data": "digits"}
    if command == "finetune":
        options["--output"] = tmp_path / "net.pth"
    assert_refused(run, command, {**options, **changes}, message)
    assert not list(tmp_path.iterdir())


def test_only_images_that_can_be_read_are_counted(run: Run, images: Path, tmp_path: Path) -> None:
    space = with_classes(get_space("tiny"), 2)
    save_checkpoint(load_supernet(space), tmp_path / "net.pth")
    args = ("evaluate", "--weights", tmp_path / "net.pth", "--data", images, "--json")
    args += ("--spec", space.smallest(24).to_json(), "--split", "train", "--validation", 0.01)
    code, out, err = run(*args)
    assert code == 0, err
    found = json.loads(out)
    assert found["images"] == 20  # of 21: two are held out, and one is broken
    assert found["top1"] * 20 == pytest.approx(round(found["top1"] * 20))


def test_labels_and_evaluations_calibrate_on_as_many_images_as_training() -> None:
    assert cli.CALIBRATION_IMAGES == evaluate.CALIBRATION_IMAGES


def test_a_part_without_images_is_named(run: Run, weights: Path) -> None:
    options = {"--weights": weights, "--spec": SPEC, "--data": "digits", "--split": "holdout"}
    assert_refused(run, "evaluate", options, "validation, test or train")


def test_a_run_shows_how_sub_networks_fare_on_the_way_and_heeds_its_options(
    run: Run, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.toml").write_text(
        'name = "short"\nbatch_size = 10\n[[phase]]\nname = "full"\nepochs = 2\n'
        "learning_rate = 0.1\n"
    )
    code, out, err = run(
        *("train", "--space", "tiny", "--data", images, "--recipe", tmp_path / "short.toml"),
        *("--precision", "bfloat16", "--accumulate", 2, "--evaluate-epochs", 1),
        *("--labels", 0, "-o", tmp_path / "run"),
    )
    assert code == 0, err
    names = ("smallest", "largest", "random 1", "random 2")
    for step in (2, 4):
        table = err.split(f"after step {step} ")[1].splitlines()[1:]
        assert table[0].split() == ["sub-network", "kMACs", "validation", "top-1"]
        for name, row in zip(names, table[1:], strict=False):
            assert re.match(rf"{name} +\d+ +\d+\.\d%", row), row
    lines = read_log(tmp_path / "run" / "log.jsonl")
    evaluations = [line for line in lines if line["line"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [2, 4]
    assert all(line["top1"].keys() == set(names) for line in evaluations)
    for name in ("smallest at 24", "largest at 24", "smallest at 32", "largest at 32", "random 2"):
        assert f"{name}" in out
    execution = json.loads((tmp_path / "run" / "run.json").read_text())["execution"]
    assert (execution["precision"], execution["accumulate"]) == ("bfloat16", 2)


def test_finetune_keeps_a_file_in_the_way(run: Run, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("precious")
    options = {"--weights": weights, "--spec": SPEC, "--data": "digits"}
    assert_refused(run, "finetune", {**options, "--export": tmp_path / "net.onnx"}, "--force")
    assert (tmp_path / "net.onnx").read_text() == "precious"
    code, _, err = run("finetune", *(part for pair in options.items() for part in pair))
    assert code == 2
    assert "--output" in err


def assert_refused(run: Run, command: str, options: dict[str, object], message: str) -> None:
    """Exit code 1, nothing on stdout, one line that says what is wrong on stderr."""
    code, out, err = run(command, *(part for pair in options.items() for part in pair))
    assert code == 1, (out, err)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("ofa-hw: ")]
    assert len(lines) == 1, err
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in err
