"""What the tests share."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
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
    """Runs the code blocks of a page of documentation in their order, in `tmp_path`.

    A block `file=NAME` is written there. Gives what the last block printed.
    """
    root, bin_folder = Path(__file__).parents[1], Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": "."}

    def run(
        page: str, *, without: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> str:
        out = ""
        for language, name, text in BLOCK.findall((root / page).read_text()):
            if name:
                (tmp_path / name).write_text(text)
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
