"""MlpPredictor: a multi-layer perceptron over architecture features, run by numpy alone.

The predictor of once-for-all (https://arxiv.org/abs/1908.09791) has three hidden layers of 400.
"""

from __future__ import annotations

import itertools
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.predictor.features import FeatureLayout, feature_layout
from ofa_hw.spaces import Rows, SearchSpace, SubnetSpec, get_space

Array: TypeAlias = npt.NDArray[np.float32]

_FORMAT: Final = 1
_BATCH: Final = 1024  # activations of so many rows stay in the cache of a core


@dataclass(frozen=True, slots=True)
class FitReport:
    """How well a fitted predictor does on sub-networks that it has not seen.

    Attributes:
        fitted: Sub-networks it was fitted on.
        held_out: Sub-networks it was tested on.
        rmse: Root mean square error of the top-1 fraction.
        mae: Mean absolute error of the top-1 fraction.
        spearman: Rank correlation; nan where the labels do not differ.
        kendall: Rank correlation; nan where the labels do not differ.
        converged: Whether the fit stopped by itself.
        seed: Of the split and of the weights.
    """

    fitted: int
    held_out: int
    rmse: float
    mae: float
    spearman: float
    kendall: float
    converged: bool
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class MlpPredictor:
    """An `AccuracyPredictor` of linear layers with ReLU between them.

    Attributes:
        layout: How a sub-network becomes features; it carries the space.
        weights: (inputs, outputs) of each layer.
        biases: (outputs,) of each layer.
        source: Where it comes from.
        resolutions: The resolutions it was fitted on; for others it says nothing of worth.
        report: What it does on unseen sub-networks; None where nobody measured that.
    """

    layout: FeatureLayout
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    source: str
    resolutions: tuple[int, ...]
    report: FitReport | None = None

    def __post_init__(self) -> None:
        widths = [self.layout.width, *(len(bias) for bias in self.biases)]
        expected = list(itertools.pairwise(widths))
        if [weight.shape for weight in self.weights] != expected or widths[-1] != 1:
            shapes = ", ".join(str(weight.shape) for weight in self.weights)
            raise SpecError(f"layers of {shapes} do not lead from {widths[0]} features to one")

    @property
    def space(self) -> SearchSpace:
        """The space whose sub-networks it knows."""
        return self.layout.space

    def predict(self, specs: Sequence[SubnetSpec]) -> npt.NDArray[np.float64]:
        """Top-1 fractions, (n,).

        Raises:
            SpecError: If a sub-network is none of the space.
        """
        return self.predict_rows(self.space.encode(specs))

    def predict_rows(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The same for canonical rows (n, genes) of the space, which is faster."""
        top1 = np.empty(len(rows))
        for start in range(0, len(rows), _BATCH):
            x: Array = self.layout(rows[start : start + _BATCH])  # (batch, width)
            for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
                x = x @ weight
                x += bias
                np.maximum(x, 0, out=x)  # (batch, hidden)
            top1[start : start + _BATCH] = x @ self.weights[-1][:, 0] + self.biases[-1]
        return top1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a `.npz` that `load_predictor` reads without torch and scikit-learn."""
        path = Path(path)
        header = {
            "format": _FORMAT,
            "space": self.space.name,
            "choices": _choices(self.space),
            "layout": self.layout.name,
            "source": self.source,
            "resolutions": self.resolutions,
            "report": asdict(self.report) if self.report else None,
        }
        arrays = {"header": np.array(json.dumps(header))}
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays[f"weight_{index}"], arrays[f"bias_{index}"] = weight, bias
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def load_npz(path: Path, space: SearchSpace | None) -> MlpPredictor:
    """Reads what `MlpPredictor.save` wrote.

    Raises:
        CheckpointError: If the file is damaged or is something else.
        SpecError: If it belongs to another space than `space`.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        count = len(arrays) // 2
        weights = tuple(arrays[f"weight_{i}"].astype(np.float32) for i in range(count))
        biases = tuple(arrays[f"bias_{i}"].astype(np.float32) for i in range(count))
        version, name, choices = header["format"], header["space"], header["choices"]
        layout, source = header["layout"], header["source"]
        resolutions = tuple(int(value) for value in header["resolutions"])
        report = FitReport(**header["report"]) if header["report"] else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise _damaged(path, error) from error
    if version != _FORMAT:
        raise CheckpointError(
            f"{path} is a predictor of format {version!r}, and this version reads {_FORMAT}; "
            "save it again with the version that wrote it, or upgrade"
        )
    if space is not None and space.name != name:
        raise SpecError(
            f"{path} predicts sub-networks of {name}, not of {space.name}; "
            f"give the predictor of {space.name}, or search {name}"
        )
    space = space or get_space(name)
    if choices != _choices(space):
        raise SpecError(
            f"{path} was fitted on a space {name!r} with other choices than the one at hand; "
            "fit it again with fit_predictor"
        )
    try:
        return MlpPredictor(
            feature_layout(layout, space), weights, biases, source, resolutions, report
        )
    except SpecError as error:
        raise _damaged(path, error) from error


def _choices(space: SearchSpace) -> dict[str, list[int | float]]:
    return {gene.name: list(gene.choices) for gene in space.genes}


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is no predictor that ofa_hw wrote, or it is damaged ({error}); "
        "write it again with MlpPredictor.save"
    )
