"""The facade: from a supernet, a table and a predictor to a sub-network that ships."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ofa_hw.errors import ExportError
from ofa_hw.graph import Graph
from ofa_hw.search import SearchResult
from ofa_hw.search import search as run_search
from ofa_hw.spaces import SearchSpace, SubnetSpec, get_space

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ofa_hw.export import ExportedFile
    from ofa_hw.graph.ir import Array
    from ofa_hw.latency import LatencyTable
    from ofa_hw.predictor import AccuracyPredictor

    CalibrationImages: TypeAlias = Callable[[int], Iterable[torch.Tensor]]


@dataclass(frozen=True)
class Subnet:
    """A sub-network that was chosen for a device.

    Attributes:
        space: The space it lies in.
        spec: What it is.
        top1: Its predicted top-1 fraction.
        latency_ms: Its predicted latency, in milliseconds.
        table: Name of the table that the latency is from.
        result: The whole search.
        module: The network with its weights, in eval mode; None where no weights were given.
    """

    space: SearchSpace
    spec: SubnetSpec
    top1: float
    latency_ms: float
    table: str
    result: SearchResult
    module: nn.Module | None

    @cached_property
    def graph(self) -> Graph:
        """The network with its weights, as it is lowered, for one image at a time.

        Raises:
            ExportError: If no weights were given.
        """
        shape = (1, self.space.in_channels, self.spec.resolution, self.spec.resolution)
        return Graph.from_torch(self._weighted(), shape)

    def export(
        self, path: str | Path, *, images: Array | None = None, force: bool = False
    ) -> ExportedFile:
        """Writes the network as .onnx, .tflite or .pt2; the file is run and compared with torch.

        Args:
            path: Where to; its ending is the format.
            images: Images to compare on, (N, C, H, W); random ones by default.
            force: Whether to replace a file of this name.

        Raises:
            ExportError: If no weights were given, or the name's ending is no format.
            OutputExistsError: If there is such a file and `force` is false.
            ParityError: If the file computes something else than the network.
        """
        from ofa_hw.export import export_graph

        module = self._weighted()

        def reference(x: Array) -> Array:
            import torch

            with torch.inference_mode():
                outputs: Array = module(torch.from_numpy(x)).numpy()
            return outputs

        return export_graph(
            self.graph,
            path,
            reference=reference,
            images=images,
            metadata=self.metadata(),
            force=force,
        )

    def metadata(self) -> dict[str, str]:
        """What is written into every exported file: where the network is from."""
        return {
            "ofa_hw.version": version("ofa-hw"),
            "ofa_hw.spec": self.spec.to_json(),
            "ofa_hw.table": self.table,
            "ofa_hw.predicted_latency_ms": f"{self.latency_ms:.4f}",
            "ofa_hw.predicted_top1": f"{self.top1:.4f}",
        }

    def summary(self) -> dict[str, Any]:
        """The choice and its costs, for JSON."""
        return {
            "spec": json.loads(self.spec.to_json()),
            "predicted_top1": self.top1,
            "predicted_latency_ms": self.latency_ms,
            "table": self.table,
            "macs": self.space.macs(self.spec),
            "params": self.space.params(self.spec),
        }

    def _weighted(self) -> nn.Module:
        if self.module is None:
            raise ExportError(
                "the sub-network has no weights to export; pass weights=CHECKPOINT to specialize "
                "(on the command line: --weights CHECKPOINT)"
            )
        return self.module


def specialize(
    space: str | SearchSpace,
    *,
    predictor: AccuracyPredictor | str | Path,
    lut: LatencyTable | str | Path,
    latency_ms: float,
    weights: str | Path | Mapping[str, torch.Tensor] | None = None,
    calibration: CalibrationImages | None = None,
    resolutions: Sequence[int] | None = None,
    seed: int = 0,
) -> Subnet:
    """Finds the most accurate sub-network within a latency budget, and takes it from the supernet.

    Args:
        space: A search space or its name.
        predictor: An accuracy predictor, or the file of one.
        lut: A latency table, its file, or the name of a bundled one.
        latency_ms: The budget, in milliseconds.
        weights: The supernet's checkpoint; without, the sub-network cannot be exported.
        calibration: Gives batches of training images (N, C, H, W) at a resolution, on which the
            sub-network's batch norms are calibrated; without, they keep the supernet's statistics,
            which costs accuracy.
        resolutions: Input resolutions to choose from; by default those the table covers.
        seed: Of the search; the same seed gives the same sub-network.

    Returns:
        The sub-network.

    Raises:
        SpecError: If the space, a resolution, the table's or the predictor's space is wrong.
        InfeasibleError: If no sub-network is as fast; it names the smallest reachable latency.
        TableError: If the table cannot be read or lacks rows.
        CheckpointError: If the weights or the predictor's file are damaged or of another network.
    """
    from ofa_hw.latency import load_table
    from ofa_hw.predictor import load_predictor

    space = get_space(space) if isinstance(space, str) else space
    table = load_table(lut) if isinstance(lut, str | Path) else lut
    if isinstance(predictor, str | Path):
        predictor = load_predictor(predictor, space=space)
    result = run_search(
        space,
        predictor=predictor,
        lut=table,
        latency_ms=latency_ms,
        resolutions=resolutions,
        seed=seed,
    )
    best = result.best
    module = None if weights is None else _extract(space, best.spec, weights, calibration)
    return Subnet(space, best.spec, best.top1, best.latency_ms, table.name, result, module)


def _extract(
    space: SearchSpace,
    spec: SubnetSpec,
    weights: str | Path | Mapping[str, torch.Tensor],
    calibration: CalibrationImages | None,
) -> nn.Module:
    from ofa_hw.supernet import calibrate_batch_norm, load_supernet

    module = load_supernet(space, weights=weights).extract(spec)
    if calibration is not None:
        calibrate_batch_norm(module, calibration(spec.resolution))
    return module.eval()
