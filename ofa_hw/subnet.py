"""Subnet: a sub-network that was chosen for a device, its costs, and how it is exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofa_hw.errors import ExportError
from ofa_hw.search import Candidate, SearchResult
from ofa_hw.spaces import SearchSpace, SubnetSpec

if TYPE_CHECKING:
    from torch import nn

    from ofa_hw.export import ExportedFile, Normalisation, Provenance
    from ofa_hw.graph.ir import Array
    from ofa_hw.profiling import DeviceInfo
    from ofa_hw.shortlist import MeasuredCandidate


@dataclass(frozen=True)
class Subnet:
    """A sub-network that was chosen for a device.

    Attributes:
        space: The space it lies in.
        spec: What it is.
        top1: Its predicted top-1 fraction.
        latency_ms: Its predicted latency, in milliseconds, by the first table.
        table: Name of the table that the latency is from; of several, all their names.
        result: The whole search.
        module: The network with its weights, in eval mode; None where no weights were given.
        measured_ms: Its latency on the device, in milliseconds; None where nobody measured it.
        measured: Every candidate that was measured, the most accurate first.
        device: What the first table was measured on; the latencies are for it.
        interval_ms: What `latency_ms` is in with 90 % confidence; None of a table not calibrated.
        images: Some of those that batch norms were calibrated on, (N, C, H, W), which files are
            compared on; None where there were none.
    """

    space: SearchSpace
    spec: SubnetSpec
    top1: float
    latency_ms: float
    table: str
    result: SearchResult
    module: nn.Module | None
    measured_ms: float | None = None
    measured: tuple[MeasuredCandidate, ...] = ()
    device: DeviceInfo | None = None
    interval_ms: tuple[float, float] | None = None
    images: Array | None = field(default=None, repr=False, compare=False)

    def export(
        self,
        path: str | Path,
        *,
        dtype: str = "fp32",
        images: Array | None = None,
        calibration: Array | None = None,
        batch: int | None = 1,
        normalisation: Normalisation | None = None,
        labels: Sequence[str] = (),
        input_name: str = "input",
        output_name: str = "output",
        min_agreement: float = 0.9,
        allow_fallback: bool = False,
        force: bool = False,
    ) -> ExportedFile:
        """Writes the network as .onnx, .tflite or .pt2; the file is run and compared with torch.

        Args:
            path: Where to; its ending is the format.
            dtype: `fp32`, `fp16` or `int8`.
            images: Images to compare on, (N, C, H, W), normalised; by default the calibration
                images, or else those that the sub-network keeps; without any, random ones.
            calibration: Images that the ranges of `int8` are taken from. Where only one of the two
                is given, every second image serves for that, and the others are compared.
            batch: Images at once; None for any number.
            normalisation: Images come as bytes, and the file begins with this.
            labels: Names of the classes, for the file's metadata.
            input_name: Of the input; in a .pt2, of the parameter.
            output_name: Of the output; a .pt2 whose output is named otherwise than by default
                gives a dictionary of it.
            min_agreement: In `int8`, the least fraction of the images on which the file and torch
                must tell the same class.
            allow_fallback: Whether a .tflite file may hold operators that XNNPACK leaves to slower
                kernels.
            force: Whether to replace a file of this name.

        Raises:
            ExportError: If no weights were given, the name's ending is no format, images are
                missing, or the labels are too few or too many.
            OutputExistsError: If there is such a file and `force` is false.
            ParityError: If the file computes something else than the network.
        """
        from ofa_hw.export import ExportOptions, export_module

        if labels and len(labels) != self.space.num_classes:
            raise ExportError(
                f"{len(labels)} labels for {self.space.num_classes} classes; give one a class"
            )
        if batch is not None and batch < 1:
            raise ExportError(f"a batch is at least 1 image, or None for any number; got {batch}")
        side = self.spec.resolution
        if images is None and calibration is None:
            images = self._kept_images(at_least=2 * (batch or 1))
        file = export_module(
            self._weighted(),
            (batch or 1, self.space.in_channels, side, side),
            path,
            options=ExportOptions(
                dtype=dtype,
                dynamic_batch=batch is None,
                normalisation=normalisation,
                input_name=input_name,
                output_name=output_name,
                min_agreement=min_agreement,
                allow_fallback=allow_fallback,
            ),
            images=images,
            calibration=calibration,
            metadata=replace(self.provenance(dtype, batch), labels=labels).to_metadata(),
            force=force,
        )
        if unlike := self._unlike_table(dtype, batch):
            note = f"no latency promised, as the table is of {unlike}"
            return replace(file, notes=(*file.notes, note))
        return file

    def provenance(self, dtype: str = "fp32", batch: int | None = None) -> Provenance:
        """What is written into every exported file: where the network is from.

        Latencies are of the table's data type and batch; a file of others does not claim them.

        Args:
            dtype: Of the file.
            batch: Of the file; None where it takes any.
        """
        from ofa_hw.export import Provenance

        is_promised = not self._unlike_table(dtype, batch)
        return Provenance(
            dtype=dtype,
            spec=self.spec,
            table=self.table,
            device=self.device,
            predicted_latency_ms=self.latency_ms if is_promised else None,
            predicted_interval_ms=self.interval_ms if is_promised else None,
            measured_latency_ms=self.measured_ms if is_promised else None,
            predicted_top1=self.top1,
        )

    def _unlike_table(self, dtype: str, batch: int | None) -> str:
        """What of the table is otherwise than in a file of this data type and batch; or nothing."""
        if self.device is None:
            return ""
        known = "fp32" if self.device.dtype == "unknown" else self.device.dtype
        if known != dtype:
            return known
        if batch is not None and self.device.batch not in (None, batch):
            return f"batch {self.device.batch}"
        return ""

    def summary(self) -> dict[str, Any]:
        """The choice, its costs and what was measured, for JSON."""
        chosen = {
            "spec": json.loads(self.spec.to_json()),
            "predicted_top1": self.top1,
            "predicted_latency_ms": self.latency_ms,
            "table": self.table,
            "macs": self.space.macs(self.spec),
            "params": self.space.params(self.spec),
            "costs": dict(self.candidate.costs),
        }
        if self.measured:
            chosen["measured_latency_ms"] = self.measured_ms
            chosen["candidates"] = [candidate.summary() for candidate in self.measured]
        return chosen

    @property
    def candidate(self) -> Candidate:
        """The choice as the search saw it, with all its costs."""
        known = (self.result.best, *self.result.front)
        return next(candidate for candidate in known if candidate.spec == self.spec)

    def _kept_images(self, *, at_least: int) -> Array | None:
        """The images that were kept, again and again where they are fewer than that."""
        if self.images is None or len(self.images) >= at_least:
            return self.images
        return np.resize(self.images, (at_least, *self.images.shape[1:]))

    def _weighted(self) -> nn.Module:
        if self.module is None:
            raise ExportError(
                "the sub-network has no weights to export; pass weights=CHECKPOINT to specialize "
                "(on the command line: --weights CHECKPOINT)"
            )
        return self.module
