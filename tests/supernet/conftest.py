import json
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

State = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def golden_shapes(shared_data: Path) -> dict[str, dict[str, list[int]]]:
    shapes: dict[str, dict[str, list[int]]] = json.loads(
        (shared_data / "golden/checkpoint_shapes.json").read_text()
    )
    return shapes


@pytest.fixture(scope="session")
def golden_cases(shared_data: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(
        (shared_data / "golden/subnet_outputs.json").read_text()
    )
    return cases


@pytest.fixture(scope="session")
def golden_weights(golden_shapes: dict[str, dict[str, list[int]]]) -> Callable[[str], State]:
    @cache
    def weights(name: str) -> State:
        return {key: _golden_tensor(key, shape) for key, shape in golden_shapes[name].items()}

    return weights


def _golden_tensor(key: str, shape: list[int]) -> torch.Tensor:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("_matrix"):
        values = np.eye(shape[0]) + 0.05 * rng.standard_normal(shape)
    elif key.endswith("running_var"):
        values = 0.5 + rng.random(shape)
    elif key.endswith(("running_mean", "bias")):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        values = 0.5 + rng.random(shape)
    else:
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))
