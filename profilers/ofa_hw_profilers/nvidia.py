"""What an NVIDIA GPU says of itself through `nvidia-smi`, which reads NVML; nothing is changed."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError
from ofa_hw.profiling.device import UNKNOWN

_TIMEOUT_S: Final = 30.0
# Each generation of the driver has its own name for it.
_POWER_LIMITS: Final = (
    "gpu_power_readings/current_power_limit",
    "gpu_power_readings/power_limit",
    "power_readings/enforced_power_limit",
    "power_readings/power_limit",
)
# Of the reasons for which clocks may be below what was asked for, those that a measurement must
# know of; that it was idle just then, or that an administrator set its clocks, is none.
_SLOWED: Final = {
    "sw_power_cap": "at its power limit",
    "hw_slowdown": "slowed down by its hardware",
    "hw_thermal_slowdown": "too hot",
    "hw_power_brake_slowdown": "slowed down by its power supply",
    "sw_thermal_slowdown": "too hot",
}


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that uses the GPU to compute.

    Attributes:
        pid: Its number, as the driver sees it: inside a container that is another one.
        name: Of its program.
    """

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU at one moment; text is `unknown` and numbers are None where it does not say.

    Attributes:
        name: Its model.
        uuid: Tells it from others.
        driver_version: Of the driver.
        temperature_c: Of the chip.
        sm_clock_mhz: Of its processors now.
        memory_clock_mhz: Of its memory now.
        max_sm_clock_mhz: The most that its processors can have.
        power_limit_w: What it may draw.
        slowed: Why its clocks are lower than they could be, in words.
        idle: Whether its clocks are low because nothing runs.
        utilisation_percent: Of the last moments, in how many of them something ran.
        used_mib: Of its memory.
        drawing_mib: Of its memory, what processes hold that draw screens.
        processes: What computes on it; often none in a container, which cannot see them.
    """

    name: str
    uuid: str
    driver_version: str
    temperature_c: float | None
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    max_sm_clock_mhz: float | None
    power_limit_w: float | None
    slowed: tuple[str, ...]
    idle: bool
    utilisation_percent: float | None
    used_mib: float | None
    drawing_mib: float
    processes: tuple[GpuProcess, ...]

    def details(self) -> dict[str, str]:
        """For the header of a table, of a GPU that works."""
        numbers = {
            "gpu_temperature_c": self.temperature_c,
            "gpu_sm_clock_mhz": self.sm_clock_mhz,
            "gpu_memory_clock_mhz": self.memory_clock_mhz,
            "gpu_max_sm_clock_mhz": self.max_sm_clock_mhz,
            "gpu_power_limit_w": self.power_limit_w,
        }
        known = {key: UNKNOWN if value is None else f"{value:g}" for key, value in numbers.items()}
        return {
            "gpu_driver": self.driver_version,
            **known,
            "gpu_slowed": ", ".join(self.slowed) or "no",
        }


def read_gpus() -> tuple[GpuState, ...]:
    """Asks the driver for the state of every GPU.

    Raises:
        BackendUnavailableError: If there is no `nvidia-smi`, or it fails.
        DeviceOutputError: If its answer cannot be read.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", "-q", "-x"], capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except OSError as error:
        raise BackendUnavailableError(
            f"no NVIDIA GPU: nvidia-smi, which comes with its driver, cannot be run "
            f"({error.strerror}); profile on another backend (ofa-hw devices)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailableError(
            f"nvidia-smi did not answer within {_TIMEOUT_S:.0f} s; see that it runs by itself"
        ) from error
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split())
        raise BackendUnavailableError(f"no NVIDIA GPU: nvidia-smi says {said[:200]!r}")
    return parse_states(done.stdout)


def read_while(work: Callable[[], object]) -> tuple[GpuState, ...]:
    """As `read_gpus`, while this process works: the clocks of an idle GPU tell nothing.

    Args:
        work: Keeps the GPU busy for a moment; called until the driver has answered, once at least.

    Raises:
        BackendUnavailableError: As `read_gpus`.
        DeviceOutputError: As `read_gpus`.
    """
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(read_gpus)
        work()
        while not answer.done():
            work()
    return answer.result()


