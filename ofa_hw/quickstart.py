"""The main job from end to end on built-in data: train, profile, search, ship, on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from ofa_hw.errors import OutputExistsError
from ofa_hw.export import ExportedFile, write_text
from ofa_hw.latency import LatencyTable, fill_table
from ofa_hw.latency.bench import bench_file
from ofa_hw.latency.calibrate import calibrate_table
from ofa_hw.latency.validate import validate_table
from ofa_hw.lowering.files import open_file
from ofa_hw.lowering.torch_session import torch_threads
from ofa_hw.profiling import ProfilerOptions, SamplingPlan, open_profiler
from ofa_hw.search import latency_range
from ofa_hw.spaces import get_space
from ofa_hw.specialize import specialize
from ofa_hw.subnet import Subnet
from ofa_hw.training import (
    DigitsData,
    calibration_batches,
    get_recipe,
    train_supernet,
)

Progress: TypeAlias = Callable[[str, int, int], None]
# The backends, and the file that each one runs.
BACKENDS: Final = {"onnxruntime": ".onnx", "tflite": ".tflite", "cpu": ".pt2"}
_LABELS = 100
_NETWORKS = 9  # fewer have no 90 % interval
_TABLE_PLAN = SamplingPlan(relative_ci=0.03, min_time_s=0.01, max_time_s=0.1)
_NETWORK_PLAN = SamplingPlan(relative_ci=0.02, min_time_s=0.05, max_time_s=0.2)
_BUDGET = 0.5


@dataclass(frozen=True, slots=True)
class QuickstartRow:
    """What was chosen for one backend, what was promised and what was measured.

    Attributes:
        backend: Name of the backend.
        budget_ms: The latency allowed.
        predicted_ms: What the calibrated table says.
        measured_ms: Median latency of the exported file.
        predicted_top1: What the predictor says.
        measured_top1: Of the exported file, on images that nothing has seen before.
        file: The exported file.
    """

    backend: str
    budget_ms: float
    predicted_ms: float
    measured_ms: float
    predicted_top1: float
    measured_top1: float
    file: Path

    @property
    def miss(self) -> float:
        """Measured over predicted latency, less one."""
        return self.measured_ms / self.predicted_ms - 1


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """What the quickstart made.

    Attributes:
        folder: Holds every artefact.
        rows: One a backend.
    """

    folder: Path
    rows: tuple[QuickstartRow, ...]

    def summary(self) -> dict[str, Any]:
        """The same, for JSON."""
        rows = [{**asdict(row), "file": str(row.file)} for row in self.rows]
        return {"folder": str(self.folder), "rows": rows}


def run_quickstart(
    folder: Path | None = None,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> QuickstartResult:
    """Trains the space `tiny` on digits and ships a sub-network of it for each local backend.

    The budget of each backend lies halfway between its fastest and its slowest sub-network.

    Args:
        folder: Where everything goes; a new folder in `runs/` by default.
        seed: Of training, labels and search.
        force: Whether to write into a folder that is not empty.
        progress: Called with the name of a stage, steps done and steps in all.

    Raises:
        OutputExistsError: If the folder is not empty and `force` is false.
    """
    folder = folder or Path("runs") / f"quickstart-{datetime.now():%Y%m%d-%H%M%S}"
    if folder.exists() and any(folder.iterdir()) and not force:
        raise OutputExistsError(folder)

    def stage(name: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(name, done, total) if progress else None

    data = DigitsData()
    rows = []
    with torch_threads(1):  # networks this small gain little from more, and wait on a busy machine
        train_supernet(
            "tiny",
            data,
            get_recipe("digits"),
            folder,
            labels=_LABELS,
            seed=seed,
            force=True,
            progress=stage("training"),
        )
        for backend in BACKENDS:
            table = _measured_table(backend, folder / f"{backend}.jsonl", stage)
            rows.append(_ship(backend, table, folder, data, seed))
    result = QuickstartResult(folder, tuple(rows))
    write_text(folder / "results.json", json.dumps(result.summary(), indent=2) + "\n")
    return result


def _measured_table(
    backend: str, path: Path, stage: Callable[[str], Callable[[int, int], None]]
) -> LatencyTable:
    """Fills, validates and calibrates the table of one backend."""
    space = get_space("tiny")
    profiler = open_profiler(backend, ProfilerOptions())
    try:
        filling, validating = stage(f"profiling {backend}"), stage(f"validating {backend}")
        fill_table(space, profiler, path, plan=_TABLE_PLAN, force=True, progress=filling)
        validate_table(
            path,
            space,
            profiler,
            networks=_NETWORKS,
            plan=_NETWORK_PLAN,
            progress=validating,
        )
        return calibrate_table(path)
    finally:
        profiler.close()


def _ship(
    backend: str, table: LatencyTable, folder: Path, data: DigitsData, seed: int
) -> QuickstartRow:
    """Finds, exports, runs and times the sub-network of one backend."""
    fastest, slowest = latency_range(get_space("tiny"), table)
    budget_ms = fastest + _BUDGET * (slowest - fastest)
    subnet = specialize(
        "tiny",
        predictor=folder / "predictor.npz",
        lut=table,
        latency_ms=budget_ms,
        weights=folder / "supernet.pth",
        calibration=partial(calibration_batches, data),
        seed=seed,
    )
    images = _test_images(data, subnet)
    files: dict[str, ExportedFile] = {
        suffix: subnet.export(folder / f"{backend}{suffix}", images=images[0][:50], force=True)
        for suffix in dict.fromkeys((BACKENDS[backend], ".onnx", ".tflite"))
    }
    shipped = files[BACKENDS[backend]].path
    return QuickstartRow(
        backend,
        budget_ms,
        subnet.latency_ms,
        bench_file(shipped, max_time_s=2.0).statistics.median_ms,
        subnet.top1,
        _top1(shipped, *images),
        shipped,
    )


def _test_images(data: DigitsData, subnet: Subnet) -> tuple[np.ndarray, np.ndarray]:
    """The test images at the sub-network's resolution (N, C, H, W), and their labels (N,)."""
    batches = list(data.batches("test", subnet.spec.resolution, data.size("test")))
    images, labels = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
    return images, labels


def _top1(file: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of images that an exported file classifies rightly, one at a time."""
    session = open_file(file)
    answers = [int(session.run(images[i : i + 1]).argmax()) for i in range(len(images))]
    return float(np.mean(np.array(answers) == labels))
