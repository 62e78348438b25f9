import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ofa_hw.errors import CheckpointError, OutputExistsError, SpecError
from ofa_hw.supernet import load_supernet
from ofa_hw.training import (
    DigitsData,
    Pace,
    Recipe,
    ShrinkingPhase,
    read_log,
    train_supernet,
)

Start = Callable[..., subprocess.Popen[str]]
RECIPE = Recipe("two", (ShrinkingPhase("full", 0.2, 0.1),), batch_size=100)


@pytest.fixture(scope="module")
def whole(start_run: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    out, err = start_run(folder, 600).communicate(timeout=120)
    assert out.splitlines() == [*map(str, range(1, 9)), "done"], err
    return folder


def kill_after(process: subprocess.Popen[str], step: int) -> None:
    """Kills a run with SIGKILL as soon as it has told of a step."""
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == step:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def losses(folder: Path) -> list[dict[str, object]]:
    lines = read_log(folder / "log.jsonl")
    return [{k: v for k, v in line.items() if k != "duration_s"} for line in lines]


def weights_of(folder: Path, name: str = "supernet.pth") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / name, weights_only=True)["state_dict"]
    return state


@pytest.mark.parametrize(
    ("steps", "interval_s"),
    [
        pytest.param((1, 5), 0.0, id="twice, with a checkpoint after every step"),
        pytest.param((6,), 600.0, id="once, back to where the phase began"),
    ],
)
def test_a_killed_run_ends_with_the_numbers_of_one_that_was_not(
    start_run: Start, whole: Path, tmp_path: Path, steps: tuple[int, ...], interval_s: float
) -> None:
    for step in steps:
        kill_after(start_run(tmp_path, interval_s), step)
        assert not (tmp_path / "supernet.pth").exists()
    out, err = start_run(tmp_path, interval_s).communicate(timeout=120)
    assert out.splitlines()[-1] == "done", err
    for name in ("supernet.pth", "best.pth"):
        expected, found = weights_of(whole, name), weights_of(tmp_path, name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    assert losses(tmp_path) == losses(whole)
    assert (
        json.loads((tmp_path / "result.json").read_text())["evaluated"]
        == (json.loads((whole / "result.json").read_text())["evaluated"])
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    start_run: Start,
    whole: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for name in ("supernet.pth", "result.json"):
        (tmp_path / name).unlink()
    damage(tmp_path / "checkpoints" / "last.pt")
    net = load_supernet("tiny")
    from ofa_hw.training.checkpoints import Checkpoints

    restored = Checkpoints(tmp_path / "checkpoints").restore(net, RECIPE)
    assert restored is not None
    assert restored[0].phase == 1  # the checkpoint of the first phase's end
    assert "last.pt is damaged" in caplog.text
    damage(tmp_path / "checkpoints" / "before.pt")
    with pytest.raises(CheckpointError, match=r"no checkpoint .* can be read: last.*before.*force"):
        Checkpoints(tmp_path / "checkpoints").restore(net, RECIPE)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train_supernet("tiny", DigitsData(), RECIPE, tmp_path, labels=0)
    before = (tmp_path / "supernet.pth").read_bytes()
    steps: list[int] = []
    again = train_supernet(
        "tiny", DigitsData(), RECIPE, tmp_path, labels=0, progress=lambda n, _: steps.append(n)
    )
    assert first.fresh
    assert not again.fresh
    assert again.summary() == first.summary()
    assert not steps
    assert (tmp_path / "supernet.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("space", "recipe", "seed", "message"),
    [
        pytest.param("tiny", RECIPE, 5, "seed is 0 there and 5 here", id="seed"),
        pytest.param(
            "tiny",
            Recipe("two", (ShrinkingPhase("full", 0.2, 0.2),), batch_size=100),
            0,
            r"recipe\.phases 1\.learning_rate is 0\.1 there and 0\.2 here",
            id="recipe",
        ),
    ],
)
def test_the_folder_of_another_run_is_refused_with_the_difference(
    whole: Path, tmp_path: Path, space: str, recipe: Recipe, seed: int, message: str
) -> None:
    pace = Pace(600)
    train_supernet("tiny", DigitsData(), RECIPE, tmp_path, labels=0, pace=pace)
    with pytest.raises(SpecError, match=f"{message}.*--force"):
        train_supernet(space, DigitsData(), recipe, tmp_path, labels=0, seed=seed, pace=pace)


def test_files_of_something_else_are_kept(tmp_path: Path) -> None:
    (tmp_path / "supernet.pth").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"supernet\.pth"):
        train_supernet("tiny", DigitsData(), RECIPE, tmp_path, labels=0)
    assert [path.name for path in tmp_path.iterdir()] == ["supernet.pth"]


def test_images_of_other_classes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(SpecError, match=r"10 classes.*60 apart; take the space tiny"):
        train_supernet("tiny@classes=60", DigitsData(), RECIPE, folder)
    assert not folder.exists()
