"""A trained network keeps its accuracy in fewer bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ofa_hw.export import ExportOptions, export_module
from ofa_hw.lowering.files import open_file
from ofa_hw.spaces import get_space
from ofa_hw.supernet import load_supernet
from ofa_hw.training import DigitsData

SIDE = 24


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    """The smallest network of the space `tiny`, trained on digits for some seconds."""
    torch.manual_seed(0)
    module = load_supernet("tiny").extract(get_space("tiny").smallest(SIDE)).train()
    optimiser = torch.optim.Adam(module.parameters(), 4e-3)
    rng, data = np.random.default_rng(0), DigitsData()
    for _ in range(3):
        for images, labels in data.epoch(iter([SIDE] * 99), 50, rng=rng):
            optimiser.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimiser.step()
    return module.eval()


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    (images, labels), *_ = DigitsData().batches(split, SIDE, 1000)
    return images.numpy(), labels.numpy()


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize(("dtype", "agreement"), [("fp16", 1.0), ("int8", 0.97)])
def test_a_trained_network_tells_the_same_digits(
    tmp_path: Path, trained: torch.nn.Module, suffix: str, dtype: str, agreement: float
) -> None:
    calibration, _ = digits("train")
    images, labels = digits("test")
    file = export_module(
        trained,
        (1, 1, SIDE, SIDE),
        tmp_path / f"net{suffix}",
        options=ExportOptions(dtype=dtype, dynamic_batch=True),
        images=images,
        calibration=calibration[:100],
    )
    assert file.check.agreement >= agreement
    with torch.inference_mode():
        before = float((trained(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())
    after = float((open_file(file.path).run(images).argmax(1) == labels).mean())
    assert before > 0.8
    assert after >= before - 0.01
