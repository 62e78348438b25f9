"""Keeping freed memory: done where glibc is at its defaults, left alone where somebody chose."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from ofa_hw.malloc import keep_freed_memory

torch.set_num_threads(1)
print(keep_freed_memory(though_chosen=THOUGH_CHOSEN))
before = 0
for _ in range(40):
    torch.ones(6_000_000).mul_(2)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    last, before = faults - before, faults
print(last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(
    ("chosen", "though_chosen"),
    [(False, False), (True, False), (True, True)],
    ids=["default", "chosen", "asked for by name"],
)
def test_large_tensors_are_new_memory_only_where_somebody_chose(
    chosen: bool, though_chosen: bool
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    if chosen:
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    program = PROGRAM.replace("THOUGH_CHOSEN", str(though_chosen))
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    done, faults = told.stdout.split()
    keeps = though_chosen or not chosen
    assert (done == "True") is keeps
    assert (int(faults) < 100) is keeps
