"""Provenance: what a file tells of the network in it, where it is from and what it promises."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from ofa_hw.errors import ExportError
from ofa_hw.lowering.metadata import read_metadata
from ofa_hw.profiling import DeviceInfo
from ofa_hw.spaces import SubnetSpec

_PREFIX: Final = "ofa_hw."
_PACKAGES: Final = ("ofa-hw", "torch", "onnx", "onnxruntime", "ai-edge-litert")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a file tells of its network; each entry of the metadata is one field, `ofa_hw.NAME`.

    Attributes:
        dtype: `fp32`, `fp16` or `int8`.
        spec: The sub-network; it names its space.
        table: Name of the latency table, or of several.
        device: What the (first) table was measured on; the latencies are for it alone. Its
            `details`, which change from run to run, are not kept.
        predicted_latency_ms: By the table; None where the table is of another data type.
        predicted_interval_ms: The interval that the latency lies in with 90 % confidence; None
            where the table is not calibrated.
        measured_latency_ms: Of this network on the device; None where nobody measured it.
        predicted_top1: What the accuracy predictor says, as a fraction.
        top1: Measured on held-out images before it was written, as a fraction.
        labels: Names of the classes, in the order of the outputs.
        versions: Of what wrote it, by package.
    """

    dtype: str = "fp32"
    spec: SubnetSpec | None = None
    table: str | None = None
    device: DeviceInfo | None = None
    predicted_latency_ms: float | None = None
    predicted_interval_ms: tuple[float, float] | None = None
    measured_latency_ms: float | None = None
    predicted_top1: float | None = None
    top1: float | None = None
    labels: Sequence[str] = ()
    versions: Mapping[str, str] | None = None

    @property
    def space(self) -> str | None:
        """Name of the search space that the network is from."""
        return self.spec.space if self.spec else None

    def to_metadata(self) -> dict[str, str]:
        """The entries of a file's metadata; what is not known is left out."""
        found: dict[str, Any] = {
            "dtype": self.dtype,
            "space": self.space,
            "spec": json.loads(self.spec.to_json()) if self.spec else None,
            "table": self.table,
            "device": asdict(replace(self.device, details={})) if self.device else None,
            "predicted_latency_ms": self.predicted_latency_ms,
            "predicted_interval_ms": self.predicted_interval_ms,
            "measured_latency_ms": self.measured_latency_ms,
            "predicted_top1": self.predicted_top1,
            "top1": self.top1,
            "labels": list(self.labels) or None,
            "versions": dict(self.versions if self.versions is not None else _versions()),
        }
        return {
            _PREFIX + name: value if isinstance(value, str) else json.dumps(value)
            for name, value in found.items()
            if value is not None
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Provenance:
        """Reads what `to_metadata` gave, among entries of others.

        Raises:
            ExportError: If an entry cannot be read.
        """
        own = {
            name.removeprefix(_PREFIX): text
            for name, text in metadata.items()
            if name.startswith(_PREFIX)
        }
        try:
            spec, device = own.get("spec"), own.get("device")
            return cls(
                dtype=own.get("dtype", "fp32"),
                spec=SubnetSpec.from_json(spec) if spec else None,
                table=own.get("table"),
                device=DeviceInfo(**json.loads(device)) if device else None,
                predicted_latency_ms=_number(own, "predicted_latency_ms"),
                predicted_interval_ms=_interval(own, "predicted_interval_ms"),
                measured_latency_ms=_number(own, "measured_latency_ms"),
                predicted_top1=_number(own, "predicted_top1"),
                top1=_number(own, "top1"),
                labels=tuple(json.loads(own.get("labels", "[]"))),
                versions=json.loads(own.get("versions", "{}")),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ExportError(f"the file's provenance cannot be read: {error}") from error


def read_provenance(path: str | Path) -> Provenance:
    """What an .onnx, .tflite or .pt2 file tells of its network; a foreign file tells nothing.

    Raises:
        ExportError: If the file cannot be read.
    """
    metadata = read_metadata(Path(path))
    try:
        return Provenance.from_metadata(metadata)
    except ExportError as error:
        raise ExportError(f"{path} is no file to rely on: {error}") from error


def _number(entries: Mapping[str, str], name: str) -> float | None:
    return float(entries[name]) if name in entries else None


def _interval(entries: Mapping[str, str], name: str) -> tuple[float, float] | None:
    if name not in entries:
        return None
    low, high = map(float, json.loads(entries[name]))
    return low, high


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # the file is written without it
            continue
    return found
