"""The lines of a table's file: objects to JSON, and JSON to objects with every mistake named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ofa_hw.errors import SpecError, TableFormatError
from ofa_hw.latency.calibration import EXTRA_TERMS, Calibration
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.table import FORMAT, Header, LatencyTable
from ofa_hw.latency.validation import ValidatedNetwork
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import DeviceInfo
from ofa_hw.spaces import SubnetSpec

HEADER_START = b'{"line": "header"'


def header_line(header: Header) -> str:
    """The first line."""
    return _line("header", {"format": FORMAT, **asdict(header)})


def row_line(op: OpSpec, measured: Statistics, network_resolution: int | None = None) -> str:
    """The line of one operator.

    Args:
        op: The operator.
        measured: Its latency.
        network_resolution: Of the networks that it was measured for, where that matters.
    """
    within = {} if network_resolution is None else {"network_resolution": network_resolution}
    return _line("row", {"op": op.to_dict(), **within, **measured.to_dict()})


def overhead_line(measured: Statistics) -> str:
    """The line of a call that computes next to nothing."""
    return _line("overhead", measured.to_dict())


def network_line(network: ValidatedNetwork) -> str:
    """The line of one validated network."""
    spec = json.loads(network.spec.to_json())
    first, second = network.first.to_dict(), network.second.to_dict()
    return _line(
        "network", {"spec": spec, "shift": network.shift, "first": first, "second": second}
    )


def calibration_line(calibration: Calibration) -> str:
    """The line of a calibration; a later one replaces it."""
    return _line("calibration", asdict(calibration))


def _line(kind: str, data: Mapping[str, object]) -> str:
    return json.dumps({"line": kind, **data}, allow_nan=False) + "\n"


@dataclass
class TableReader:
    """Builds a table from its lines, one after another.

    Attributes:
        source: Path of the file, for messages.
    """

    source: str
    header: Header | None = None
    rows: dict[OpSpec, Statistics] = field(default_factory=dict)
    overhead: Statistics | None = None
    calibration: Calibration | None = None
    networks: list[ValidatedNetwork] = field(default_factory=list)
    variants: dict[int, dict[OpSpec, Statistics]] = field(default_factory=dict)

    def read(self, number: int, text: str) -> None:
        """Reads line `number`; raises `TableFormatError` saying what is wrong with it."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise ValueError(f"expected an object, got {text[:40]!r}")
            self._take(data.pop("line", None), data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise TableFormatError(
                f"{self.source}, line {number}: {reason}; remove the line and run ofa-hw profile "
                "again to measure it anew, if this is a latency table"
            ) from error

    def table(self, name: str) -> LatencyTable:
        """The table of what was read."""
        if self.header is None:
            raise TableFormatError(f"{self.source} is empty; a latency table begins with a header")
        return LatencyTable(
            name,
            self.header,
            self.rows,
            self.overhead,
            self.calibration,
            tuple(self.networks),
            self.variants,
        )

    def _take(self, kind: object, data: dict[str, Any]) -> None:
        if (kind == "header") != (self.header is None):
            raise ValueError("a latency table begins with a header, and has one")
        match kind:
            case "header":
                self.header = _header(data)
            case "row":
                self._take_row(OpSpec.from_dict(data.pop("op")), data)
            case "overhead":
                self.overhead = Statistics.from_dict(data)
            case "network":
                spec = SubnetSpec.from_json(json.dumps(data["spec"]))
                first, second = (Statistics.from_dict(data[key]) for key in ("first", "second"))
                self.networks.append(ValidatedNetwork(spec, first, second, float(data["shift"])))
            case "calibration":
                self.calibration = _calibration(data)
            case _:
                raise ValueError(f"unknown kind of line {kind!r}")

    def _take_row(self, op: OpSpec, data: dict[str, Any]) -> None:
        resolution = data.pop("network_resolution", None)
        if resolution is None:
            known: Mapping[OpSpec, object] = self.rows
        elif type(resolution) is int and resolution > 0:
            known = self.variants.get(resolution, {})
        else:
            raise ValueError(f"network_resolution must be a number of pixels, got {resolution!r}")
        if op in known:
            raise SpecError(f"a second row of {op}")
        self.rows[op] = Statistics.from_dict(data)
        if resolution is not None:
            self.variants.setdefault(resolution, {})[op] = self.rows[op]


def _header(data: dict[str, Any]) -> Header:
    version = data.pop("format", None)
    if version != FORMAT:
        raise ValueError(
            f"format {version!r}, and this version of ofa_hw reads {FORMAT}; upgrade one of them"
        )
    device = data["device"]
    if not isinstance(device, dict):
        raise ValueError(f"device must be an object, got {device!r}")
    if unknown := sorted(device.keys() - {f.name for f in fields(DeviceInfo)}):
        raise ValueError(f"a device has no field {', '.join(unknown)}")
    return Header(DeviceInfo(**device), data["space"], data["created"])


def _calibration(data: dict[str, Any]) -> Calibration:
    if unknown := sorted(data["extra_ms"].keys() - EXTRA_TERMS.keys()):
        raise ValueError(f"unknown calibration terms {', '.join(unknown)}")
    if len(data["networks"]) != len(data["residuals"]):
        raise ValueError("a calibration has one residual for each of its networks")
    return Calibration(
        float(data["scale"]),
        float(data["constant_ms"]),
        {name: float(ms) for name, ms in data["extra_ms"].items()},
        tuple(float(r) for r in data["residuals"]),
        tuple(int(i) for i in data["networks"]),
        data["figures"],
    )
