import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ofa_hw.errors import CheckpointError, OutputExistsError, SpecError
from ofa_hw.supernet import load_supernet, save_checkpoint
from ofa_hw.training import (
    DigitsData,
    Recipe,
    ShrinkingPhase,
    read_log,
    train_supernet,
)
from ofa_hw.training.checkpoints import Checkpoints
from ofa_hw.training.folder import FolderData

Start = Callable[..., Any]
RECIPE = Recipe("two", (ShrinkingPhase("full", 0.2, 0.1),), batch_size=100)


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
        child = start_run(tmp_path, interval_s=interval_s)
        child.hear(step)
        child.process.kill()
        child.process.join()
        assert child.process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "supernet.pth").exists()
    assert start_run(tmp_path, interval_s=interval_s).hear()[-1] == "done"
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_workers_that_read_files_end_with_the_numbers_of_those_that_were_not(
    start_run: Start,
    meeting_place: Callable[[int], list[dict[str, str]]],
    images: Path,
    tmp_path: Path,
    workers: int,
) -> None:
    def start(folder: str) -> list[Any]:
        options = {"images": str(images), "batch_size": 4}
        return [
            start_run(tmp_path / folder, environment=environment, **options)
            for environment in meeting_place(workers)
        ]

    assert [child.hear() for child in start("whole")] == [[1, 2, 3, 4, "done"]] * workers
    for step in (1, 3):
        children = start("killed")
        children[0].hear(step)
        for child in children:
            child.process.kill()
            child.process.join()
    assert [child.hear()[-1] for child in start("killed")] == ["done"] * workers
    assert_same(tmp_path / "killed", tmp_path / "whole")


def assert_same(found: Path, expected: Path) -> None:
    """Compares the numbers of two runs, bit for bit."""
    for name in ("supernet.pth", "best.pth"):
        weights, wanted = weights_of(found, name), weights_of(expected, name)
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(wanted[key], weights[key]) for key in wanted), name
    assert losses(found) == losses(expected)
    results = (json.loads((path / "result.json").read_text()) for path in (found, expected))
    assert next(results)["evaluated"] == next(results)["evaluated"]


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(
    start_run: Start, whole: Path, tmp_path: Path
) -> None:
    told = start_run(tmp_path, disk_full_after=3).hear()
    assert told[:-1] == [1, 2, 3]
    assert re.match(r"CheckpointError: cannot write a checkpoint to .*make room", told[-1])
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"last.pt", "before.pt"}  # nothing half-written
    assert start_run(tmp_path).hear() == [*range(3, 9), "done"]
    assert_same(tmp_path, whole)


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
    whole: Path, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "last.pt")
    checkpoints, net = Checkpoints(tmp_path / "checkpoints"), load_supernet("tiny")
    restored = checkpoints.restore(net, RECIPE)
    assert restored is not None
    assert restored[0].phase == 1  # the checkpoint of the first phase's end
    assert "last.pt is damaged" in caplog.text
    damage(tmp_path / "checkpoints" / "before.pt")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint .* can be read: last.*before.*remove"
    ):
        checkpoints.restore(net, RECIPE)


def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one_before_it(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path, dirs_exist_ok=True)
    last, before = tmp_path / "last.pt", tmp_path / "before.pt"
    truncate(last)
    good = before.read_bytes()
    checkpoints, net = Checkpoints(tmp_path), load_supernet("tiny")
    restored = checkpoints.restore(net, RECIPE)
    assert restored is not None
    for saved in (1, 2):
        checkpoints.save(net, restored[0], {"saved": saved})
        assert torch.load(last, weights_only=True)["notes"] == f'{{"saved": {saved}}}'
        # A kill between the two renames of a save leaves this one alone.
        notes = torch.load(before, weights_only=True)["notes"]
        assert (before.read_bytes() == good) if saved == 1 else (notes == '{"saved": 1}')


def test_what_a_killed_writer_left_is_removed_when_the_run_goes_on_or_is_replaced(
    images: Path, tmp_path: Path
) -> None:
    recipe, data = replace(RECIPE, batch_size=10), FolderData(images, channels=1)
    left = tmp_path / "run" / "checkpoints" / ".last.pt.12345.part"
    for force in (None, False, True):
        if force is not None:
            (tmp_path / "run" / "supernet.pth").unlink()
            (tmp_path / "run" / "result.json").unlink()
            left.write_bytes(b"half of a checkpoint")
        train_supernet(
            "tiny@classes=2", data, recipe, tmp_path / "run", labels=0, force=bool(force)
        )
        assert {path.name for path in left.parent.iterdir()} <= {"last.pt", "before.pt"}


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_with_the_same_numbers(
    start_run: Start, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for name in ("supernet.pth", "result.json"):
        (tmp_path / name).unlink()
    truncate(tmp_path / "checkpoints" / "last.pt")
    assert start_run(tmp_path).hear() == [*range(5, 9), "done"]
    assert_same(tmp_path, whole)


def test_a_finished_run_is_not_trained_again_nor_mixed_with_another(tmp_path: Path) -> None:
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

    other = Recipe("two", (ShrinkingPhase("full", 0.2, 0.2),), batch_size=100)
    for recipe, seed, message in (
        (RECIPE, 5, "seed is 0 there and 5 here"),
        (other, 0, r"recipe\.phases 1\.learning_rate is 0\.1 there and 0\.2 here"),
    ):
        with pytest.raises(SpecError, match=f"{message}.*--force"):
            train_supernet("tiny", DigitsData(), recipe, tmp_path, labels=0, seed=seed)
    assert (tmp_path / "supernet.pth").read_bytes() == before


def test_files_of_something_else_are_kept(tmp_path: Path) -> None:
    (tmp_path / "supernet.pth").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"supernet\.pth"):
        train_supernet("tiny", DigitsData(), RECIPE, tmp_path, labels=0)
    assert [path.name for path in tmp_path.iterdir()] == ["supernet.pth"]


def test_too_few_labels_for_a_predictor_are_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(SpecError, match=r"9 labels of 9 distinct.*10 distinct"):
        train_supernet("tiny", DigitsData(), RECIPE, folder, labels=9)
    assert not folder.exists()


def test_images_of_other_classes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(SpecError, match=r"10 classes.*60 apart; take the space tiny"):
        train_supernet("tiny@classes=60", DigitsData(), RECIPE, folder)
    assert not folder.exists()


def test_a_run_starts_from_given_weights_which_teach_if_the_full_phase_is_skipped(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    start, recipe = tmp_path / "own.pth", tmp_path / "still.toml"
    net = load_supernet("tiny", seed=7)
    save_checkpoint(net, start)
    recipe.write_text(
        'name = "still"\nbatch_size = 100\n[[phase]]\nname = "kernel"\nepochs = 0.2\n'
        'learning_rate = 0.0\nkernel_sizes = "all"\n'
    )
    args = ("train", "--space", "tiny", "--labels", 0, "--recipe", recipe, "-o", tmp_path / "run")
    code, _, err = run(*args, "--start", start)
    assert code == 0, err
    trained = load_supernet("tiny", tmp_path / "run" / "supernet.pth")
    pairs = zip(net.parameters(), trained.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert all(torch.equal(last["teacher"][key], value) for key, value in net.state_dict().items())
    save_checkpoint(load_supernet("tiny", seed=8), start)
    for changed, message in ((start, "start is '"), (tmp_path / "no.pth", "cannot read .*no.pth")):
        code, _, err = run(*args, "--start", changed)
        assert code == 1
        assert re.search(message, err), err
