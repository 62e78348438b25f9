"""The benchmarks of training run, and go on where they were stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_shrinking_compares_three_ways_to_train_and_trains_nothing_twice(tmp_path: Path) -> None:
    drawn = run("glyphs.py", str(tmp_path / "images"), "--train", "6", "--test", "1")
    if "fonts" in drawn.stderr:
        pytest.skip("this machine has not ten fonts with Greek and Cyrillic letters")
    whole = run("shrinking.py", str(tmp_path), "--quick")
    assert whole.returncode == 0, whole.stderr
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    shrinking, random, alone = results["runs"]
    assert [shrinking["name"], random["name"], alone["name"]] == [
        "shrinking",
        "random",
        "alone D2 W2 K3",
    ]
    assert random["macs_per_image"] == pytest.approx(shrinking["macs_per_image"])
    assert alone["passes"] == pytest.approx(shrinking["passes"])
    assert shrinking["top1"].keys() == random["top1"].keys() > alone["top1"].keys()
    assert results["predictor"]["labels"] == 12
    del results["runs"][1]
    path.write_text(json.dumps(results))
    again = run("shrinking.py", str(tmp_path), "--quick")
    assert again.returncode == 0, again.stderr
    assert [(run["name"], run["top1"]) for run in json.loads(path.read_text())["runs"]] == [
        (run["name"], run["top1"]) for run in (shrinking, random, alone)
    ]


@pytest.mark.slow
def test_the_loop_is_compared_with_the_bare_step_in_every_phase() -> None:
    arguments = ("--data", "digits", "--rounds", "1", "--steps", "2", "--cpu-time", "--json")
    told = run("training.py", *arguments)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert list(found["phases"]) == ["full", "kernel", "depth 1", "depth 2", "expand 1", "expand 2"]
    for phase in found["phases"].values():  # of a single round, so that medians are that one
        ratio = phase["loop_images_per_s"] / phase["bare_images_per_s"]
        assert phase["ratio"] == pytest.approx(ratio)
        assert 0.2 < ratio < 1.5
    assert found["ratio"] == found["ratios"][0]
    assert 0.3 < found["ratio"] < 1.25


@pytest.mark.slow
def test_the_published_space_is_measured_at_one_resolution_in_phases_of_ones_choice() -> None:
    chosen = ("--data", "photos224", "--recipe", "paper", "--phases", "kernel", "--batch-size", "2")
    told = run("training.py", *chosen, "--rounds", "1", "--steps", "1", "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert list(found["phases"]) == ["kernel"]
    assert (found["batch_size"], found["device"], found["precision"]) == (2, "cpu", "float32")
    assert found["phases"]["kernel"]["loop_images_per_s"] > 0
    wrong = run("training.py", "--recipe", "paper", "--phases", "widths")
    assert wrong.returncode == 1
    assert "paper has no phase 'widths'; it has ['full', 'kernel'" in wrong.stderr
