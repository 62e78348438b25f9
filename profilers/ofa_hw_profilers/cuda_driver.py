"""What the CUDA driver says of the GPUs that this process has, in the order that runtimes use.

`CUDA_VISIBLE_DEVICES`, which holds places or UUIDs, and `CUDA_DEVICE_ORDER` decide what a
runtime's GPU number 0 is. The driver, which obeys them, is asked rather than read after.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from dataclasses import dataclass
from typing import Final

from ofa_hw.errors import BackendUnavailableError

_LIBRARY: Final = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


@dataclass(frozen=True, slots=True)
class DriverGpu:
    """A GPU as this process has it.

    Attributes:
        uuid: Its number, without the prefix that `nvidia-smi` begins it with; of a part of a GPU
            (MIG), its own.
        used_here: Whether this process computes on it already, whatever the runtime.
    """

    uuid: str
    used_here: bool


def ask_driver(place: int = 0) -> DriverGpu:
    """The GPU that a runtime in this process calls number `place`.

    Nothing is set up on it, so that asking is not computing.

    Raises:
        BackendUnavailableError: If there is no driver, or no such GPU.
    """
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendUnavailableError(
            f"no NVIDIA GPU: its driver cannot be loaded ({error}); profile on another backend "
            "(ofa-hw devices)"
        ) from error
    device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    number = (ctypes.c_ubyte * 16)()  # a CUuuid
    # The first of this name gives a part of a GPU the number of the whole.
    get_uuid = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid
    for function, arguments in (
        (driver.cuInit, (0,)),
        (driver.cuDeviceGet, (ctypes.byref(device), place)),
        (get_uuid, (ctypes.byref(number), device)),
        (
            driver.cuDevicePrimaryCtxGetState,
            (device, ctypes.byref(flags), ctypes.byref(active)),
        ),
    ):
        if code := function(*arguments):
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            raise BackendUnavailableError(
                f"the CUDA driver has no GPU number {place} for this process (error {code} of "
                f"{function.__name__}; CUDA_VISIBLE_DEVICES is "
                f"{'not set' if visible is None else repr(visible)}); see what nvidia-smi lists"
            )
    return DriverGpu(str(uuid.UUID(bytes=bytes(number))), bool(active.value))
