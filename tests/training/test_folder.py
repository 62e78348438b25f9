"""Folders of images of every kind, good and broken."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ofa_hw.errors import SpecError
from ofa_hw.spaces import SubnetSpec, get_space, with_classes
from ofa_hw.supernet import load_supernet
from ofa_hw.training import (
    Pace,
    Recipe,
    ShrinkingPhase,
    collect_labels,
    read_log,
    train_supernet,
)
from ofa_hw.training.decode import Augmentation
from ofa_hw.training.folder import FolderData

FORMATS = (("RGB", "png"), ("L", "jpg"), ("RGBA", "png"), ("P", "gif"), ("RGB", "webp"))


def write_images(folder: Path, count: int, *, classes: int = 3, seed: int = 0) -> None:
    """Bright images of one class, darker ones of the next, in every mode and many sizes."""
    rng = np.random.default_rng(seed)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for index in range(count):
            width, height = rng.integers(20, 60, 2)
            base = 40 + 180 * label // max(1, classes - 1)
            pixels = rng.integers(base - 30, base + 30, (height, width, 3)).astype(np.uint8)
            mode, suffix = FORMATS[index % len(FORMATS)]
            image = Image.fromarray(pixels).convert(mode)
            image.save(folder / f"class{label}" / f"{index}.{suffix}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 20)
    return tmp_path / "images"


def test_a_part_of_each_class_is_held_out(folder: Path) -> None:
    data = FolderData(folder, validation=0.2)
    assert data.classes == ("class0", "class1", "class2")
    assert [data.size(split) for split in ("train", "validation", "test")] == [48, 12, 0]
    labels = torch.cat([labels for _, labels in data.batches("validation", 24, 5)])
    assert torch.bincount(labels).tolist() == [4, 4, 4]
    for split, few in (("train", 16), ("validation", 6)):  # the first ones calibrate and compare
        first = next(iter(data.batches(split, 24, few)))[1]
        assert len(torch.unique(first)) == 3


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_folder_of_test_images_is_the_test_part(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "train", 10)
    write_images(tmp_path / name, 4, seed=1)
    data = FolderData(tmp_path)
    assert [data.size(split) for split in ("train", "validation", "test")] == [27, 3, 12]


@pytest.mark.parametrize("channels", [1, 3])
def test_training_batches_are_varied_and_the_same_for_the_same_seed(
    folder: Path, channels: int
) -> None:
    data = FolderData(folder, channels=channels, threads=2)

    def epoch(seed: int, skip: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
        rng = np.random.default_rng(seed)
        return list(data.epoch(iter([24, 32] * 5), 10, rng=rng, skip=skip))

    first, again, other, later = epoch(0), epoch(0), epoch(1), epoch(0, skip=2)
    assert [tuple(x.shape) for x, _ in first[:2]] == [
        (10, channels, 24, 24),
        (10, channels, 32, 32),
    ]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert len(later) == len(first) - 2
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first[2:], later, strict=True))


def test_workers_share_the_batch_that_one_would_take(folder: Path) -> None:
    data = FolderData(folder)

    def batch(rank: int, size: int) -> torch.Tensor:
        rng = np.random.default_rng(0)
        return next(iter(data.epoch(iter([24] * 9), 10, rng=rng, shard=(rank, size))))[0]

    whole = batch(0, 1)
    assert torch.equal(whole[0::2], batch(0, 2))
    assert torch.equal(whole[1::2], batch(1, 2))


def test_without_variation_an_image_is_itself(tmp_path: Path) -> None:
    for name, level in (("black", 0), ("white", 255)):
        (tmp_path / name).mkdir()
        for index in range(4):
            Image.new("RGB", (30, 40), (level,) * 3).save(tmp_path / name / f"{index}.png")
    plain = FolderData(tmp_path, augmentation=Augmentation(1.0, False, 0.0, 0.0))
    images, labels = next(iter(plain.epoch(iter([16]), 6, rng=np.random.default_rng(0))))
    levels = images * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    levels = levels + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    assert torch.allclose(levels, labels[:, None, None, None].float(), atol=1e-5)


def test_broken_images_are_named_once_counted_and_passed_over(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victims = [folder / "class0" / "0.png", folder / "class1" / "1.jpg", folder / "class2/4.webp"]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:200])
    victims[2].write_bytes(b"no image at all")
    data = FolderData(folder, validation=0.3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            batches = list(data.epoch(iter([24] * 20), 6, rng=np.random.default_rng(0)))
            assert len(batches) == data.size("train") // 6
            assert all(len(labels) == 6 for _, labels in batches)
            counts = {
                split: sum(len(labels) for _, labels in data.batches(split, 24, 7))
                for split in ("train", "validation")
            }
            assert sum(counts.values()) == 57
    assert set(data.broken) == set(victims)
    for victim in victims:
        assert caplog.text.count(f"passed over: {victim}") == 1


def test_cached_batches_are_those_that_were_decoded(folder: Path) -> None:
    data = FolderData(folder, validation=0.4)
    first, again = (list(data.batches("validation", 28, 5)) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda f: None, "no folder of images", id="no folder"),
        pytest.param(lambda f: f.mkdir(), "has 0 folders with images", id="empty"),
        pytest.param(lambda f: write_images(f, 2, classes=1), "has 1 folders", id="one class"),
    ],
)
def test_a_folder_that_cannot_be_learnt_from_is_refused(tmp_path: Path, make, message) -> None:
    make(tmp_path / "x")
    with pytest.raises(SpecError, match=message):
        FolderData(tmp_path / "x")


def test_a_class_that_only_the_test_has_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3, classes=2)
    write_images(tmp_path / "val", 3, classes=3)
    with pytest.raises(SpecError, match="class2"):
        FolderData(tmp_path)


def test_a_space_takes_the_classes_of_the_images() -> None:
    space = get_space("tiny@classes=60")
    assert space.num_classes == 60
    assert space.ops(space.largest())[-1].out_channels == 60
    assert with_classes(get_space("tiny"), 60).name == space.name
    assert with_classes(space, 7).name == "tiny@classes=7"
    spec = space.sample(rng=np.random.default_rng(0))
    assert SubnetSpec.from_json(spec.to_json()) == spec
    assert get_space(spec.space).require(spec) == spec
    with pytest.raises(SpecError, match="tiny, not"):
        space.require(get_space("tiny").largest())
    with pytest.raises(SpecError, match="classes=N"):
        get_space("tiny@classes=many")


def test_a_supernet_learns_from_a_folder_with_a_broken_image(folder: Path, tmp_path: Path) -> None:
    (folder / "class0" / "0.png").write_bytes(b"")
    data = FolderData(folder, channels=1, validation=0.2)
    recipe = Recipe("short", (ShrinkingPhase("full", 8, 0.1, warmup_epochs=1),), batch_size=12)
    trained = train_supernet(
        "tiny@classes=3", data, recipe, tmp_path / "run", labels=0, pace=Pace(600)
    )
    assert {network.spec.space for network in trained.evaluated} == {"tiny@classes=3"}
    steps = [line for line in read_log(tmp_path / "run" / "log.jsonl") if line["line"] == "step"]
    assert len(steps) == 36
    assert np.mean([s["loss"] for s in steps[-5:]]) < 0.8 * steps[0]["loss"]


def test_a_run_and_labels_of_other_images_of_equal_number_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    recipe = Recipe("short", (ShrinkingPhase("full", 0.3, 0.1),), batch_size=12)
    net = load_supernet("tiny@classes=3").eval()

    def go_on(images: Path) -> None:
        data = FolderData(images, channels=1)
        train_supernet("tiny@classes=3", data, recipe, tmp_path / "run", labels=0)

    def label(images: Path) -> None:
        data, path = FolderData(images, channels=1), tmp_path / "labels.jsonl"
        collect_labels(net, data, 2, images=10, journal=path)

    for what in (go_on, label):
        what(folder)
    moved = folder.rename(tmp_path / "moved")
    for what in (go_on, label):
        what(moved)  # the same images elsewhere
    image = moved / "class0" / "0.png"
    image.write_bytes((moved / "class1" / "0.png").read_bytes())
    for what in (go_on, label):
        with pytest.raises(SpecError, match=r"data\.files' names and sizes is '.*' there and"):
            what(moved)
    image.unlink()
    image.symlink_to("nowhere")  # a broken image is no fault of the listing
    with pytest.raises(SpecError, match=r"data\.files' names and sizes"):
        go_on(moved)
    # A folder of a version that did not write it goes on.
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    del identity["data"]["files' names and sizes"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(identity))
    go_on(moved)


PLAIN = {"smallest_area": 1.0, "flip": False, "brightness": 0.0, "saturation": 0.0}
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture
def ramp(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A folder of one image many times, a ramp of colour, and that image as it is (C, H, W)."""
    across = np.linspace(60, 140, 32)
    pixels = np.stack([across, across[::-1], np.full(32, 100.0)], 1)[None].repeat(32, 0)
    pixels[..., 2] += np.linspace(-40, 40, 32)[:, None]
    image = Image.fromarray(pixels.astype(np.uint8))
    for index in range(60):
        folder = tmp_path / "ramp" / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{index}.png")
    return tmp_path / "ramp", torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def seen(folder: Path, **how: float | bool) -> torch.Tensor:
    """Forty training images, varied in one way alone, in units of 0 to 1."""
    data = FolderData(folder, augmentation=Augmentation(**{**PLAIN, **how}))
    images, _ = next(iter(data.epoch(iter([32]), 40, rng=np.random.default_rng(0))))
    return images * STD + MEAN