def find_gpu(uuid: str, gpus: Sequence[GpuState]) -> GpuState:
    """The GPU of this number; a runtime gives it without the `GPU-` that the driver begins it with.

    Raises:
        BackendUnavailableError: If there is none, as of a part of a GPU (MIG).
    """
    for gpu in gpus:
        if gpu.uuid.removeprefix("GPU-") == uuid.removeprefix("GPU-"):
            return gpu
    known = ", ".join(f"{gpu.name} {gpu.uuid}" for gpu in gpus) or "none"
    raise BackendUnavailableError(
        f"the GPU {uuid} is none of those that nvidia-smi lists ({known}); parts of a GPU cannot "
        "be watched and are not measured"
    )


def parse_states(text: str) -> tuple[GpuState, ...]:
    """Reads what `nvidia-smi -q -x` prints.

    Raises:
        DeviceOutputError: If it is something else.
    """
    try:
        log = ET.fromstring(text)
    except ET.ParseError as error:
        raise DeviceOutputError(f"cannot read what nvidia-smi says: {error}") from error
    if log.tag != "nvidia_smi_log":
        raise DeviceOutputError(f"nvidia-smi says {' '.join(text.split())[:80]!r}")
    driver_version = _text(log, ["driver_version"])
    return tuple(_state(gpu, driver_version) for gpu in log.iterfind("gpu"))


def _state(gpu: ET.Element, driver_version: str) -> GpuState:
    return GpuState(
        name=_text(gpu, ["product_name"]),
        uuid=_text(gpu, ["uuid"]),
        driver_version=driver_version,
        temperature_c=_number(gpu, ["temperature/gpu_temp"]),
        sm_clock_mhz=_number(gpu, ["clocks/sm_clock"]),
        memory_clock_mhz=_number(gpu, ["clocks/mem_clock"]),
        max_sm_clock_mhz=_number(gpu, ["max_clocks/sm_clock"]),
        power_limit_w=_number(gpu, _POWER_LIMITS),
        slowed=tuple(dict.fromkeys(_slowed(gpu))),
        idle="gpu_idle" in set(_reasons(gpu)),
        utilisation_percent=_number(gpu, ["utilization/gpu_util"]),
        used_mib=_number(gpu, ["fb_memory_usage/used"]),
        drawing_mib=sum(_drawing(gpu)),
        processes=tuple(_processes(gpu)),
    )


def _text(element: ET.Element, paths: Sequence[str]) -> str:
    for path in paths:
        value = (element.findtext(path) or "").strip()
        if value and value not in ("N/A", "[N/A]", "Unknown Error", "GPU access blocked"):
            return value
    return UNKNOWN


def _number(element: ET.Element, paths: Sequence[str]) -> float | None:
    """Such as 45.0 of `45 C`."""
    try:
        return float(_text(element, paths).split()[0])
    except ValueError:
        return None


def _reasons(gpu: ET.Element) -> Iterator[str]:
    """Why its clocks are lower than they could be, as the driver calls it."""
    for word in ("event", "throttle"):  # drivers before 535 have the second
        start = f"clocks_{word}_reason_"
        for reason in gpu.iterfind(f"clocks_{word}_reasons/*"):
            if (reason.text or "").strip() == "Active":
                yield reason.tag.removeprefix(start)


def _slowed(gpu: ET.Element) -> Iterator[str]:
    reasons = set(_reasons(gpu))
    return (meaning for reason, meaning in _SLOWED.items() if reason in reasons)


def _processes(gpu: ET.Element) -> Iterator[GpuProcess]:
    for process in gpu.iterfind("processes/process_info"):
        if "C" in _text(process, ["type"]):  # G draws a screen and is no matter
            pid = _number(process, ["pid"])
            yield GpuProcess(int(pid or 0), _text(process, ["process_name"]))


def _drawing(gpu: ET.Element) -> Iterator[float]:
    for process in gpu.iterfind("processes/process_info"):
        if "C" not in _text(process, ["type"]):
            yield _number(process, ["used_memory"]) or 0.0
