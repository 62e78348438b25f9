"""Short runs on the digits, in this process and in one that can be killed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import sys
import torch
from ofa_hw.training import DigitsData, Pace, Recipe, ShrinkingPhase, train_supernet

torch.set_num_threads(1)
recipe = Recipe(
    "short",
    (
        ShrinkingPhase("full", 0.3, 0.1, warmup_epochs=0.1),
        ShrinkingPhase(
            "all", 0.4, 0.05, depths=9, expand_ratios=9, kernel_sizes=9, subnets_per_step=2,
            sort_phase=0,
        ),
    ),
    batch_size=100,
)
folder, interval_s = sys.argv[1], float(sys.argv[2])
train_supernet(
    "tiny", DigitsData(), recipe, folder, labels=0, seed=3, pace=Pace(interval_s),
    progress=lambda done, total: print(done, flush=True),
)
print("done", flush=True)
"""


@pytest.fixture(scope="session")
def start_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run of eight steps in a process of its own; it prints each step."""
    program = tmp_path_factory.mktemp("program") / "run.py"
    program.write_text(PROGRAM)

    def start(folder: Path, interval_s: float = 0.0) -> subprocess.Popen[str]:
        command = [sys.executable, str(program), str(folder), str(interval_s)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start
