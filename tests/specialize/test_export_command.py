"""What `ofa-hw specialize` exports, in every data type and form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ofa_hw import LatencyTable, get_space, specialize
from ofa_hw.cli.exporting import Exporting
from ofa_hw.errors import ExportError, ParityError
from ofa_hw.export import read_provenance
from ofa_hw.lowering.files import open_file
from ofa_hw.predictor import MlpPredictor
from ofa_hw.subnet import Subnet
from ofa_hw.training import DigitsData, calibration_batches
from ofa_hw.training.data import Split


@pytest.fixture
def ship(
    run, table_file: Path, predictor_file: Path, weights: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `ofa-hw specialize` with what it needs."""

    def call(*args: object) -> tuple[int, str, str]:
        needed = {
            "--space": "tiny",
            "--lut": table_file,
            "--predictor": predictor_file,
            "--latency-ms": 100,
            "--weights": weights,
        }
        return run("specialize", *(part for pair in needed.items() for part in pair), *args)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small pictures, some in a folder of their own."""
    rng = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / "images" / ("inner" if index % 2 else ".") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(path)
    return tmp_path / "images"


def test_eight_bits_are_calibrated_and_compared_on_the_data(ship, tmp_path: Path) -> None:
    paths = [tmp_path / "net.onnx", tmp_path / "net.tflite"]
    exports = [part for path in paths for part in ("--export", path)]
    code, out, err = ship(
        *("--data", "digits", "--dtype", "int8", "--min-agreement", 0),
        *("--uint8-input", "--dynamic-batch", "--json", *exports),
    )
    assert code == 0, err
    for path, told in zip(paths, json.loads(out)["files"], strict=True):
        assert (told["dtype"], told["images"], told["undelegated"]) == ("int8", 256, [])
        assert told["notes"] == ["no latency promised, as the table is of fp32"]
        (taken,) = open_file(path).inputs
        assert (taken.dtype, taken.shape[0]) == (np.uint8, None)
        provenance = read_provenance(path)
        assert (provenance.dtype, provenance.space) == ("int8", "tiny")
        assert provenance.predicted_latency_ms is None
        assert provenance.device is not None
        assert provenance.device.dtype == "fp32"


def test_a_folder_of_images_does_without_labels(ship, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    code, out, err = ship(
        *("--calibration-images", folder, "--dtype", "int8", "--min-agreement", 0),
        *("--export", path),
    )
    assert code == 0, err
    assert "int8, within" in out.splitlines()[-1]
    assert "of 6 images" in out.splitlines()[-1]


@pytest.fixture
def subnet(table: LatencyTable, predictor: MlpPredictor, weights: Path) -> Callable[..., Subnet]:
    """Takes a sub-network from untrained weights, whose batch norms see digits if asked to."""

    def call(calibration: Callable[[int], list[torch.Tensor]] | None = None) -> Subnet:
        return specialize(
            get_space("tiny"),
            predictor=predictor,
            lut=table,
            latency_ms=100,
            weights=weights,
            calibration=calibration,
        )

    return call


def test_files_are_compared_on_images_that_batch_norms_were_calibrated_on(
    subnet: Callable[..., Subnet], tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    assert subnet().images is None
    assert subnet().export(path).notes == ("compared on noise, for want of images",)
    data = DigitsData()
    calibrated = subnet(partial(calibration_batches, data))
    assert calibrated.images is not None
    file = calibrated.export(path, force=True)
    assert (file.check.images, file.notes) == (64, ())
    (train, _), *_ = data.batches("train", calibrated.spec.resolution, 1000)
    known = {image.numpy().tobytes() for image in train}
    assert {image.tobytes() for image in calibrated.images} <= known
    file = calibrated.export(path, dtype="int8", min_agreement=0, force=True)
    assert file.check.images == 32
    assert calibrated.export(path, batch=100, force=True).check.images == 200
    few = subnet(lambda side: [train[:3]])
    assert few.export(path, dtype="int8", min_agreement=0, batch=4, force=True).check.images == 4


def test_without_validation_images_eight_bits_are_compared_on_training_images(
    subnet: Callable[..., Subnet], tmp_path: Path
) -> None:
    class NoneHeldOut(DigitsData):
        def batches(
            self, split: Split, resolution: int, batch_size: int
        ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return super().batches(split, resolution, batch_size) if split == "train" else iter(())

    how = Exporting(paths=[tmp_path / "net.onnx"], dtype="int8", min_agreement=0)
    (file,) = how.write(subnet(), NoneHeldOut())
    assert (file.check.images, file.notes[1:]) == (128, ())
    assert file.check.agreement < 1  # untrained, it is in doubt about most
    demanding = replace(how, min_agreement=1.0, force=True)
    with pytest.raises(ParityError, match="128 images, less than 100"):
        demanding.write(subnet(), NoneHeldOut())


def test_names_of_classes_are_kept_in_the_file(ship, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"nº {i}\n" for i in range(10)))
    path = tmp_path / "net.onnx"
    code, _, err = ship("--export", path, "--labels", names, "--dtype", "fp16")
    assert code == 0, err
    assert read_provenance(path).labels == tuple(f"nº {i}" for i in range(10))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dtype", "int8"], "without --export FILE"),
        (["--labels", "x.txt"], "without --export FILE"),
        (["--export", "a.onnx", "--dtype", "int8"], "pass --data NAME or --calibration-images"),
        (["--export", "a.onnx", "--batch", 2, "--dynamic-batch"], "exclude each other"),
        (["--export", "a.onnx", "--mean", "0.5"], "belong together"),
        (["--export", "a.onnx", "--mean", "0.5", "--std", "0.5"], "pass --uint8-input"),
        (
            ["--export", "a.onnx", "--data", "digits", "--mean", "0.5", "--std", "0.5"],
            "or --calibration-images FOLDER",
        ),
        (["--export", "a.onnx", "--min-agreement", 2], "min-agreement"),
    ],
    ids=[
        *("no file", "labels of no file", "no images", "two batches", "half a pair"),
        *("nothing to normalise", "data that has its own", "above 1"),
    ],
)
def test_options_that_contradict_each_other_exit_with_2(
    ship, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, args: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = ship(*args)
    assert code == 2
    assert out == ""
    assert message in " ".join(err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a.onnx", "--dtype", "bf16"], "no data type 'bf16'; choose from fp32, fp16, int8"),
        (["a.onnx", "--uint8-input", "--mean", "x", "--std", "1"], "numbers like 0.5"),
        (["a.onnx", "--uint8-input", "--mean", "1,1", "--std", "1,1"], "takes 1 channels"),
        (["a.onnx", "--uint8-input", "--mean", "1", "--std", "0"], "positive standard deviation"),
        (["a.onnx", "--labels", "absent.txt"], "--labels cannot be read from absent.txt"),
        (["a.onnx", "--labels", "two.txt"], "2 labels for 10 classes"),
        (["a.onnx", "--calibration-images", "empty", "--dtype", "int8"], "no images in empty"),
        (["a.onnx", "--calibration-images", "broken", "--dtype", "int8"], "cannot be read as an"),
    ],
    ids=lambda value: " ".join(map(str, value[1:])) if isinstance(value, list) else "",
)
def test_what_cannot_be_exported_is_said_in_one_sentence(
    ship, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, args: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_text("no image")
    (tmp_path / "two.txt").write_text("a\nb\n")
    code, out, err = ship("--export", *args)
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("ofa-hw: ")]
    assert message in line
    assert not list(tmp_path.glob("a.*"))


def test_a_latency_is_promised_for_the_data_type_and_batch_of_the_table(
    subnet: Callable[..., Subnet], tmp_path: Path
) -> None:
    chosen, path = subnet(), tmp_path / "net.onnx"
    for batch, is_promised in ((1, True), (2, False), (None, True)):
        file = chosen.export(path, batch=batch, force=True)
        promised = read_provenance(path).predicted_latency_ms
        assert promised == (chosen.latency_ms if is_promised else None)
        assert any("batch 1" in note for note in file.notes) == (not is_promised)
    with pytest.raises(ExportError, match="at least 1 image"):
        chosen.export(tmp_path / "none.onnx", batch=0)