def test_half_of_the_images_are_mirrored(ramp: tuple[Path, torch.Tensor]) -> None:
    images = seen(ramp[0], flip=True)
    kept = torch.isclose(images, ramp[1], atol=1e-5).all((1, 2, 3))
    mirrored = torch.isclose(images, ramp[1].flip(2), atol=1e-5).all((1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 10 <= int(mirrored.sum()) <= 30


def test_brightness_multiplies_an_image_by_a_factor_of_its_range(
    ramp: tuple[Path, torch.Tensor],
) -> None:
    factors = seen(ramp[0], brightness=0.4) / ramp[1]
    spread = factors.amax((1, 2, 3)) - factors.amin((1, 2, 3))
    assert float(spread.max()) < 1e-4
    factors = factors.mean((1, 2, 3))
    assert 0.6 <= float(factors.min()) < 0.75
    assert 1.25 < float(factors.max()) <= 1.4


def test_saturation_moves_colours_from_grey_and_keeps_what_is_grey_in_them(
    ramp: tuple[Path, torch.Tensor],
) -> None:
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (ramp[1] * luma).sum(0)
    images = seen(ramp[0], saturation=0.5)
    torch.testing.assert_close((images * luma).sum(1), grey.expand(40, 32, 32), rtol=0, atol=1e-5)
    factors = ((images - grey[None, None]) * (ramp[1] - grey)).sum((1, 2, 3)) / (
        (ramp[1] - grey) ** 2
    ).sum()
    assert 0.5 <= float(factors.min()) < 0.7
    assert 1.3 < float(factors.max()) <= 1.5


def test_crops_are_of_random_place_and_area(ramp: tuple[Path, torch.Tensor]) -> None:
    red = seen(ramp[0], smallest_area=0.1)[:, 0]  # a ramp from left to right
    widths = (red[:, 16, -1] - red[:, 16, 0]) / float(ramp[1][0, 0, -1] - ramp[1][0, 0, 0])
    assert float(widths.min()) < 0.5
    assert float(widths.max()) > 0.8
    assert float(red[:, 16, 0].std()) > 0.01
    whole = seen(ramp[0], smallest_area=1.0)
    torch.testing.assert_close(whole, ramp[1].expand(40, 3, 32, 32), rtol=0, atol=1e-5)
