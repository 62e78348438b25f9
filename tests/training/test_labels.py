import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.predictor import load_predictor
from ofa_hw.spaces import get_space
from ofa_hw.supernet import Supernet, load_supernet, save_checkpoint
from ofa_hw.training import DigitsData, collect_labels
from ofa_hw.training.fit_labels import fit_labels
from ofa_hw.training.folder import FolderData
from ofa_hw.training.labels import Label, drawn_spec, read_labels

torch.set_num_threads(1)
TINY = get_space("tiny")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return load_supernet("tiny", seed=1).eval()


@pytest.fixture(scope="module")
def labels(net: Supernet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    collect_labels(net, DigitsData(), 6, images=100, journal=path)
    return path


def test_a_file_that_was_cut_off_is_completed_without_measuring_again(
    net: Supernet, labels: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "labels.jsonl"
    torn.write_bytes(labels.read_bytes()[:-20])
    told: list[int] = []
    again = collect_labels(
        net, DigitsData(), 6, images=100, journal=torn, progress=lambda n, _: told.append(n)
    )
    assert told == [6]  # five were there
    assert torn.read_bytes() == labels.read_bytes()
    assert again == sorted(read_labels(labels)[1], key=lambda x: again.index(x))


def test_more_labels_are_added_to_those_that_are_there(
    net: Supernet, labels: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "labels.jsonl"
    copy.write_bytes(labels.read_bytes())
    more = collect_labels(net, DigitsData(), 7, images=100, journal=copy)
    assert copy.read_bytes().startswith(labels.read_bytes())
    assert [label.spec for label in more] == [drawn_spec(TINY, i, seed=0) for i in range(7)]


@pytest.mark.slow
def test_processes_measure_what_one_does_and_tell_of_broken_images(
    net: Supernet, labels: Path, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    collect_labels(net, DigitsData(), 6, images=100, journal=path, processes=2)
    assert path.read_bytes() == labels.read_bytes()
    data = FolderData(images, channels=1, validation=0.3)
    collect_labels(net, data, 2, images=20, processes=2)
    assert list(data.broken) == [images / "dark" / "broken.png"]


def test_labels_of_another_supernet_are_refused(labels: Path) -> None:
    before = labels.read_bytes()
    other = load_supernet("tiny", seed=2).eval()
    with pytest.raises(SpecError, match=r"weights is .* there and .* here"):
        collect_labels(other, DigitsData(), 6, images=100, journal=labels)
    assert labels.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda text: "", "not a file of labels", id="empty"),
        pytest.param(lambda text: "hello\n", "line 1: no line", id="text"),
        pytest.param(
            lambda text: text.replace('"top1"', '"top2"', 1), "line 2: no label", id="key"
        ),
        pytest.param(lambda text: text + "{}\n", "line 8: no line", id="line"),
    ],
)
def test_a_damaged_file_of_labels_is_named_with_its_line(
    labels: Path, tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(damage(labels.read_text()))
    with pytest.raises(CheckpointError, match=message):
        read_labels(path)


def made_up(count: int, noise: float) -> list[Label]:
    """Labels that grow with the logarithm of the multiply-accumulates."""
    rng = np.random.default_rng(0)
    specs = [drawn_spec(TINY, i, seed=0) for i in range(count)]
    macs = np.log([TINY.macs(spec) for spec in specs])
    top1 = 0.7 + 0.1 * (macs - macs.mean()) / macs.std() + rng.normal(0, noise, count)
    return [Label(s, float(np.clip(a, 0, 1))) for s, a in zip(specs, top1, strict=True)]


def test_a_learning_curve_tells_labels_that_help_from_those_that_do_not() -> None:
    clean = fit_labels(TINY, made_up(240, 0.0), hidden=(64, 64))
    assert clean.more_helps
    assert "more labels would help:" in clean.advice
    rmse = [point.rmse for point in clean.curve]
    assert rmse == sorted(rmse, reverse=True)
    assert clean.predictor.report is not None
    assert clean.predictor.report.spearman > 0.9
    noisy = fit_labels(TINY, made_up(240, 0.05), hidden=(64, 64), validation_images=30)
    assert not noisy.more_helps
    with pytest.raises(SpecError, match=r"10 distinct.*50 or more"):
        fit_labels(TINY, made_up(10, 0.0))


@pytest.mark.parametrize("model", ["mlp", "boosting"])
def test_a_file_of_labels_becomes_a_predictor(
    labels: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]], model: str
) -> None:
    path, output = tmp_path / "labels.jsonl", tmp_path / "predictor.npz"
    lines = [labels.read_text().splitlines()[0]]
    for index, label in enumerate(made_up(60, 0.0)):
        spec = json.loads(label.spec.to_json())
        line = {"line": "label", "index": index, "spec": spec, "top1": label.top1}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    args = ("predictor", "fit", path, "-o", output, "--hidden", 32, "--model", model)
    code, out, err = run(*args, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert {"rmse", "mae", "spearman", "kendall"} <= result["report"].keys()
    assert [point["labels"] for point in result["curve"]] == [12, 24, 48]
    predictor = load_predictor(output)
    assert predictor.predict([TINY.smallest(24)]).shape == (1,)
    assert predictor.report is not None
    assert predictor.report.rmse == result["curve"][-1]["rmse"] == result["report"]["rmse"]
    code, out, err = run(*args, "--force")
    assert code == 0, err
    assert f"Spearman {predictor.report.spearman:.3f}" in out
    assert "more labels would" in out


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


@pytest.mark.slow
def test_killed_labelling_goes_on_and_leaves_no_process(
    net: Supernet, labels: Path, tmp_path: Path
) -> None:
    weights, output = tmp_path / "supernet.pth", tmp_path / "labels.jsonl"
    save_checkpoint(net, weights)
    command = [sys.executable, "-c", "from ofa_hw.cli import main; main()", "label"]
    command += ["--space", "tiny", "--weights", str(weights), "--data", "digits"]
    command += ["--output", str(output), "--calibrate", "100", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--count", "300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + 200
        while not output.exists() or output.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        children = descendants(process.pid)
        assert len(children) >= 3  # the one that forks, and two that measure
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    done = output.read_bytes()
    deadline_s = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{child}") for child in children):
        assert time.monotonic() < deadline_s, children
        time.sleep(0.1)
    found = collect_labels(net, DigitsData(), 6, images=100, journal=output)
    assert output.read_bytes().startswith(done[: done.rindex(b"\n") + 1])
    assert found == collect_labels(net, DigitsData(), 6, images=100, journal=labels)
