"""A table of `tiny`, and its predictor, as files."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of `tiny` at 24 pixels on ONNX Runtime, measured roughly."""
    from ofa_hw import profile
    from ofa_hw.profiling import SamplingPlan

    path = tmp_path_factory.mktemp("tables") / "tiny.jsonl"
    plan = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.01)
    profile("tiny", backend="onnxruntime", output=path, resolutions=[24], plan=plan)
    return path


@pytest.fixture(scope="session")
def predictor(predictor_file: Path) -> Path:
    """The file of a predictor."""
    return predictor_file
