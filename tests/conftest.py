"""What the tests share."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# One thread: tests run beside each other and on busy machines, where threads wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The published predictors, tables and reference outputs; CI must have them."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("OFA_HW_SHARED", root.parent / "shared")) / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing; CI must have the published data")
        pytest.skip(f"{folder} is absent (set OFA_HW_SHARED to the folder that holds data/)")
    return folder


BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def run_page(tmp_path: Path) -> Callable[..., str]:
    """Runs the blocks of sh and python of a page of documentation in order, in `tmp_path`.

    A block `file=NAME` is written there. Gives what the last block printed.
    """
    root, bin_folder = Path(__file__).parents[1], Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": "."}

    def run(
        page: str,
        *,
        without: tuple[str, ...] = (),
        replaced: Mapping[str, str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> str:
        out, content = "", (root / page).read_text()
        for words, others in (replaced or {}).items():
            assert words in content, f"{page} has no {words!r} any more"
            content = content.replace(words, others)
        for language, name, text in BLOCK.findall(content):
            if name:
                (tmp_path / name).write_text(text)
            if name or language not in ("sh", "python"):
                continue
            code = "".join(
                line for line in text.splitlines(keepends=True) if not line.startswith(without)
            )
            done = subprocess.run(
                ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable, "-"],
                input=code,
                cwd=tmp_path,
                env={**env, **(environment or {})},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            out = done.stdout
        return out

    return run


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `ofa-hw ARGS` in this process; gives exit code, stdout and stderr."""

    from ofa_hw.cli import main

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
def predictor_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor fitted to the logarithm of MACs."""
    import math

    import numpy as np

    from ofa_hw.predictor import fit_predictor
    from ofa_hw.spaces import get_space

    space = get_space("tiny")
    rng = np.random.default_rng(0)
    specs = [space.sample(rng=rng) for _ in range(60)]
    top1 = [math.log10(space.macs(spec)) / 10 for spec in specs]
    path = tmp_path_factory.mktemp("predictor") / "predictor.npz"
    fit_predictor(space, specs, top1, seed=0, hidden=(32,), max_epochs=60).save(path)
    return path
