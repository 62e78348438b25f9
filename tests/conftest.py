"""What the tests share."""

import os
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
