"""The settings of TFLite on a device: read, checked, written out."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from ofa_hw.errors import ProfilerError
from ofa_hw.lowering.form import DTYPES
from ofa_hw.profiling.types import ProfilerOptions

_CHOICES = {
    "delegate": ("xnnpack", "none", "gpu", "nnapi"),
    "runner": ("ofa-runner", "benchmark_model"),
    "fixed_performance": ("off", "on"),
    "partial_delegation": ("refuse", "note"),
}
_DEFAULTS = {
    "delegate": "xnnpack",
    "cores": "any",
    "runner": "",
    "fixed_performance": "off",
    "partial_delegation": "refuse",
    "library": "",
    "gpu_library": "",
    "runner_binary": "",
    "benchmark_binary": "",
    "cool_down_s": "90",
    "wait_s": "300",
}
_FOUND = ("unit", "runner_sha256", "library_sha256")
_HALF = ("xnnpack", "gpu", "nnapi")


@dataclass(frozen=True, slots=True)
class AdbSettings:
    """How TFLite runs on a device.

    Attributes:
        delegate: `xnnpack`, `none`, `gpu` or `nnapi`.
        cores: `any`, `big`, `little`, or a list such as `4-7`.
        runner: `ofa-runner` or `benchmark_model`.
        fixed_performance: Whether Android shall hold its clocks steady meanwhile.
        takes_parts: Whether a network counts that the delegate took over in part only.
        library: TFLite C library, or an AAR with it, for ofa-runner.
        gpu_library: Library of the GPU's delegate, or an AAR with it, where `library` lacks it.
        runner_binary: ofa-runner for the device; found or built if None.
        benchmark_binary: benchmark_model: a file here, or a path on the device.
        cool_down_s: How long a throttled device may cool down.
        wait_s: How long to wait for a device that went away.
    """

    delegate: str
    cores: str
    runner: str
    fixed_performance: bool
    takes_parts: bool
    library: Path | None
    gpu_library: Path | None
    runner_binary: Path | None
    benchmark_binary: str
    cool_down_s: float
    wait_s: float

    @property
    def recorded(self) -> dict[str, str]:
        """What a table's header says of them: all that can change a latency."""
        return {
            "runner": self.runner,
            "delegate": self.delegate,
            "cores": self.cores,
            "fixed_performance": "on" if self.fixed_performance else "off",
        }


def read_settings(options: ProfilerOptions) -> AdbSettings:
    """Reads the settings of a device.

    Raises:
        ProfilerError: If one is unknown, or has a value that it cannot have.
    """
    # A table's settings come back as options; what was found out for it is not asked for again.
    given = {name: value for name, value in options.settings.items() if name not in _FOUND}
    if (xnnpack := given.pop("xnnpack", None)) is not None:  # as on this machine
        given.setdefault("delegate", {"on": "xnnpack", "off": "none"}.get(xnnpack, xnnpack))
    if unknown := sorted(given.keys() - _DEFAULTS.keys()):
        close = difflib.get_close_matches(unknown[0], _DEFAULTS, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ProfilerError(
            f"TFLite on a device has no setting {', '.join(map(repr, unknown))}; {hint}it has "
            f"{', '.join(_DEFAULTS)}"
        )
    values = {**_DEFAULTS, **given}
    if not values["runner"]:
        values["runner"] = "benchmark_model" if values["benchmark_binary"] else "ofa-runner"
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            raise ProfilerError(
                f"{name} cannot be {values[name]!r}; choose from {', '.join(choices)}"
            )
    if values["benchmark_binary"] and values["runner"] != "benchmark_model":
        raise ProfilerError(
            f"benchmark_binary is {values['benchmark_binary']!r} and runner is "
            f"{values['runner']!r}, as you or the table say: leave out --benchmark-binary, or have "
            "it used with --set runner=benchmark_model"
        )
    if values["gpu_library"] and (values["delegate"], values["runner"]) != ("gpu", "ofa-runner"):
        raise ProfilerError(
            f"gpu_library is for ofa-runner with --set delegate=gpu, and this is "
            f"{values['runner']} with delegate {values['delegate']!r}"
        )
    library = values["library"] or os.environ.get("OFA_HW_TFLITE_LIBRARY", "")
    return AdbSettings(
        delegate=values["delegate"],
        cores=values["cores"],
        runner=values["runner"],
        fixed_performance=values["fixed_performance"] == "on",
        takes_parts=values["partial_delegation"] == "note",
        library=Path(library) if library else None,
        gpu_library=Path(values["gpu_library"]) if values["gpu_library"] else None,
        runner_binary=Path(values["runner_binary"]) if values["runner_binary"] else None,
        benchmark_binary=values["benchmark_binary"],
        cool_down_s=_seconds("cool_down_s", values["cool_down_s"]),
        wait_s=_seconds("wait_s", values["wait_s"]),
    )


def check_options(options: ProfilerOptions, settings: AdbSettings) -> None:
    """Checks what does not depend on the device.

    Raises:
        ProfilerError: If the combination cannot be measured.
    """
    for name, value in (("threads", options.threads), ("batch", options.batch)):
        if value < 1:
            raise ProfilerError(f"{name} must be at least 1, got {value}")
    if options.dtype not in DTYPES:
        raise ProfilerError(
            f"TFLite on a device cannot measure dtype {options.dtype!r}; "
            f"choose from {', '.join(DTYPES)}"
        )
    if options.dtype == "fp16" and settings.delegate not in _HALF:
        raise ProfilerError(
            f"delegate {settings.delegate!r} does not compute in fp16; choose {', '.join(_HALF)}"
        )
    if (options.dtype, settings.delegate, settings.runner) == ("fp16", "nnapi", "ofa-runner"):
        raise ProfilerError(
            "ofa-runner runs nnapi in fp32 only; for fp16 choose another delegate, or Google's "
            "benchmark_model with --benchmark-binary PATH"
        )


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise ProfilerError(f"{name} must be a number of seconds, got {text!r}")
    return value
