"""What the pages of docs/ and the README tell people to run, run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, file name, text) of each code block of a page."""
    return BLOCK.findall((ROOT / page).read_text())


def run_page(page: str, folder: Path, **environment: str) -> str:
    """Runs a page's blocks in their order, in one folder; gives what the last one printed."""
    bin_folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": "."}
    out = ""
    for language, name, text in blocks(page):
        if name:
            (folder / name).write_text(text)
            continue
        command = ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable, "-"]
        done = subprocess.run(
            command,
            input=text,
            cwd=folder,
            env={**env, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        out = done.stdout
    return out


@pytest.mark.slow
def test_a_space_of_ones_own_is_profiled_searched_trained_and_exported(tmp_path: Path) -> None:
    out = run_page("docs/custom-space.md", tmp_path)
    assert float(out.split()[-1]) > 0.8
    assert {"my_cnn.onnx", "my_cnn.tflite", "my_cnn.jsonl"} <= {p.name for p in tmp_path.iterdir()}
