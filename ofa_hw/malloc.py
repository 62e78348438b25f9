"""Keeps the memory of freed tensors in the process, for what comes next to use."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1  # of mallopt(3)
_MMAP_MAX: Final = -4
_NEVER: Final = 2**31 - 1


def keep_freed_memory(*, though_chosen: bool = False) -> bool:
    """Makes glibc keep what is freed, where it is the allocator.

    By default large tensors are memory of their own, which the kernel takes back when they are
    freed and clears when they are next asked for: a part of every training step on a CPU, and of
    every inference that allocates. It is a setting of the whole process, so programs make it, and
    functions only where somebody asked for it by name.

    Args:
        though_chosen: Whether to do it even where an environment variable `MALLOC_...` or
            `GLIBC_TUNABLES` is set. It is somebody's choice and left as it is by default;
            `MALLOC_ARENA_MAX=8`, say, is a way to decline.

    Returns:
        Whether it was done.
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if (chosen and not though_chosen) or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
