"""A table of `tiny` measured here, a predictor for it, and the command line as a function."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ofa_hw import LatencyTable, fit_predictor, get_space, load_table, profile
from ofa_hw.cli import main
from ofa_hw.predictor import MlpPredictor, load_predictor
from ofa_hw.profiling import SamplingPlan

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "tiny.jsonl"
    plan = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.02)
    profile("tiny", backend="onnxruntime", output=path, resolutions=[24, 32], plan=plan)
    return path


@pytest.fixture(scope="session")
def table(table_file: Path) -> LatencyTable:
    return load_table(table_file)


@pytest.fixture(scope="session")
def predictor_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space, rng = get_space("tiny"), np.random.default_rng(0)
    specs = [space.sample(rng=rng) for _ in range(60)]
    top1 = [math.log10(space.macs(spec)) / 10 for spec in specs]
    path = tmp_path_factory.mktemp("predictor") / "predictor.npz"
    fit_predictor(space, specs, top1, seed=0, hidden=(32,), max_epochs=60).save(path)
    return path


@pytest.fixture(scope="session")
def predictor(predictor_file: Path) -> MlpPredictor:
    return load_predictor(predictor_file)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["ofa-hw", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call
