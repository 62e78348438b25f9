"""A table of `tiny` measured here, and a predictor for it."""

from pathlib import Path

import pytest

from ofa_hw import LatencyTable, load_table, profile
from ofa_hw.predictor import MlpPredictor, load_predictor
from ofa_hw.profiling import SamplingPlan


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
def predictor(predictor_file: Path) -> MlpPredictor:
    return load_predictor(predictor_file)
