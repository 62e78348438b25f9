"""A trained `tiny` and a table, made once; and the command line as a function."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ofa_hw.cli import main
from ofa_hw.spaces import get_space

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `ofa-hw ARGS` in this process; gives exit code, stdout and stderr."""

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


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the supernet `tiny`, not trained."""
    from ofa_hw.supernet import load_supernet, save_checkpoint

    path = tmp_path_factory.mktemp("weights") / "supernet.pth"
    save_checkpoint(load_supernet("tiny"), path)
    return path


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor fitted to the logarithm of MACs."""
    import math

    import numpy as np

    from ofa_hw.predictor import fit_predictor

    space = get_space("tiny")
    rng = np.random.default_rng(0)
    specs = [space.sample(rng=rng) for _ in range(60)]
    top1 = [math.log10(space.macs(spec)) / 10 for spec in specs]
    path = tmp_path_factory.mktemp("predictor") / "predictor.npz"
    fit_predictor(space, specs, top1, seed=0, hidden=(32,), max_epochs=60).save(path)
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of `tiny` at 24 pixels on ONNX Runtime, measured roughly."""
    from ofa_hw import profile
    from ofa_hw.profiling import SamplingPlan

    path = tmp_path_factory.mktemp("tables") / "tiny.jsonl"
    plan = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.01)
    profile("tiny", backend="onnxruntime", output=path, resolutions=[24], plan=plan)
    return path
