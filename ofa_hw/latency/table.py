"""LatencyTable: the measured latency of every operator of a space on one device.

A network runs its operators one after another, so its latency is near the sum of theirs
(https://arxiv.org/abs/1812.03443): each row holds one call of the runtime, so the sum counts the
cost of a call once for every operator and not once for the network, which `overhead` corrects.
What the sum cannot know, such as fusion over the border of two operators, `calibration` fits.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Final

from ofa_hw.errors import MissingOpError, TableError
from ofa_hw.latency.calibration import Calibration, relative_half_width
from ofa_hw.latency.interpolate import interpolate
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.validation import ValidatedNetwork, measured_ms
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import DeviceInfo
from ofa_hw.spaces import get_space

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Header:
    """Where the rows of a table come from.

    Attributes:
        device: What they were measured on.
        space: Name of the space whose operators they are; None for operators of one's own.
        created: Date and time, in UTC.
    """

    device: DeviceInfo
    space: str | None = None
    created: str = "unknown"

    def differences(self, other: Header) -> list[str]:
        """What keeps rows measured under `other` out of this table, in words."""
        mine, theirs = self.identity(), other.identity()
        return [
            f"{name} is {mine.get(name)!r} there and {theirs.get(name)!r} now"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]

    def identity(self) -> dict[str, object]:
        """The fields that rows of one table share, by name."""
        device = asdict(self.device)
        del device["details"]  # load and the like may differ from run to run
        settings = device.pop("settings")
        return {"space": self.space, **device, **{f"setting {k}": v for k, v in settings.items()}}


@dataclass(frozen=True)
class LatencyTable:
    """Operator latencies measured on one device with one runtime.

    Attributes:
        name: Of the file or folder it was read from.
        header: Where its rows come from.
        rows: Statistics of each operator.
        overhead: Statistics of a call of the runtime that computes next to nothing; None where
            it was not measured.
        calibration: What was fitted to whole networks; None before.
        validation: Whole networks measured on the same device.
        variants: Where an operator was measured for networks of several input resolutions, as
            published tables were: the rows of each resolution.
        interpolated_ms: Of operators without a row, the latency that the rows of the same block at
            smaller and larger inputs suggest; empty unless asked for (`interpolated`).
    """

    name: str
    header: Header
    rows: Mapping[OpSpec, Statistics]
    overhead: Statistics | None = None
    calibration: Calibration | None = None
    validation: tuple[ValidatedNetwork, ...] = field(default=(), repr=False)
    variants: Mapping[int, Mapping[OpSpec, Statistics]] = field(default_factory=dict, repr=False)
    interpolated_ms: Mapping[OpSpec, float] = field(default_factory=dict, repr=False)

    def __contains__(self, op: OpSpec) -> bool:
        return op in self.rows or op in self.interpolated_ms

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> DeviceInfo:
        """What it was measured on."""
        return self.header.device

    @cached_property
    def sentinel_ms(self) -> float | None:
        """The sentinel's typical level over the rows, at which every latency is given."""
        levels = [row.sentinel_ms for row in self.rows.values() if row.sentinel_ms]
        return statistics.median(levels) if levels else None

    @cached_property
    def rows_ms(self) -> Mapping[OpSpec, float]:
        """The measured latency of each operator in a call of its own, at `sentinel_ms`."""
        return {op: self.at_level(row) for op, row in self.rows.items()}

    @cached_property
    def call_ms(self) -> float:
        """The cost of a call of the runtime, at `sentinel_ms`; 0 where it was not measured."""
        return self.at_level(self.overhead) if self.overhead else 0.0

    def at_level(self, measured: Statistics) -> float:
        """The median of something measured, in milliseconds at this table's `sentinel_ms`."""
        return measured.at_level(self.sentinel_ms) if self.sentinel_ms else measured.median_ms

    @property
    def overhead_ms(self) -> float:
        """What a network costs beyond its operators: the first term of `latency_ms`."""
        fitted = self.calibration
        return fitted.scale * self.call_ms + fitted.constant_ms if fitted else self.call_ms

    def op_latency_ms(self, op: OpSpec, resolution: int | None = None) -> float:
        """What an operator adds to the latency of a network.

        Args:
            op: The operator.
            resolution: Of the network's input; it matters for tables with `variants` only.

        Raises:
            MissingOpError: If the table has no row for it, and no interpolated latency.
        """
        self.require([op])
        row = self.variants.get(resolution or 0, {}).get(op)
        alone = self.at_level(row) if row else self.rows_ms.get(op)
        own = (self.interpolated_ms[op] if alone is None else alone) - self.call_ms
        return self.calibration.op_ms(op, own) if self.calibration else own

    def latency_ms(self, ops: Iterable[OpSpec]) -> float:
        """Estimates the latency of a network: `overhead_ms` and its operators' `op_latency_ms`.

        Args:
            ops: The network's operators; one that runs twice is listed twice.

        Returns:
            Latency of one inference, in milliseconds.

        Raises:
            MissingOpError: If the table lacks operators; it names them all.
        """
        ops = tuple(ops)
        self.require(ops)
        resolution = ops[0].resolution if ops else None
        return self.overhead_ms + sum(self.op_latency_ms(op, resolution) for op in ops)

    def latency_interval_ms(
        self, ops: Iterable[OpSpec], confidence: float = 0.9
    ) -> tuple[float, float]:
        """The interval that the measured latency lies in with this confidence.

        Raises:
            MissingOpError: If the table lacks operators.
            TableError: If it was not calibrated, or on too few networks for this confidence.
        """
        if self.calibration is None:
            raise TableError(
                f"table {self.name!r} is not calibrated, so it cannot say how far off it is; "
                f"run: ofa-hw lut validate {self.name} and ofa-hw lut calibrate {self.name}"
            )
        ops = tuple(ops)
        estimate = self.latency_ms(ops)
        if all(op in self.rows for op in ops):
            low, high = self.calibration.relative_interval(confidence)
        else:
            half = relative_half_width(self._interpolation_residuals, confidence)
            low, high = 1 - half, 1 + half
        return estimate * low, estimate * high

    def interpolated(self, ops: Iterable[OpSpec] | None = None) -> LatencyTable:
        """This table with `interpolated_ms` for operators that it has no row for.

        Args:
            ops: Those wanted; by default all of the table's space. Those outside of what was
                measured stay missing: nothing is extrapolated.

        Raises:
            TableError: If `ops` is not given and the table is not one of a space.
        """
        if ops is None:
            if self.header.space is None:
                raise TableError(
                    f"table {self.name!r} does not say which space it is of; "
                    "say which operators to interpolate: table.interpolated(space.table_ops())"
                )
            ops = get_space(self.header.space).table_ops()
        wanted = [op for op in ops if op not in self.rows]
        return replace(self, interpolated_ms=interpolate(self.rows_ms, wanted))

    def validated(self, *, interpolated: bool = False) -> tuple[ValidatedNetwork, ...]:
        """The validated networks all of whose operators have rows, or the others that it covers.

        Args:
            interpolated: Whether to give those that need interpolated operators instead.
        """
        places = self.validated_places(interpolated=interpolated)
        return tuple(self.validation[place] for place in places)

    def validated_places(self, *, interpolated: bool = False) -> tuple[int, ...]:
        """Where in `validation` the networks of `validated` are."""

        def belongs(network: ValidatedNetwork) -> bool:
            ops = get_space(network.spec.space).ops(network.spec)
            if all(op in self.rows for op in ops):
                return not interpolated
            return interpolated and all(op in self for op in ops)

        return tuple(i for i, network in enumerate(self.validation) if belongs(network))

    @cached_property
    def _interpolation_residuals(self) -> tuple[float, ...]:
        """Measured over estimated latency, less 1, of validated networks with interpolated parts.

        No calibration was fitted to them.
        """
        networks = self.validated(interpolated=True)
        first, _ = measured_ms(networks, self.sentinel_ms)
        estimates = [self.latency_ms(get_space(n.spec.space).ops(n.spec)) for n in networks]
        return tuple((first / estimates - 1).tolist())

    def require(self, ops: Iterable[OpSpec]) -> None:
        """Raises `MissingOpError` naming all of `ops` that the table lacks."""
        if missing := {op for op in ops if op not in self}:
            raise MissingOpError(self.name, missing, remedy=self._remedy())

    def _remedy(self) -> str:
        device = self.device
        if device.backend == "unknown":
            return (
                "the table was imported; fill one of your own: "
                "ofa-hw profile --space SPACE --backend BACKEND --output FILE"
            )
        space = self.header.space or "SPACE"
        return (
            f"measure them: ofa-hw profile --space {space} --backend {device.backend} "
            f"--output {self.name}"
        )
